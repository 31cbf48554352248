// From the words of the command line to an exit status: finds the command, loads it, and tells every error the same way.

import { type Command, CommanderError } from 'commander'
import { asHostletError, errorCodes, HostletError } from '../errors.ts'
import { Cli, Interrupted } from './cli.ts'
import { type CommandEntry, commands, groups } from './commands.ts'
import { interruptedExitCode, planExitCodes } from './exit-codes.ts'
import { ExitStatus } from './exit-status.ts'
import { nextStep } from './next-step.ts'
import { buildProgram, isNamedBy } from './program.ts'
import { plain } from './table.ts'

/** What the completion of a shell asks by: no command for people. */
const completionWord = '__complete'

/** Codes of commander. */
const missingOption = 'commander.missingMandatoryOptionValue'
const helpWanted = 'commander.help'

/** Runs one command. Resolves with the exit status; never rejects. */
export async function run(words: readonly string[], cli: Cli = new Cli()): Promise<number> {
  try {
    if (words[0] === completionWord) return await printCandidates(words.slice(1), cli)
    const program = await buildProgram(cli, isNamedBy(words))
    await program.parseAsync([...words], { from: 'user' })
    return cli.exitStatus
  } catch (thrown) {
    const status = tell(await nearestFault(thrown, words, cli), words, cli)
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
  return words[0] === 'diff' || optionsIn(words).includes('--dry-run')
}

/**
 * Where a required option is missing, the unknown one first: it may be that very option, mistyped. Otherwise all that are
 * missing at once.
 */
async function nearestFault(thrown: unknown, words: readonly string[], cli: Cli): Promise<unknown> {
  if (!(thrown instanceof CommanderError) || thrown.code !== missingOption) return thrown
  const program = await buildProgram(cli, isNamedBy(words))
  const command = namedBy(words)?.words.reduce<Command | undefined>(
    (parent, word) => parent?.commands.find((each) => each.name() === word),
    program
  )
  const required = command?.options.filter(({ mandatory }) => mandatory) ?? []
  for (const option of required) option.mandatory = false
  command?.action(() => undefined)
  try {
    await program.parseAsync([...words], { from: 'user' })
  } catch (nearer) {
    return nearer instanceof CommanderError && nearer.code === 'commander.unknownOption' ? nearer : thrown
  }
  const missing = required.filter((option) => command?.getOptionValue(option.attributeName()) === undefined)
  if (missing.length < 2) return thrown
  const flags = missing.map((option) => `'${option.flags}'`).join(', ')
  return new CommanderError(thrown.exitCode, missingOption, `error: required options ${flags} not specified`)
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
  if (wantsJson(words)) {
    cli.format = 'json'
    const message = `${usageText(error).replace(/\.$/, '')}. See "${helpFor(words)}".`
    tellError(new HostletError('E_BAD_REQUEST', message), cli)
    return errorCodes.E_BAD_REQUEST.exitCode
  }
  cli.note(plain(`error E_BAD_REQUEST: ${usageText(error)}`))
  if (error.code !== helpWanted) cli.note(`next: ${helpFor(words)}`)
  return errorCodes.E_BAD_REQUEST.exitCode
}

function usageText(error: CommanderError): string {
  // commander asks for help where a group was named without a command.
  if (error.code === helpWanted) return 'no command given.'
  const [first = '', ...rest] = error.message.replace(/^error: /, '').split('\n')
  return [
    first,
    ...rest.map((line) => line.replace(/^\(Did you mean (.*)\?\)$/, '(did you mean "$1"?)'))
  ].join(' ')
}

/** The command may not have come so far as to read its own options. */
function wantsJson(words: readonly string[]): boolean {
  const options = optionsIn(words)
  return options.some(
    (word, index) =>
      ['-ojson', '-o=json', '--output=json'].includes(word) ||
      (['-o', '--output'].includes(word) && options[index + 1] === 'json')
  )
}

function optionsIn(words: readonly string[]): readonly string[] {
  return words.includes('--') ? words.slice(0, words.indexOf('--')) : words
}

/** Help of the command that was meant, of its group, or of all. */
function helpFor(words: readonly string[]): string {
  const [group = ''] = words
  const meant = namedBy(words)
  if (meant !== undefined) return `hostlet ${meant.words.join(' ')} --help`
  return Object.hasOwn(groups, group) ? `hostlet ${group} --help` : 'hostlet --help'
}

function namedBy(words: readonly string[]): CommandEntry | undefined {
  return commands.find(isNamedBy(words))
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
