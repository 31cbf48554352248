// From the words of the command line to an exit status: finds the command, loads it, and tells every error the same way.

import { Command, CommanderError } from 'commander'
import { asHostletError, errorCodes, type HostletError } from '../errors.ts'
import { release } from '../lib/release.ts'
import { Cli, Interrupted } from './cli.ts'
import { type CommandEntry, commands, groups } from './commands.ts'
import { exitCodeHelp, interruptedExitCode, planExitCodes } from './exit-codes.ts'
import { ExitStatus } from './exit-status.ts'
import { nextStep } from './next-step.ts'
import { plain } from './table.ts'

/** Runs one command. Resolves with the exit status; never rejects. */
export async function run(words: readonly string[], cli: Cli = new Cli()): Promise<number> {
  try {
    const program = await build(words, cli)
    await program.parseAsync([...words], { from: 'user' })
    return cli.exitStatus
  } catch (thrown) {
    const status = tell(thrown, words, cli)
    return isPlanning(words) && status !== interruptedExitCode
      ? Math.min(status, planExitCodes.refused)
      : status
  }
}

/** What only looks for what would change has statuses of its own, in which no error may look like a change. */
function isPlanning(words: readonly string[]): boolean {
  const options = words.includes('--') ? words.slice(0, words.indexOf('--')) : words
  return words[0] === 'diff' || options.includes('--dry-run')
}

async function build(words: readonly string[], cli: Cli): Promise<Command> {
  const program = prepare(new Command('hostlet'), cli)
    .description('Virtual machines on a fleet of KVM hosts: the agent, the scheduler, and commands to both.')
    .usage('COMMAND [OPTIONS]')
    .version(release, '-V, --version', 'print the version')
    .addHelpText('after', `\n${connectionHelp}\n\n${exitCodeHelp()}`)
  const parents = new Map<string, Command>()
  for (const entry of commands) {
    const parent = parentOf(entry, program, parents, cli)
    const command = prepare(parent.command(entry.words.at(-1) ?? ''), cli).summary(entry.summary)
    command.description(`${entry.summary.charAt(0).toUpperCase()}${entry.summary.slice(1)}.`)
    if (!entry.words.every((word, index) => words[index] === word)) continue
    const { define } = await entry.load()
    define(command, cli)
  }
  return program
}

function parentOf(entry: CommandEntry, program: Command, parents: Map<string, Command>, cli: Cli): Command {
  const [group] = entry.words
  if (entry.words.length === 1) return program
  const known = parents.get(group)
  if (known !== undefined) return known
  const parent = prepare(program.command(group), cli)
    .summary(groups[group] ?? '')
    .usage('COMMAND [OPTIONS]')
  parents.set(group, parent)
  return parent
}

function prepare(command: Command, cli: Cli): Command {
  return command
    .exitOverride()
    .helpCommand(false)
    .helpOption('-h, --help', 'show this help')
    .showSuggestionAfterError()
    .configureHelp({ helpWidth: Math.min(cli.width ?? 100, 110), showGlobalOptions: false })
    .configureOutput({
      writeOut: (text) => cli.write(text),
      // Errors are told once, by `tell`, in the form of every other; what remains here is help asked for wrongly.
      outputError: () => undefined,
      writeErr: (text) => cli.writeNote(text)
    })
}

const connectionHelp = `Where the scheduler is:
  HOSTLET_SCHEDULER=https://HOST:7443  HOSTLET_API_KEY_FILE=FILE  HOSTLET_CA_FILE=FILE
  or options of the same names, or scheduler, apiKeyFile and caFile in ~/.config/hostlet/cli.yaml`

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
