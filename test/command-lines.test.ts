// Every "hostlet …" in a code block or between backticks in the documents is a command that exists, with options that it has.

import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { Command } from 'commander'
import { Cli } from '../src/cli/cli.ts'
import { commands } from '../src/cli/commands.ts'

const root = join(import.meta.dirname, '..')
const documents = ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', ...globSync('docs/**/*.md', { cwd: root })]

interface Line {
  readonly where: string
  readonly words: readonly string[]
  /** Part of a sentence, which may leave out the arguments. */
  readonly isInline?: true
}

/** Commands in `sh` blocks, also behind pipes, in substitutions and run as another user. */
function linesOf(path: string): Line[] {
  const text = readFileSync(join(root, path), 'utf8')
  return [...text.matchAll(/^( *)```sh\n([\s\S]*?)^\1```/gm)].flatMap(([block = '', , body = ''], index) => {
    const first = text.slice(0, text.indexOf(block)).split('\n').length
    const whole = body.replaceAll(/\\\n\s*/g, ' ')
    return [
      ...whole.matchAll(/(?:^|[|;(]\s*|&& |runuser -u hostlet -- |sudo )\s*hostlet ([^|;()\n]*)/gm)
    ].map(([, words = '']) => ({
      where: `${path}:${first} (block ${index + 1})`,
      words: words.replace(/\s+(#|<<|\(|>|&&).*$/, '').match(/(?:[^\s"']+|"[^"]*"|'[^']*')+/g) ?? []
    }))
  })
}

/** Commands between backticks, also over the end of a line; what does not begin with the words of a command is a name. */
function inlineLinesOf(path: string): Line[] {
  const text = readFileSync(join(root, path), 'utf8').replaceAll(/^( *)```[\s\S]*?^\1```/gm, (block) =>
    block.replaceAll(/[^\n]/g, '')
  )
  return [...text.matchAll(/`hostlet (-{0,2}[a-z](?:[^`\n]|\n(?!\n))*)`/g)].map(
    ({ 1: words = '', index }) => ({
      where: `${path}:${text.slice(0, index).split('\n').length}`,
      words: words.replace(/\s+(#|<<|>|&&|\|).*$/s, '').match(/(?:[^\s"']+|"[^"]*"|'[^']*')+/g) ?? [],
      isInline: true
    })
  )
}

async function faultOf({ words, isInline }: Line): Promise<string | undefined> {
  if (['--help', '-V', '--version'].includes(words[0] ?? '')) return undefined
  const entry = commands
    .toSorted((left, right) => right.words.length - left.words.length)
    .find((one) => one.words.every((word, index) => words[index] === word))
  if (entry === undefined) return 'there is no such command'
  const command = new Command(entry.words.at(-1) ?? '')
    .exitOverride()
    .configureOutput({ writeErr: () => undefined })
  const { define } = await entry.load()
  define(command, new Cli({ environment: {} }))
  const rest = words.slice(entry.words.length).map((word) => word.replaceAll(/^["']|["']$/g, ''))
  // "…" stands for what a reader fills in.
  const isSketch = rest.some((word) => word === '…' || word === '...')
  const given = rest.filter((word) => word !== '…' && word !== '...')
  const unknown = given
    .filter((word) => /^--?[a-z]/.test(word))
    .map((word) => word.split('=')[0])
    .find(
      (word) =>
        !['--help', '-h'].includes(word ?? '') &&
        !command.options.some((option) => option.long === word || option.short === word)
    )
  if (unknown !== undefined) return `it has no option ${unknown}`
  if (isSketch || isInline || given.some((word) => ['--help', '-h'].includes(word))) return undefined
  const { operands } = command.parseOptions([...given])
  const wanted = command.registeredArguments.filter(({ required }) => required).length
  const most = command.registeredArguments.some(({ variadic }) => variadic)
    ? Number.POSITIVE_INFINITY
    : command.registeredArguments.length
  if (operands.length < wanted || operands.length > most)
    return `it takes ${wanted} to ${most} arguments, not ${operands.length}`
  return undefined
}

describe('command lines in the documents', () => {
  const lines = documents.flatMap((path) => [...linesOf(path), ...inlineLinesOf(path)])

  it('are found', () => {
    assert.ok(lines.length > 80, `${lines.length} found`)
  })

  it('name commands and options that exist', async () => {
    const faults = await Promise.all(
      lines.map(async (line) => {
        const fault = await faultOf(line)
        return fault === undefined ? [] : [`${line.where}: hostlet ${line.words.join(' ')}: ${fault}`]
      })
    )
    assert.deepEqual(faults.flat(), [])
  })

  it('would be told to be wrong', async () => {
    const line = (words: string) => ({ where: '', words: words.split(' ') })
    assert.match((await faultOf(line('vm dance web-1'))) ?? '', /no such command/)
    assert.match((await faultOf(line('vm stop web-1 --gently'))) ?? '', /no option --gently/)
    assert.match((await faultOf(line('vm stop'))) ?? '', /arguments/)
    assert.equal(await faultOf(line('vm stop web-1 --force')), undefined)
    assert.match((await faultOf({ ...line('vm stop --gently'), isInline: true })) ?? '', /no option --gently/)
    assert.equal(await faultOf({ ...line('vm stop'), isInline: true }), undefined)
  })
})
