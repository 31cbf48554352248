// A real S3 service for tests: Ceph's gateway with one monitor and one store in memory, all of it in one temporary directory.

import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { appendFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { mustRun } from '../../src/lib/run-process.ts'

const programs = [
  'ceph-mon',
  'ceph-osd',
  'radosgw',
  'radosgw-admin',
  'ceph-authtool',
  'monmaptool',
  'osdmaptool'
]
const startMsMax = 60_000
const pollMs = 50
/** Memory that the objects of a test run may take. */
const storeBytes = 2 * 1024 ** 3

/** Why S3 tests cannot run here, or false. For `skip`. */
export const radosgwMissing: string | false = programs.every((program) => existsSync(`/usr/bin/${program}`))
  ? false
  : 'the packages radosgw, ceph-mon and ceph-osd are not installed (scripts/setup.sh does it)'

export interface Radosgw extends AsyncDisposable {
  readonly endpoint: string
  readonly port: number
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string }
  /** Kills the gateway; what it stores stays. */
  kill(): Promise<void>
  /** After `kill`. Resolves when it accepts connections. */
  restart(): Promise<void>
  /** It stands still, and its clients wait; until `goOn`. */
  freeze(): void
  goOn(): void
}

/**
 * Starts the service; about six seconds. Keys and the map of the one disk are made before anything runs, so that nothing
 * waits for a cluster to form. The daemons die with this process, whatever ends it.
 */
export async function startRadosgw(): Promise<Radosgw> {
  const directory = await mkdtemp(join(tmpdir(), 'hl-t-rgw-'))
  const [monitorPort, port] = await freePorts(2)
  const daemons: ChildProcess[] = []
  const stop = async () => {
    await Promise.all(daemons.reverse().map(end))
    await rm(directory, { recursive: true, force: true })
  }
  const credentials = { accessKeyId: 'AKIATESTTESTTESTTEST', secretAccessKey: randomUUID() + randomUUID() }
  try {
    const files = await prepare(directory, { monitorPort, port })
    daemons.push(daemon(files, 'ceph-mon', ['-i', 'a']), daemon(files, 'ceph-osd', ['-i', '0']))
    await addUser(files, credentials)
    let gateway = daemon(files, 'radosgw', ['-n', 'client.rgw'])
    daemons.push(gateway)
    await listening(port)
    return {
      endpoint: `http://127.0.0.1:${port}`,
      port,
      credentials,
      kill: () => end(gateway),
      restart: async () => {
        gateway = daemon(files, 'radosgw', ['-n', 'client.rgw'])
        daemons.push(gateway)
        await listening(port)
      },
      freeze: () => void gateway.kill('SIGSTOP'),
      goOn: () => void gateway.kill('SIGCONT'),
      [Symbol.asyncDispose]: stop
    }
  } catch (error) {
    await stop()
    throw error
  }
}

interface Files {
  readonly directory: string
  readonly config: string
}

async function prepare(
  directory: string,
  { monitorPort, port }: { monitorPort: number; port: number }
): Promise<Files> {
  const cluster = randomUUID()
  const config = join(directory, 'ceph.conf')
  await writeFile(config, configText({ directory, cluster, monitorPort, port }))
  await mkdir(join(directory, 'mon'))
  await mkdir(join(directory, 'osd'))
  const keyring = join(directory, 'keyring')
  for (const [name, capabilities] of Object.entries(capabilitiesByName)) {
    const caps = Object.entries(capabilities).flatMap(([daemon, value]) => ['--cap', daemon, value])
    const create = name === 'mon.' ? ['--create-keyring'] : []
    await run('ceph-authtool', [...create, keyring, '--gen-key', '-n', name, ...caps])
  }
  const monitors = join(directory, 'monmap')
  const address = `[v2:127.0.0.1:${monitorPort}]`
  await run('monmaptool', ['--create', '--fsid', cluster, '--addv', 'a', address, monitors])
  const disks = join(directory, 'osdmap')
  await run('osdmaptool', ['--createsimple', '1', disks])
  const maps = ['--monmap', monitors, '--osdmap', disks, '--keyring', keyring]
  await run('ceph-mon', ['-c', config, '--mkfs', '-i', 'a', ...maps])
  // Without this option it waits for a monitor that does not run yet.
  await run('ceph-osd', ['-c', config, '--mkfs', '-i', '0', '--no-mon-config', '--osd-uuid', randomUUID()])
  return { directory, config }
}

