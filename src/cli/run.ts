// From the words of the command line to an exit status: finds the command, loads it, and tells every error the same way.

import { CommanderError } from 'commander'
import { asHostletError, errorCodes, type HostletError } from '../errors.ts'
import { Cli, Interrupted } from './cli.ts'
import { interruptedExitCode } from './exit-codes.ts'
import { ExitStatus } from './exit-status.ts'
import { nextStep } from './next-step.ts'
import { buildProgram, isNamedBy } from './program.ts'
import { plain } from './table.ts'

/** What the completion of a shell asks by: no command for people. */
const completionWord = '__complete'

/** Runs one command. Resolves with the exit status; never rejects. */
export async function run(words: readonly string[], cli: Cli = new Cli()): Promise<number> {
  try {
    if (words[0] === completionWord) return await printCandidates(words.slice(1), cli)
    const program = await buildProgram(cli, isNamedBy(words))
    await program.parseAsync([...words], { from: 'user' })
    return cli.exitStatus
  } catch (thrown) {
    return tell(thrown, cli)
  }
}

async function printCandidates(words: readonly string[], cli: Cli): Promise<number> {
  const { candidates } = await import('./completion/candidates.ts')
  for (const { value, description } of await candidates(words, cli))
    cli.print(description === undefined ? value : `${value}\t${plain(description)}`)
  return 0
}

function tell(thrown: unknown, cli: Cli): number {
  if (thrown instanceof Interrupted) return interruptedExitCode
  if (thrown instanceof CommanderError) return tellUsage(thrown, cli)
  if (thrown instanceof ExitStatus) {
    tellError(thrown.error, cli)
    return thrown.status
  }
  const error = asHostletError(thrown)
  tellError(error, cli)
  return errorCodes[error.code].exitCode
}

function tellUsage(error: CommanderError, cli: Cli): number {
  if (error.exitCode === 0) return 0
  // commander asks for help where a group was named without a command.
  if (error.code === 'commander.help') {
    cli.note('error E_BAD_REQUEST: no command given.')
  } else {
    const [first = '', ...rest] = error.message.replace(/^error: /, '').split('\n')
    const hint = rest
      .map((line) => line.replace(/^\(Did you mean (.*)\?\)$/, '(did you mean "$1"?)'))
      .join(' ')
    cli.note(
      plain(`error E_BAD_REQUEST: ${first}${hint === '' ? '' : ` ${hint}`}`),
      'next: hostlet --help, or --help after the command'
    )
  }
  return errorCodes.E_BAD_REQUEST.exitCode
}

function tellError(error: HostletError, cli: Cli): void {
  if (cli.format === 'json') {
    cli.note(JSON.stringify({ error: error.toReport() }))
    return
  }
  // A configuration may have several faults, a line each.
  const [first = '', ...rest] = error.message.split('\n')
  cli.note(`error ${error.code}: ${plain(first)}`, ...rest.map((line) => `  ${plain(line)}`))
  const next = nextStep(error)
  if (next !== undefined) cli.note(`next: ${next}`)
  if (error.code === 'E_INTERNAL' && error.cause instanceof Error && cli.environment.HOSTLET_DEBUG)
    cli.note(error.cause.stack ?? '')
}
