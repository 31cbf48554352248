// The reference of the command line: every command with its arguments, options and examples, out of its declaration.

import { Command } from 'commander'
import { Cli } from '../../src/cli/cli.ts'
import { commands, groups } from '../../src/cli/commands.ts'
import { cell, code, sections, table } from './markdown.ts'

export async function cliPage(): Promise<string> {
  const parts: string[] = []
  let group = ''
  for (const entry of commands) {
    const command = new Command(entry.words.at(-1) ?? '')
    const { define } = await entry.load()
    define(command, new Cli({ environment: {} }))
    const first = entry.words.length > 1 ? entry.words[0] : ''
    if (first !== group && first !== '') parts.push(`## hostlet ${first}`, sentence(groups[first] ?? ''))
    if (first === '' && group !== '') parts.push('## Others')
    group = first
    parts.push(...commandPart(command, entry.words.join(' '), entry.summary))
  }
  return sections(
    '# Commands',
    'Every command with its options and examples, made from the declarations by `node scripts/generate-reference.ts`. What they have in common (the connection, output, exit status) is in [cli.md](../cli.md).',
    '## Daemons and host',
    ...parts
  )
}

function commandPart(command: Command, words: string, summary: string): string[] {
  const usage = [
    `hostlet ${words}`,
    ...command.registeredArguments.map((argument) => {
      const name = argument.variadic ? `${argument.name()}...` : argument.name()
      return argument.required ? `<${name}>` : `[${name}]`
    })
  ].join(' ')
  const rows = [
    ...command.registeredArguments.map((argument) => [`\`${argument.name()}\``, argument.description, '']),
    ...command.options
      .filter((option) => !option.hidden && !shared.has(option.long ?? ''))
      .map((option) => [
        `\`${cell(option.flags)}\``,
        [option.description, ...(option.argChoices ? [`(${option.argChoices.join(', ')})`] : [])].join(' '),
        option.defaultValue === undefined || typeof option.defaultValue === 'boolean'
          ? ''
          : `\`${String(option.defaultValue)}\``
      ])
  ]
  const examples = examplesOf(command)
  return [
    `### \`${usage}\``,
    sentence(summary),
    rows.length === 0
      ? ''
      : table(
          ['', 'meaning', 'default'],
          rows.map((row) => row.map(cell))
        ),
    examples === '' ? '' : code('sh', examples)
  ]
}

/** Options of every command that asks the scheduler; said once, on the other page. */
const shared = new Set(['--scheduler', '--api-key-file', '--ca-file', '--output'])

function examplesOf(command: Command): string {
  let text = ''
  command.configureOutput({ writeOut: (part) => (text += part) })
  command.outputHelp()
  const [, examples = ''] = text.split(/\nExamples:\n/)
  return (
    examples
      .split('\n\n')[0]
      ?.split('\n')
      .map((line) => line.trim().replace(/ {2,}\(?(.+?)\)?$/, '  # $1'))
      .join('\n')
      .trim() ?? ''
  )
}

function sentence(text: string): string {
  return text === '' ? '' : `${text.charAt(0).toUpperCase()}${text.slice(1)}.`
}
