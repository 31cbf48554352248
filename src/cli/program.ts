// The program as commander knows it: every command with its name and summary, and those that are wanted with all they have.

import { Command } from 'commander'
import { release } from '../lib/release.ts'
import type { Cli } from './cli.ts'
import { type CommandEntry, commands, groups } from './commands.ts'
import { exitCodeHelp } from './exit-codes.ts'

/** Files of commands are loaded only where `wanted` says so: help of one command needs no other. */
export async function buildProgram(cli: Cli, wanted: (entry: CommandEntry) => boolean): Promise<Command> {
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
    if (!wanted(entry)) continue
    const { define } = await entry.load()
    define(command, cli)
  }
  return program
}

/** Whether the words of a command line are those of this command. */
export function isNamedBy(words: readonly string[]): (entry: CommandEntry) => boolean {
  return (entry) => entry.words.every((word, index) => words[index] === word)
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
  or options of the same names, or scheduler, apiKeyFile and caFile in ~/.config/hostlet/cli.yaml.
  "hostlet login" opens a session in place of the key.`
