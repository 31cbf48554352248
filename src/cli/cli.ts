// What every command is given: the streams, the environment, how to print, and Ctrl-C as a signal.

import { stripVTControlCharacters } from 'node:util'
import type { Command, Option } from 'commander'
import type { Clock } from '../lib/clock.ts'
import { systemClock } from '../lib/clock.ts'

export const outputFormats = ['table', 'json'] as const
export type OutputFormat = (typeof outputFormats)[number]

/** The option by which people and programs say how they want the answer. */
export function outputOption(command: Command): Option {
  return command
    .createOption('-o, --output <format>', 'table for people, json for programs')
    .choices(outputFormats)
    .default('table')
}

/** Columns of a line when the terminal does not say. */
const terminalColumnsDefault = 80

export class Cli {
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly clock: Clock
  readonly #stdout: NodeJS.WriteStream
  readonly #stderr: NodeJS.WriteStream
  /** Set by the options of the command, so that errors are told in the same form as results. */
  format: OutputFormat = 'table'
  /** Of a command that did what it should and has bad news nevertheless. */
  exitStatus = 0

  constructor(
    options: {
      environment?: Readonly<Record<string, string | undefined>>
      stdout?: NodeJS.WriteStream
      stderr?: NodeJS.WriteStream
      clock?: Clock
    } = {}
  ) {
    this.environment = options.environment ?? process.env
    this.#stdout = options.stdout ?? process.stdout
    this.#stderr = options.stderr ?? process.stderr
    this.clock = options.clock ?? systemClock
  }

  /** Whether results go to a person's terminal. */
  get terminal(): boolean {
    return this.#stdout.isTTY === true
  }

  /** Whether notes and progress go to a person's terminal. */
  get noteTerminal(): boolean {
    return this.#stderr.isTTY === true
  }

  get colour(): boolean {
    return this.#stdout.hasColors?.(16, { ...this.environment }) === true
  }

  /** Columns to fit into; undefined where nothing should be cut. */
  get width(): number | undefined {
    return this.terminal ? this.#stdout.columns || terminalColumnsDefault : undefined
  }

  get rows(): number {
    return this.#stdout.rows || 24
  }

  get noteWidth(): number {
    return this.#stderr.columns || terminalColumnsDefault
  }

  /** Results: what a program may read. */
  print(...lines: readonly string[]): void {
    for (const line of lines) this.#stdout.write(`${line}\n`)
  }

  /** The value as JSON, or as lines for people, as the command's `--output` says. */
  show(value: unknown, lines: () => readonly string[]): void {
    if (this.format === 'json') this.print(JSON.stringify(value, null, 2))
    else this.print(...lines())
  }

  /** Progress and hints: never part of the result. */
  note(...lines: readonly string[]): void {
    for (const line of lines) this.#stderr.write(`${line}\n`)
  }

  writeNote(text: string): void {
    this.#stderr.write(this.noteTerminal ? text : stripVTControlCharacters(text))
  }

  write(text: string): void {
    this.#stdout.write(text)
  }

  /** Runs with a signal that Ctrl-C and SIGTERM abort; a second Ctrl-C ends the process as if nobody listened. */
  async interruptible<Value>(run: (signal: AbortSignal) => Promise<Value>): Promise<Value> {
    const controller = new AbortController()
    const abort = () => {
      process.off('SIGINT', abort)
      process.off('SIGTERM', abort)
      controller.abort(new Interrupted())
    }
    process.on('SIGINT', abort)
    process.on('SIGTERM', abort)
    try {
      return await run(controller.signal)
    } finally {
      process.off('SIGINT', abort)
      process.off('SIGTERM', abort)
    }
  }
}

/** The person pressed Ctrl-C: not an error, but an end with a status of its own. */
export class Interrupted extends Error {
  constructor() {
    super('interrupted')
    this.name = 'Interrupted'
  }
}
