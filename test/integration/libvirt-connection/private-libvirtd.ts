/** PrivateLibvirtd: a session daemon of its own that a test may freeze and kill, beside the machine's libvirtd. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chown, mkdtemp, rm, writeFile } from 'node:fs/promises'
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
  #process: ChildProcess

  private constructor(directory: string) {
    this.#directory = directory
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

  get uri(): string {
    return `test:///default?socket=${join(this.#directory, 'libvirt', 'libvirt-sock')}`
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

  restart(): void {
    this.#process = this.#spawn()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill()
    await rm(this.#directory, { recursive: true, force: true })
  }

  #spawn(): ChildProcess {
    const directory = this.#directory
    return spawn('libvirtd', ['--config', configPath(directory)], {
      uid: NOBODY,
      gid: NOBODY,
      cwd: '/',
      stdio: 'ignore',
      env: { PATH: process.env.PATH, HOME: directory, XDG_RUNTIME_DIR: directory }
    })
  }
}

function configPath(directory: string): string {
  return join(directory, 'libvirtd.conf')
}
