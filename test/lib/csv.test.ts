// CSV that other programs read back as it was, and spreadsheets take for text.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { csvLine, csvRow, csvTitles } from '../../src/lib/csv.ts'

/** As RFC 4180 has it, by its own words. */
function parse(text: string): string[][] {
  const rows: string[][] = []
  let row: string[] = []
  for (let at = 0; at < text.length; ) {
    let cell = ''
    if (text[at] === '"') {
      for (at++; text[at] !== '"' || text[at + 1] === '"'; at++) {
        if (text[at] === '"') at++
        cell += text[at]
      }
      at++
    } else for (; text[at] !== ',' && text[at] !== '\r'; at++) cell += text[at]
    row.push(cell)
    if (text[at] === ',') at++
    else {
      assert.equal(text.slice(at, at + 2), '\r\n')
      at += 2
      rows.push(row)
      row = []
    }
  }
  return rows
}

describe('CSV', () => {
  it('reads back as it was, but for the apostrophe of what a spreadsheet would take for a formula', () => {
    const cell = fc.string({
      unit: fc.constantFrom('a', '"', ',', '\r', '\n', '=', '+', '-', '@', '\t', 'é')
    })
    fc.assert(
      fc.property(fc.array(fc.array(cell, { minLength: 1, maxLength: 4 }), { maxLength: 4 }), (rows) => {
        const expected = rows.map((row) => row.map((text) => (/^[=+\-@\t\r]/.test(text) ? `'${text}` : text)))
        assert.deepEqual(parse(rows.map(csvLine).join('')), expected)
      })
    )
  })

  it('writes numbers as they are, and nothing for what is absent', () => {
    const columns = [
      { title: 'a', cell: ({ a }: { a: number; b?: string }) => a },
      { title: 'b', cell: ({ b }: { a: number; b?: string }) => b }
    ]
    assert.equal(csvTitles(columns) + csvRow(columns, { a: -1 }), 'a,b\r\n-1,\r\n')
  })
})
