// A libvirtd of the bench's own: other domains, networks and pools of the machine neither disturb it nor are touched by it.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect } from 'node-libvirt'
import { NotRun } from '../harness.ts'

const START_DEADLINE_MS = 30_000
const RETRY_MS = 100
/** What libvirtd has found out about QEMU: without it the first start of a domain asks QEMU again, for seconds. */
const capabilitiesCache = '/var/cache/libvirt'

export interface PrivateLibvirtd extends AsyncDisposable {
  /** For node-libvirt and for the agent. */
  readonly socket: string
  readonly uri: string
  /** For virsh. */
  readonly virshUri: string
  /** Of the bench's files; QEMU's users may pass through it. Removed at the end. */
  readonly directory: string
}

/**
 * Runs in mount, network and process namespaces of its own, with tini as their first process: killing that ends QEMU and
 * dnsmasq with it. Throws NotRun where that cannot be done.
 */
export async function startLibvirtd(): Promise<PrivateLibvirtd> {
  requireRoot()
  const directory = mkdtempSync(join(tmpdir(), 'hostlet-bench-'))
  chmodSync(directory, 0o711)
  const child = spawnDaemon(prepare(directory), directory)
  const socket = join(directory, 'run/libvirt-sock')
  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    rmSync(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: RETRY_MS })
  }
  const uri = 'qemu:///system'
  try {
    await answers(`${uri}?socket=${socket}`, child)
  } catch (error) {
    await stop()
    throw error
  }
  return {
    ...{ socket, uri, directory },
    virshUri: `qemu+unix:///system?socket=${socket}`,
    [Symbol.asyncDispose]: stop
  }
}

function requireRoot(): void {
  if (process.getuid?.() !== 0) throw new NotRun('it needs root, for a libvirtd of its own')
  const missing = ['/usr/bin/unshare', '/usr/sbin/libvirtd', '/usr/bin/tini'].find(
    (path) => !existsSync(path)
  )
  if (missing !== undefined) throw new NotRun(`${missing} is missing; "sh scripts/setup.sh" installs it`)
}

function prepare(directory: string): string {
  for (const name of ['run', 'lib/dnsmasq', 'log', 'cache', 'etc/qemu/networks']) {
    mkdirSync(join(directory, name), { recursive: true })
  }
  if (existsSync(capabilitiesCache)) cpSync(capabilitiesCache, join(directory, 'cache'), { recursive: true })
  const socket = `unix_sock_dir = "${directory}/run"\nunix_sock_rw_perms = "0700"\n`
  writeFileSync(
    join(directory, 'etc/libvirtd.conf'),
    `${socket}auth_unix_rw = "none"\nauth_unix_ro = "none"\nlog_outputs = "3:stderr"\n`
  )
  // QEMU's output goes to a file by itself: the machine's virtlogd is not ours to use. Nor are its control groups, which
  // would outlive the namespaces.
  writeFileSync(join(directory, 'etc/qemu.conf'), 'stdio_handler = "file"\ncgroup_controllers = []\n')
  return `set -e
mount --make-rprivate /
mount --bind ${directory}/etc /etc/libvirt
mount --bind ${directory}/lib /var/lib/libvirt
mount --bind ${directory}/cache /var/cache/libvirt
mount --bind ${directory}/log /var/log/libvirt
mount -t tmpfs -o mode=755 tmpfs /run/libvirt
mount -t sysfs sysfs /sys
ip link set lo up
exec tini -s -- libvirtd --config /etc/libvirt/libvirtd.conf --pid-file ${directory}/run/pid`
}

function spawnDaemon(script: string, directory: string): ChildProcess {
  const log = openSync(join(directory, 'log/libvirtd.log'), 'w')
  const namespaces = ['--mount', '--net', '--pid', '--fork', '--kill-child', '--mount-proc']
  // Ends with this process, however that ends.
  return spawn('setpriv', ['--pdeathsig', 'KILL', 'unshare', ...namespaces, 'sh', '-c', script], {
    stdio: ['ignore', log, log]
  })
}

async function answers(uri: string, child: ChildProcess): Promise<void> {
  const deadline = performance.now() + START_DEADLINE_MS
  let last: unknown
  while (performance.now() < deadline && child.exitCode === null) {
    try {
      await using _connection = await connect(uri)
      return
    } catch (error) {
      last = error
      await sleep(RETRY_MS)
    }
  }
  throw new NotRun(`a libvirtd of its own does not start here (${last})`)
}
