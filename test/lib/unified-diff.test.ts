// The difference of two texts: as diff -u writes it, and such that it leads from the one to the other.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { unifiedDiff } from '../../src/lib/unified-diff.ts'

const names = { before: 'a', after: 'b' }
const linesOf = (...lines: readonly string[]) => lines.map((line) => `${line}\n`).join('')

/** What a reader of the difference would make of the first text. */
function patched(before: string, diff: string): string {
  const source = before === '' ? [] : before.trimEnd().split('\n')
  const result: string[] = []
  let at = 0
  for (const line of diff.split('\n').slice(2, -1)) {
    const hunk = /^@@ -(\d+)(?:,(\d+))? /.exec(line)
    if (hunk !== null) {
      const start = Number(hunk[1]) - (hunk[2] === '0' ? 0 : 1)
      while (at < start) result.push(source[at++] ?? '')
    } else if (line.startsWith('+')) result.push(line.slice(1))
    else {
      assert.equal(line.slice(1), source[at])
      if (line.startsWith(' ')) result.push(line.slice(1))
      at++
    }
  }
  return linesOf(...result, ...source.slice(at))
}

describe('unified difference', () => {
  it('is empty for what is the same, and names what is not there', () => {
    assert.equal(unifiedDiff('a\n', 'a\n', names), '')
    assert.equal(unifiedDiff(undefined, 'x\n', names), '--- /dev/null\n+++ b\n@@ -0,0 +1 @@\n+x\n')
    assert.equal(unifiedDiff('x\n', undefined, names), '--- a\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n')
  })

  it('shows three lines around a change, and begins a hunk anew behind a longer pause', () => {
    const numbers = Array.from({ length: 20 }, (_, at) => String(at + 1))
    const after = numbers.map((line) => (line === '2' ? 'two' : line === '19' ? 'nineteen' : line))
    assert.equal(
      unifiedDiff(linesOf(...numbers), linesOf(...after), names),
      linesOf(
        ...['--- a', '+++ b', '@@ -1,5 +1,5 @@', ' 1', '-2', '+two', ' 3', ' 4', ' 5'],
        ...['@@ -16,5 +16,5 @@', ' 16', ' 17', ' 18', '-19', '+nineteen', ' 20']
      )
    )
  })

  it('leads from one text to the other, whatever they are', () => {
    let state = 20_261_128
    const random = (below: number) => {
      state = (state * 1_103_515_245 + 12_345) % 2 ** 31
      return state % below
    }
    const some = () => Array.from({ length: random(30) }, () => 'abcde'.charAt(random(5)))
    for (let round = 0; round < 300; round++) {
      const [before, after] = [linesOf(...some()), linesOf(...some())]
      const diff = unifiedDiff(before, after, names)
      assert.equal(diff === '' ? before : patched(before, diff), after, `round ${round}`)
    }
  })
})
