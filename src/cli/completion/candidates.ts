// What may come next on a command line that is being typed: commands, options, their values, names of hosts and VMs.

import type { Argument, Command, Option } from 'commander'
import type { Cli } from '../cli.ts'
import { buildProgram, isNamedBy } from '../program.ts'
import { type FleetKind, fleetNames } from './fleet-names.ts'

export interface Candidate {
  readonly value: string
  readonly description?: string
}

/** Stands alone where the shell's own file names are what is wanted. */
export const filesWanted: Candidate = { value: ':files' }

/**
 * `words` are those after `hostlet`; the last is the one being typed, empty where it has not begun. Where the fleet cannot
 * be asked there are no names: a completion tells no errors.
 */
export async function candidates(words: readonly string[], cli: Cli): Promise<readonly Candidate[]> {
  const typed = words.at(-1) ?? ''
  const before = words.slice(0, -1)
  const line = read(await buildProgram(cli, isNamedBy(before)), before)
  const found = await wanted(line, typed, cli)
  return found.filter(({ value }) => value.startsWith(typed) || value === filesWanted.value)
}

/** A command line up to the word that is being typed. */
interface Line {
  readonly command: Command
  /** The option whose value comes next. */
  readonly pending: Option | undefined
  /** Values of options, by the name that commander gives them. */
  readonly given: Readonly<Record<string, string>>
  readonly arguments: number
  /** After `--`, where no option can follow. */
  readonly ended: boolean
}

function read(program: Command, words: readonly string[]): Line {
  let command = program
  let pending: Option | undefined
  const given: Record<string, string> = {}
  let count = 0
  let ended = false
  for (const word of words) {
    if (pending !== undefined) {
      given[pending.attributeName()] = word
      pending = undefined
    } else if (ended || !word.startsWith('-')) {
      const next = count === 0 ? command.commands.find((each) => each.name() === word) : undefined
      if (next === undefined) count++
      else command = next
    } else if (word === '--') ended = true
    else {
      const { option, value } = optionOf(command, word)
      if (option !== undefined && value !== undefined) given[option.attributeName()] = value
      else if (option?.required) pending = option
    }
  }
  return { command, pending, given, arguments: count, ended }
}

/** Of `--name` or `--name=value`. */
function optionOf(command: Command, word: string): { option: Option | undefined; value: string | undefined } {
  const [, name = word, value] = /^(--[^=]+)=(.*)$/s.exec(word) ?? []
  return { option: command.options.find((each) => each.long === name || each.short === name), value }
}

async function wanted(line: Line, typed: string, cli: Cli): Promise<readonly Candidate[]> {
  const { command, pending } = line
  if (pending !== undefined) return await valuesOf(pending, placeholderOf(pending), line, cli)
  const assigned = /^(--[^=]+=)/.exec(typed)?.[1]
  if (assigned !== undefined) {
    const { option } = optionOf(command, typed)
    const values = option === undefined ? [] : await valuesOf(option, placeholderOf(option), line, cli)
    return values.map((each) =>
      each === filesWanted ? each : { ...each, value: `${assigned}${each.value}` }
    )
  }
  if (typed.startsWith('-') && !line.ended) return optionsOf(line)
  if (command.commands.length > 0) return line.arguments === 0 ? commandsOf(command) : []
  const argument = argumentAt(command, line.arguments)
  if (argument === undefined) return []
  return await valuesOf(argument, argument.name(), line, cli)
}

function commandsOf(command: Command): Candidate[] {
  return command.commands.map((each) => ({ value: each.name(), description: each.summary() }))
}

/** Those that were not given yet, but for what may be repeated. */
function optionsOf({ command, given }: Line): Candidate[] {
  const declared = command.options.filter(
    (option) => !option.hidden && (option.variadic || given[option.attributeName()] === undefined)
  )
  return [
    ...declared.map(({ long, short, description }) => ({ value: long ?? short ?? '', description })),
    { value: '--help', description: 'show this help' }
  ]
}

function argumentAt(command: Command, index: number): Argument | undefined {
  const declared = command.registeredArguments
  const last = declared.at(-1)
  return declared[index] ?? (last?.variadic ? last : undefined)
}

/** `file` of `--api-key-file <file>`. */
function placeholderOf(option: Option): string {
  return /[<[]([\w-]+)/.exec(option.flags)?.[1] ?? ''
}

const filePlaceholders: ReadonlySet<string> = new Set(['file', 'directory', 'path'])

/** What has the names that a placeholder stands for. */
const namedKinds: Readonly<Record<string, readonly FleetKind[]>> = {
  host: ['hosts'],
  vm: ['vms'],
  vms: ['vms'],
  operation: ['operations'],
  // Of "hostlet why", which takes operations too: of those there are too many to look through.
  subject: ['vms', 'hosts']
}

/** `placeholder` is the word that help has for the value: it says what kind of thing that is. */
async function valuesOf(
  { argChoices }: { argChoices?: readonly string[] | undefined },
  placeholder: string,
  { command, given }: Line,
  cli: Cli
): Promise<readonly Candidate[]> {
  if (argChoices !== undefined) return argChoices.map((value) => ({ value }))
  if (filePlaceholders.has(placeholder)) return [filesWanted]
  // The name of a VM that is not there yet; its host is.
  if (command.name() === 'create' && placeholder !== 'host') return []
  if (command.name() === 'logs' && placeholder === 'subject') return await fleetNames(['vms'], given, cli)
  const kinds = Object.hasOwn(namedKinds, placeholder) ? namedKinds[placeholder] : undefined
  return kinds === undefined ? [] : await fleetNames(kinds, given, cli)
}
