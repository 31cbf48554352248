// From the words of the command line to an exit status: finds the command, loads it, and tells every error the same way.

import { CommanderError } from 'commander'
import { asHostletError, errorCodes, type HostletError } from '../errors.ts'
import { Cli, Interrupted } from './cli.ts'
import { commands, groups } from './commands.ts'
import { interruptedExitCode, planExitCodes } from './exit-codes.ts'
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
    const status = tell(thrown, words, cli)
    return isPlanning(words) && status !== interruptedExitCode
      ? Math.min(status, planExitCodes.refused)
      : status
  }
}

async function printCandidates(words: readonly string[], cli: Cli): Promise<number> {
  const { candidates } = await import('./completion/candidates.ts')
  for (const { value, description } of await candidates(words, cli))
    cli.print(description === undefined ? value : `${value}\t${plain(description)}`)
  return 0
}

/** What only looks for what would change has statuses of its own, in which no error may look like a change. */
function isPlanning(words: readonly string[]): boolean {
  const options = words.includes('--') ? words.slice(0, words.indexOf('--')) : words
  return words[0] === 'diff' || options.includes('--dry-run')
}

function tell(thrown: unknown, words: readonly string[], cli: Cli): number {
  if (thrown instanceof Interrupted) return interruptedExitCode
  if (thrown instanceof CommanderError) return tellUsage(thrown, words, cli)
  if (thrown instanceof ExitStatus) {
    tellError(thrown.error, cli)
    return thrown.status
  }
  const error = asHostletError(thrown)
  tellError(error, cli)
  return errorCodes[error.code].exitCode
}

function tellUsage(error: CommanderError, words: readonly string[], cli: Cli): number {
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
      `next: ${helpFor(words)}`
    )
  }
  return errorCodes.E_BAD_REQUEST.exitCode
}

/** Help of the command that was meant, of its group, or of all. */
function helpFor(words: readonly string[]): string {
  const [group = ''] = words
  const meant = commands.find((entry) => entry.words.every((word, index) => words[index] === word))
  if (meant !== undefined) return `hostlet ${meant.words.join(' ')} --help`
  return Object.hasOwn(groups, group) ? `hostlet ${group} --help` : 'hostlet --help'
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
