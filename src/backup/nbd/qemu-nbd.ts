// A qemu-nbd of our own for one image file: private socket, passphrase by descriptor, gone when we are.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, unlinkSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { HostletError } from '../../errors.ts'
import { type Clock, systemClock } from '../../lib/clock.ts'
import { startDeadline } from '../../lib/deadline.ts'
import { privateFileMode } from '../../lib/private-file.ts'
import { connectNbd, type NbdConnection } from './connection.ts'

export interface QemuNbdOptions {
  readonly file: string
  readonly format: 'raw' | 'qcow2'
  /** Of the LUKS inside a qcow2, as text; the export is then in clear. Absent for an image that is not encrypted. */
  readonly passphrase?: string
  /** False by default: the image is opened read-only. */
  readonly writable?: boolean
  /** A persistent bitmap of the image, to be exported beside the data. */
  readonly bitmap?: string
  /** Connections at a time besides the one that is held. */
  readonly clientsMax?: number
  /** Where the private directory is made; best memory. A crash may leave an empty `hostlet-nbd-…` there. */
  readonly directory?: string
  /** Aborts the start only. */
  readonly signal: AbortSignal
  readonly clock?: Clock
  /** For the start: LUKS with a long iteration time takes seconds. */
  readonly deadlineMs?: number
}

export interface QemuNbd extends AsyncDisposable {
  readonly socketPath: string
  readonly exportName: string
  /** Ends the process, surely, and removes the socket. Connections to it end with E_UNAVAILABLE. May be called again. */
  stop(): Promise<void>
}

const clientsMaxDefault = 8
const deadlineMsDefault = 30_000
const retryMs = 20
const graceMs = 5_000
const saidCharactersMax = 1_024
/** Longest path of a unix socket (`sun_path`), without its end. */
const socketPathBytesMax = 107
const passphraseDescriptor = 3

/**
 * Starts qemu-nbd on an image and waits until it answers. Throws E_UNAVAILABLE when it is not installed or ends (wrong passphrase,
 * an image in use, no such file: its own words are in the message), E_TIMEOUT, the signal's reason.
 *
 * Two things end it when this process dies in any way: the kernel sends it SIGKILL (`setpriv --pdeathsig`, bound to the thread that
 * started it, so start it from the main thread), and it leaves by itself once its last client has gone, one of which is held here.
 */
export async function startQemuNbd(options: QemuNbdOptions): Promise<QemuNbd> {
  const { signal, clock = systemClock, deadlineMs: ms = deadlineMsDefault } = options
  signal.throwIfAborted()
  const directory = mkdtempSync(join(options.directory ?? memoryDirectory(), 'hostlet-nbd-'))
  const server = new Server(directory, clock)
  try {
    using deadline = startDeadline({ clock, ms, what: 'the start of qemu-nbd', signal })
    await server.start(options, deadline.signal)
    return server
  } catch (error) {
    await server.stop()
    throw error
  }
}

class Server implements QemuNbd {
  readonly #directory: string
  readonly #clock: Clock
  #child: ChildProcess | undefined
  #held: NbdConnection | undefined
  #ended: Promise<unknown> = Promise.resolve()
  #isOver = false
  #said = ''
  readonly socketPath: string
  readonly exportName = ''

  constructor(directory: string, clock: Clock) {
    this.#directory = directory
    this.#clock = clock
    this.socketPath = join(directory, 'nbd.socket')
  }

  async start(options: QemuNbdOptions, signal: AbortSignal): Promise<void> {
    if (Buffer.byteLength(this.socketPath) > socketPathBytesMax)
      throw new HostletError('E_BAD_REQUEST', `${this.socketPath} is too long for the path of a socket`)
    this.#spawn(options)
    while (this.#held === undefined) {
      if (this.#isOver) throw this.#startFailure(options.file)
      this.#held = await this.#tryToConnect(signal)
    }
  }

  async stop(): Promise<void> {
    await this.#held?.close()
    if (this.#child !== undefined && !this.#isOver) await this.#end(this.#child)
    rmSync(this.#directory, { recursive: true, force: true })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  #spawn(options: QemuNbdOptions): void {
    const { passphrase } = options
    const secret = passphrase === undefined ? 'ignore' : this.#writeSecret(passphrase)
    try {
      const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'qemu-nbd', ...this.#arguments(options)], {
        cwd: '/',
        env: { PATH: process.env.PATH ?? '', LC_ALL: 'C.UTF-8' },
        stdio: ['ignore', 'ignore', 'pipe', secret]
      })
      this.#child = child
      this.#ended = this.#follow(child)
    } finally {
      if (secret !== 'ignore') closeSync(secret)
    }
  }

  /** A file that has lost its name before anyone else could open it; the child reads it through its descriptor. */
  #writeSecret(passphrase: string): number {
    const path = join(this.#directory, 'passphrase')
    const descriptor = openSync(path, 'wx+', privateFileMode)
    unlinkSync(path)
    writeSync(descriptor, passphrase)
    return descriptor
  }

  #arguments(options: QemuNbdOptions): string[] {
    const { writable = false, bitmap, clientsMax = clientsMaxDefault, passphrase } = options
    const secret = `secret,id=passphrase,file=/proc/self/fd/${passphraseDescriptor}`
    return [
      ...['--socket', this.socketPath, '--shared', String(clientsMax + 1)],
      ...(writable ? [] : ['--read-only']),
      ...(bitmap === undefined ? [] : ['--bitmap', bitmap]),
      ...(passphrase === undefined ? [] : ['--object', secret]),
      imageReference(options)
    ]
  }

  async #follow(child: ChildProcess): Promise<void> {
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#said = (this.#said + text).slice(-saidCharactersMax)
    })
    try {
      await once(child, 'close')
    } catch (cause) {
      // It could not be started at all.
      this.#said = cause instanceof Error ? cause.message : 'unknown'
    }
    this.#isOver = true
  }

  async #tryToConnect(signal: AbortSignal): Promise<NbdConnection | undefined> {
    try {
      const { socketPath, exportName } = this
      return await connectNbd({ socketPath, exportName, signal, clock: this.#clock })
    } catch (error) {
      if (signal.aborted) throw signal.reason
      if (!(error instanceof HostletError && error.code === 'E_UNAVAILABLE')) throw error
    }
    await this.#clock.sleep(retryMs, signal)
    return undefined
  }

  #startFailure(file: string): HostletError {
    const words = this.#said.trim() || 'it ended without a word'
    return new HostletError('E_UNAVAILABLE', `qemu-nbd does not serve ${file}: ${words}`, {
      details: { file }
    })
  }

  async #end(child: ChildProcess): Promise<void> {
    child.kill('SIGTERM')
    using _timer = this.#clock.timer(graceMs, () => void child.kill('SIGKILL'))
    await this.#ended
  }
}

function memoryDirectory(): string {
  return existsSync('/dev/shm') ? '/dev/shm' : tmpdir()
}

/** As JSON, in which no file name needs escapes of QEMU's own. */
function imageReference({ file, format, passphrase }: QemuNbdOptions): string {
  const encrypt = passphrase === undefined ? {} : { encrypt: { format: 'luks', 'key-secret': 'passphrase' } }
  const image = { driver: format, file: { driver: 'file', filename: resolve(file) }, ...encrypt }
  return `json:${JSON.stringify(image)}`
}
