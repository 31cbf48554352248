// One child process that goes on until told to end: scheduler or agent, by the command that a unit would run.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync } from 'node:fs'
import type { Settings } from './settings.ts'

const endPatienceMs = 20_000
const lastWordsCharacters = 400

export class Daemon {
  readonly #name: string
  readonly #log: string
  readonly #child: ChildProcess
  readonly #ended: Promise<unknown>

  /** @param words the command of `hostlet` with its arguments. */
  constructor(settings: Settings, name: string, words: readonly string[]) {
    this.#name = name
    this.#log = `${settings.logDirectory}/${name}.log`
    const log = openSync(this.#log, 'a')
    // A process group of its own: Ctrl-C is for us alone, who end it when its VMs are gone.
    this.#child = spawn(settings.node, [settings.main, ...words], {
      detached: true,
      stdio: ['ignore', log, log],
      env: { PATH: process.env.PATH, HOME: settings.directory, HOSTLET_LOG_FORMAT: 'json' }
    })
    closeSync(log)
    this.#ended = once(this.#child, 'exit')
    this.#ended.catch(() => undefined)
  }

  /** Throws with its last words when it has ended by itself. */
  assertRuns(): void {
    const { exitCode, signalCode } = this.#child
    if (exitCode === null && signalCode === null) return
    throw new Error(`the ${this.#name} ended (${signalCode ?? `status ${exitCode}`}): ${this.#lastWords()}`)
  }

  async end(): Promise<void> {
    const { exitCode, signalCode } = this.#child
    if (exitCode !== null || signalCode !== null) return
    this.#child.kill('SIGTERM')
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), endPatienceMs)
    await this.#ended
    clearTimeout(timer)
  }

  #lastWords(): string {
    const text = readFileSync(this.#log, 'utf8').trimEnd()
    const last = text.slice(text.lastIndexOf('\n') + 1)
    return readable(last).slice(0, lastWordsCharacters) || 'it said nothing'
  }
}

/** A log entry as its message and its error's, any other line as it is. */
function readable(line: string): string {
  try {
    const { message, error } = JSON.parse(line) as { message?: string; error?: { message?: string } }
    return [message, error?.message].filter((part) => part !== undefined).join(': ')
  } catch {
    return line
  }
}
