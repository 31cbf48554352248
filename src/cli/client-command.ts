// What commands that ask the scheduler have in common: its options, a client for as long as they run, Ctrl-C.

import type { Command } from 'commander'
import { ApiClient } from './api-client.ts'
import type { Cli } from './cli.ts'
import { type ConnectionOptions, connectionOptions, findConnection } from './connection.ts'
import { formatDuration } from './quantities.ts'

export interface Session {
  readonly cli: Cli
  readonly client: ApiClient
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal
}

/** What commander hands over for one argument: a word, all the words of the last one, or nothing for one that may be left out. */
export type Argument = string | undefined | readonly string[]

export interface Given<Options, Arguments extends readonly Argument[]> {
  readonly options: Options
  readonly arguments: Arguments
}

/**
 * Adds the connection's options, and the action with the command's own ones typed by the caller. `before` runs ahead of
 * any connection, for what can be refused or answered without one; `true` ends the command there.
 */
export function clientCommand<Options, Arguments extends readonly Argument[] = readonly string[]>(
  command: Command,
  cli: Cli,
  run: (session: Session, given: Given<Options, Arguments>) => Promise<void>,
  before: (given: Given<Options, Arguments>) => boolean = () => false
): Command {
  return connectionOptions(command).action(async (...all: unknown[]) => {
    // commander hands over the arguments, then the options, then the command itself.
    const options = all.at(-2) as Options & ConnectionOptions
    const given = { options, arguments: all.slice(0, -2) as unknown as Arguments }
    cli.format = options.output ?? 'table'
    if (before(given)) return
    using client = new ApiClient(await findConnection(cli, options))
    try {
      await cli.interruptible((signal) => run({ cli, client, signal }, given))
    } finally {
      warnOfEnd(cli, client)
    }
  })
}

function warnOfEnd(cli: Cli, { keyExpiresAt: at }: ApiClient): void {
  if (at === undefined || cli.format === 'json') return
  cli.note(
    `warning: your API key ends in ${formatDuration(Math.max(0, at - cli.clock.now()))}. Have an admin run: hostlet key rotate ID`
  )
}

/** Lines under the options of `--help`. */
export function examples(command: Command, ...lines: readonly string[]): Command {
  return command.addHelpText('after', `\nExamples:\n${lines.map((line) => `  ${line}`).join('\n')}`)
}
