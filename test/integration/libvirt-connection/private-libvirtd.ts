/** PrivateLibvirtd: a daemon of its own that a test may freeze and kill, beside the machine's libvirtd. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, chown, cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import {
  type Connection,
  ConnectionError,
  type ConnectOptions,
  connect
} from '../../../src/node-libvirt/index.ts'

/** As root libvirtd would be the system's; as nobody it is a session of its own. */
const NOBODY = 65_534
const START_ATTEMPTS_MAX = 100
const START_PAUSE_MS = 100

export class PrivateLibvirtd implements AsyncDisposable {
  readonly #directory: string
  readonly #isSystem: boolean
  readonly #mounts: string
  readonly #ownNetwork: boolean
  #process: ChildProcess

  private constructor(directory: string, { isSystem = false, mounts = '', ownNetwork = true } = {}) {
    this.#directory = directory
    this.#isSystem = isSystem
    this.#mounts = mounts
    this.#ownNetwork = ownNetwork
    this.#process = this.#spawn()
  }

  /** `config` is the content of its libvirtd.conf. */
  static async start(config = ''): Promise<PrivateLibvirtd> {
    const directory = await mkdtemp(join(tmpdir(), 'hl-t-libvirtd-'))
    await writeFile(configPath(directory), config)
    await chown(directory, NOBODY, NOBODY)
    const daemon = new PrivateLibvirtd(directory)
    await (await daemon.connect()).close()
    return daemon
  }

  /**
   * As root, with QEMU's system driver, in mount and network namespaces of its own. `mounts` are lines of a shell that runs
   * there after libvirt's directories are; `parent` is where what would be in /etc, /var and /run lies; `qemuConfig` is
   * added to its qemu.conf. Without `ownNetwork` its bridges are this machine's, for tests that speak with guests.
   */
  static async startSystem({
    parent = tmpdir(),
    mounts = '',
    qemuConfig = '',
    ownNetwork = true
  } = {}): Promise<PrivateLibvirtd> {
    const directory = await mkdtemp(join(parent, 'hl-t-libvirtd-'))
    await chmod(directory, 0o711)
    for (const name of ['libvirt', 'lib/dnsmasq', 'log', 'run', 'etc/qemu/networks'])
      await mkdir(join(directory, name), { recursive: true })
    // What the machine's libvirtd has found out about QEMU: asking QEMU anew takes seconds.
    await cp('/var/cache/libvirt', join(directory, 'cache'), { recursive: true }).catch(() => undefined)
    await mkdir(join(directory, 'cache'), { recursive: true })
    const socket = `unix_sock_dir = "${join(directory, 'libvirt')}"\nauth_unix_rw = "none"\n`
    await writeFile(configPath(directory), socket)
    const settings = `stdio_handler = "file"
cgroup_controllers = []
${qemuConfig}`
    await writeFile(join(directory, 'etc', 'qemu.conf'), settings)
    const daemon = new PrivateLibvirtd(directory, { isSystem: true, mounts, ownNetwork })
    await (await daemon.connect()).close()
    return daemon
  }

  /** Where what it takes for /etc, /var and /run lies. */
  get directory(): string {
    return this.#directory
  }

  /** Its process, which the kernel lets root see the files of as it sees them: /proc/PID/root. */
  get pid(): number | undefined {
    return this.#process.pid
  }

  get uri(): string {
    return `${this.#isSystem ? 'qemu:///system' : 'test:///default'}?socket=${this.socket}`
  }

  get socket(): string {
    return join(this.#directory, 'libvirt', 'libvirt-sock')
  }

  /** Connects, waiting for the daemon if it is starting. */
  async connect(options: ConnectOptions = {}): Promise<Connection> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await connect(this.uri, options)
      } catch (error) {
        const starting = error instanceof ConnectionError && error.code === 'E_UNAVAILABLE'
        if (!starting || attempt === START_ATTEMPTS_MAX) throw error
        await delay(START_PAUSE_MS)
      }
    }
  }

  freeze(): void {
    this.#process.kill('SIGSTOP')
  }

  thaw(): void {
    this.#process.kill('SIGCONT')
  }

  async kill(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return
    const exited = once(this.#process, 'exit')
    this.#process.kill('SIGKILL')
    await exited
  }

  /** As a service manager stops it: asked to end, and killed when it has not in time. */
  async stop(withinMs: number): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return
    const exited = once(this.#process, 'exit')
    this.#process.kill('SIGTERM')
    const late = setTimeout(() => this.#process.kill('SIGKILL'), withinMs)
    await exited
    clearTimeout(late)
  }

  restart(): void {
    this.#process = this.#spawn()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill()
    await rm(this.#directory, { recursive: true, force: true })
  }

  #spawn(): ChildProcess {
    const directory = this.#directory
    if (this.#isSystem) return spawnSystem(directory, { more: this.#mounts, ownNetwork: this.#ownNetwork })
    return spawn('libvirtd', ['--config', configPath(directory)], {
      uid: NOBODY,
      gid: NOBODY,
      cwd: '/',
      stdio: 'ignore',
      env: { PATH: process.env.PATH, HOME: directory, XDG_RUNTIME_DIR: directory }
    })
  }
}

/** Everything is replaced by exec, so that the process that is begun is libvirtd itself. */
function spawnSystem(
  directory: string,
  { more, ownNetwork }: { more: string; ownNetwork: boolean }
): ChildProcess {
  const mounts = ['etc', 'lib', 'cache', 'log'].map(
    (name) =>
      `mount --bind ${directory}/${name} ${{ etc: '/etc', lib: '/var/lib' }[name] ?? `/var/${name}`}/libvirt`
  )
  const script = [
    'set -e',
    'mount --make-rprivate /',
    ...mounts,
    more,
    // Kept over a restart: what libvirtd knows of machines that run.
    `mount --bind ${directory}/run /run/libvirt`,
    ...(ownNetwork ? ['mount -t sysfs sysfs /sys', 'ip link set lo up'] : []),
    `exec libvirtd --config ${configPath(directory)} --pid-file ${directory}/pid`
  ]
  const namespaces = ['--mount', ...(ownNetwork ? ['--net'] : [])]
  const words = ['--pdeathsig', 'KILL', 'unshare', ...namespaces, 'sh', '-c', script.join('\n')]
  return spawn('setpriv', words, { stdio: 'ignore' })
}

function configPath(directory: string): string {
  return join(directory, 'libvirtd.conf')
}
