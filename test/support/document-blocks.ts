// Blocks of commands in a document, each with the lines that the document says one sees.

import { readFileSync } from 'node:fs'

export interface Block {
  /** Where it begins, for a person: FILE:LINE. */
  readonly where: string
  readonly script: string
  /** Of the ```text block right below it, if there is one; "…" stands for anything. */
  readonly shown: readonly string[]
}

const fence = /^( *)```(\w*)\n([\s\S]*?)^\1```$/gm

/** Its `sh` blocks in order. Throws for a block of another kind, which nothing would hold to the truth. */
export function blocksOf(path: string, name: string): Block[] {
  const text = readFileSync(path, 'utf8')
  const blocks: Block[] = []
  let end = -1
  for (const { index, 0: whole, 2: kind, 3: body = '' } of text.matchAll(fence)) {
    const where = `${name}:${text.slice(0, index).split('\n').length}`
    const before = blocks.at(-1)
    const isBelow = text.slice(end, index).trim() === ''
    if (kind === 'sh') blocks.push({ where, script: body, shown: [] })
    else if (kind === 'text' && before !== undefined && isBelow)
      blocks[blocks.length - 1] = { ...before, shown: body.trimEnd().split('\n') }
    else throw new Error(`${where}: a block is "sh", or "text" right below one`)
    end = index + whole.length
  }
  return blocks
}

/** Commands of a block, one a line, without the backslashes between the lines of one. */
export function commandsOf({ script }: Block): string[] {
  return script
    .replaceAll(/\\\n\s*/g, '')
    .split('\n')
    .filter((line) => line !== '')
}

/** The first of the shown lines that the output does not have after those before it; undefined when it has them all. */
export function missingLine(shown: readonly string[], output: string): string | undefined {
  const lines = output.split('\n')
  let from = 0
  for (const each of shown) {
    const pattern = patternOf(each)
    const at = lines.findIndex((line, index) => index >= from && pattern.test(line.trim()))
    if (at === -1) return each
    from = at + 1
  }
  return undefined
}

/** Widths of columns may differ, and what "…" stands for; nothing else. */
function patternOf(shown: string): RegExp {
  const literal = (part: string) =>
    part
      .split(/\s+/)
      .map((word) => word.replaceAll(/[\\^$.*+?()[\]{}|/-]/g, '\\$&'))
      .join('\\s+')
  return new RegExp(`^${shown.trim().split('…').map(literal).join('.*')}$`)
}