const all = 'allow *'
const capabilitiesByName: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'mon.': { mon: all },
  'osd.0': { mon: 'allow profile osd', osd: all, mgr: 'allow profile osd' },
  'client.rgw': { mon: all, osd: all, mgr: all }
}

function configText(options: {
  directory: string
  cluster: string
  monitorPort: number
  port: number
}): string {
  const { directory, cluster, monitorPort, port } = options
  const global = {
    fsid: cluster,
    'mon host': `v2:127.0.0.1:${monitorPort}/0`,
    'public addr': '127.0.0.1',
    'cluster addr': '127.0.0.1',
    'ms bind ipv6': false,
    // With authentication switched off the gateway hangs at its start.
    'auth cluster required': 'cephx',
    'auth service required': 'cephx',
    'auth client required': 'cephx',
    'auth allow insecure global id reclaim': false,
    keyring: join(directory, 'keyring'),
    'run dir': directory,
    'crash dir': directory,
    'admin socket': '',
    'log file': join(directory, '$name.log'),
    'osd pool default size': 1,
    'osd pool default min size': 1,
    'osd pool default pg num': 1,
    'osd pool default pgp num': 1,
    'osd pool default pg autoscale mode': 'off',
    'osd crush chooseleaf type': 0,
    'osd objectstore': 'memstore',
    'memstore device bytes': storeBytes,
    'mon allow pool size one': true,
    'mon max pg per osd': 1_000,
    'mon data avail warn': 1,
    'mon data avail crit': 0,
    // Each pool that the gateway makes waits for this several times.
    'paxos propose interval': 0.02,
    'paxos min wait': 0.01
  }
  return [
    section('global', global),
    section('mon.a', { 'mon data': join(directory, 'mon') }),
    section('osd.0', { 'osd data': join(directory, 'osd') }),
    section('client.rgw', {
      'rgw frontends': `beast endpoint=127.0.0.1:${port}`,
      'rgw thread pool size': 32,
      'rgw enable usage log': false
    })
  ].join('\n')
}

function section(name: string, settings: Readonly<Record<string, string | number | boolean>>): string {
  return [`[${name}]`, ...Object.entries(settings).map(([key, value]) => `${key} = ${value}`), ''].join('\n')
}

async function addUser({ config }: Files, credentials: Radosgw['credentials']): Promise<void> {
  const keys = [`--access-key=${credentials.accessKeyId}`, `--secret-key=${credentials.secretAccessKey}`]
  await run('radosgw-admin', [
    '-c',
    config,
    '-n',
    'client.rgw',
    'user',
    'create',
    '--uid=test',
    '--display-name=test',
    ...keys
  ])
}

/** setpriv: the kernel kills the daemon when this process ends without having done so. */
function daemon({ directory, config }: Files, program: string, args: readonly string[]): ChildProcess {
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', program, '-c', config, ...args, '-f'], {
    stdio: ['ignore', 'pipe', 'pipe']
  })
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (text: Buffer) =>
      appendFile(join(directory, `${program}.out`), text).catch(() => undefined)
    )
  return child
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise((resolve) => child.once('exit', resolve))
  // Nothing of it is to be kept, so nothing needs an orderly end.
  child.kill('SIGKILL')
  await ended
}

async function run(program: string, args: readonly string[]): Promise<void> {
  await mustRun(program, args, { signal: new AbortController().signal, deadlineMs: startMsMax })
}

async function listening(port: number): Promise<void> {
  const giveUpAt = performance.now() + startMsMax
  while (!(await accepts(port))) {
    if (performance.now() > giveUpAt) throw new Error('the gateway did not start')
    await sleep(pollMs)
  }
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    const answer = (is: boolean) => {
      socket.destroy()
      resolve(is)
    }
    socket.once('connect', () => answer(true)).once('error', () => answer(false))
  })
}

async function freePorts(count: 2): Promise<[number, number]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'))
  await Promise.all(servers.map((server) => new Promise((resolve) => server.once('listening', resolve))))
  const ports = servers.map((server) => Object(server.address()).port as number)
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return [ports[0] ?? 0, ports[1] ?? 0]
}
