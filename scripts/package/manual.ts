// hostlet(1), made of the program itself, and pages of section 5 of the commented configurations.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from 'commander'
import { Cli } from '../../src/cli/cli.ts'
import { buildProgram } from '../../src/cli/program.ts'
import type { Release } from './tree.ts'

export interface Page {
  /** As man looks for it: `hostlet.1`. */
  readonly name: string
  readonly text: string
}

/** Pages that each configuration of `config/` gets. */
const configurations: readonly { file: string; name: string; summary: string }[] = [
  { file: 'agent.yaml', name: 'hostlet-agent.yaml', summary: 'configuration of the hostlet agent' },
  {
    file: 'scheduler.yaml',
    name: 'hostlet-scheduler.yaml',
    summary: 'configuration of the hostlet scheduler'
  },
  { file: 'policy.yaml', name: 'hostlet-policy.yaml', summary: 'what a host does, whoever asks' }
]

export async function manualPages(root: string, release: Release): Promise<readonly Page[]> {
  const program = await buildProgram(new Cli(), () => true)
  return [
    { name: 'hostlet.1', text: programPage(program, release) },
    ...configurations.map(({ file, name, summary }) => ({
      name: `${name}.5`,
      text: configurationPage(root, { file, name, summary }, release)
    }))
  ]
}

function programPage(program: Command, release: Release): string {
  return [
    title('hostlet', 1, release),
    section('NAME'),
    'hostlet \\- agent, scheduler and command line for fleets of KVM hosts',
    section('SYNOPSIS'),
    '.B hostlet\n.I COMMAND\n.RI [ OPTIONS ]',
    section('DESCRIPTION'),
    roff(program.description()),
    section('COMMANDS'),
    ...leavesOf(program).map(commandText),
    section('ENVIRONMENT AND EXIT STATUS'),
    verbatim(helpAfter(program)),
    section('FILES'),
    ...Object.entries(files).map(([path, what]) => `.TP\n.I ${roff(path)}\n${roff(what)}`),
    section('SEE ALSO'),
    '.BR hostlet-agent.yaml (5),\n.BR hostlet-scheduler.yaml (5),\n.BR hostlet-policy.yaml (5),\n.BR virsh (1)',
    ''
  ].join('\n')
}

const files: Readonly<Record<string, string>> = {
  '/etc/hostlet/agent.yaml': 'Configuration of the agent.',
  '/etc/hostlet/scheduler.yaml': 'Configuration of the scheduler.',
  '/etc/hostlet/policy.yaml':
    'Policy of the host, where there is one; a sample is /usr/share/doc/hostlet/examples/policy.yaml.',
  '/var/lib/hostlet': 'Identity of the host, its journal, and the keys of its disks.',
  '/var/lib/hostlet-scheduler': 'CA, command key and records of the scheduler.',
  '/usr/share/doc/hostlet': 'Documents for operators.'
}

function commandText(command: Command): string {
  const path = pathOf(command)
  return [
    `.SS "${roff(`${path} ${command.usage()}`)}"`,
    roff(command.description()),
    ...command.registeredArguments.map((argument) =>
      entry(argument.name(), `${argument.description}${choicesText(argument.argChoices)}`)
    ),
    ...command.options
      .filter(({ hidden }) => !hidden)
      .map((option) => entry(option.flags, `${option.description}${choicesText(option.argChoices)}`)),
    ...(helpAfter(command) === '' ? [] : ['.PP', verbatim(helpAfter(command))])
  ].join('\n')
}

function entry(term: string, text: string): string {
  return `.TP\n.B ${roff(term)}\n${roff(text)}`
}

function choicesText(choices: readonly string[] | undefined): string {
  return choices === undefined ? '' : `: ${choices.join(', ')}`
}

function leavesOf(command: Command): Command[] {
  return command.commands.flatMap((each) => (each.commands.length > 0 ? leavesOf(each) : [each]))
}

function pathOf(command: Command): string {
  return command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`
}

/** Examples and what else stands below the options of help. */
function helpAfter(command: Command): string {
  let text = ''
  command.configureOutput({ writeOut: (part) => (text += part) })
  command.outputHelp()
  return text.slice(command.helpInformation().length).trim()
}

function configurationPage(
  root: string,
  { file, name, summary }: (typeof configurations)[number],
  release: Release
): string {
  return [
    title(name, 5, release),
    section('NAME'),
    `${name} \\- ${summary}`,
    section('DESCRIPTION'),
    `Read from /etc/hostlet/${file}; \\fBhostlet config check\\fR tells its faults. With every key, its default and meaning:`,
    '.PP',
    verbatim(readFileSync(join(root, 'config', file), 'utf8').trim()),
    section('SEE ALSO'),
    '.BR hostlet (1)',
    ''
  ].join('\n')
}

function title(name: string, number: number, { version, epoch }: Release): string {
  const date = new Date(epoch * 1_000).toISOString().slice(0, 10)
  return `.TH "${name.toUpperCase()}" "${number}" "${date}" "hostlet ${version}" "hostlet"`
}

function section(name: string): string {
  return `.SH ${name}`
}

function verbatim(text: string): string {
  return `.nf\n${roff(text)}\n.fi`
}

/** What means something to roff means itself; and a minus that is typed is no hyphen. */
function roff(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('"', '\\(dq')
    .replaceAll(/^([.'])/gm, '\\&$1')
}
