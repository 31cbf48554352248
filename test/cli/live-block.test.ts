// Lines drawn again in place, as a terminal would show them.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { LiveBlock } from '../../src/cli/live-block.ts'

/** The few sequences that a live block uses, carried out on lines of text. */
class Screen {
  readonly lines: string[] = ['']
  #row = 0

  write(text: string): void {
    const visible = text.replaceAll('\x1b', '␛')
    for (const part of visible.match(/␛\[\d*[AKJ]|[\n\r]|[^␛\n\r]+/g) ?? []) this.#take(part)
  }

  #take(part: string): void {
    const up = /^␛\[(\d+)A$/.exec(part)
    if (up !== null) this.#row -= Number(up[1])
    else if (part === '␛[J') this.lines.splice(this.#row, this.lines.length, '')
    else if (part === '\n') this.lines[++this.#row] ??= ''
    // Each line is written from its start, and cleared behind its text.
    else if (part !== '\r' && part !== '␛[K') this.lines[this.#row] = part
  }
}

describe('live block', () => {
  it('replaces its lines, also when there are fewer or more', () => {
    const screen = new Screen()
    screen.write('before\n')
    const block = new LiveBlock((text) => screen.write(text))
    block.draw(['a', 'b', 'c'], 10)
    assert.deepEqual(screen.lines, ['before', 'a', 'b', 'c', ''])
    block.draw(['d'], 10)
    assert.deepEqual(screen.lines, ['before', 'd', ''])
    block.draw(['e', 'f'], 10)
    assert.deepEqual(screen.lines, ['before', 'e', 'f', ''])
    block.clear()
    assert.deepEqual(screen.lines, ['before', ''])
  })

  it('draws no more lines than the terminal has', () => {
    const screen = new Screen()
    const block = new LiveBlock((text) => screen.write(text))
    block.draw(['a', 'b', 'c'], 2)
    assert.deepEqual(screen.lines, ['a', 'b', ''])
  })
})
