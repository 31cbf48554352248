// What passes a network device, kept as the bytes that they are: in which a test looks for the words of its own frames.

import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, truncateSync } from 'node:fs'
import { eventually } from './eventually.ts'

export interface CaptureOptions {
  readonly device: string
  readonly path: string
  /** Of the device; the host's own otherwise. */
  readonly namespace?: string
}

export class Capture implements AsyncDisposable {
  readonly #path: string
  readonly #child: ChildProcess

  private constructor(path: string, child: ChildProcess) {
    this.#path = path
    this.#child = child
  }

  /** Resolves once it listens. */
  static async open({ device, path, namespace }: CaptureOptions): Promise<Capture> {
    const listen = ['socat', '-d', '-d', '-u', `INTERFACE:${device}`, `OPEN:${path},creat,append`]
    const command = namespace === undefined ? listen : ['ip', 'netns', 'exec', namespace, ...listen]
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...command], {
      stdio: ['ignore', 'ignore', 'pipe']
    })
    let said = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-4_096)
    })
    const capture = new Capture(path, child)
    await eventually(
      () => said.includes('starting data transfer loop') && existsSync(path),
      () => `a capture on ${device}: ${said}`
    )
    return capture
  }

  /** Forgets what it has seen. */
  forget(): void {
    truncateSync(this.#path)
  }

  saw(words: string): boolean {
    assert.equal(this.#child.exitCode ?? this.#child.signalCode, null, `the capture ${this.#path} has ended`)
    return readFileSync(this.#path).includes(words, 0, 'latin1')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const exited = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await exited
  }
}
