// Tables: aligned, no wider than the terminal, and deaf to control characters in what they show.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { stripVTControlCharacters } from 'node:util'
import { type Column, cut, plain, renderFields, renderTable } from '../../src/cli/table.ts'

interface Row {
  readonly name: string
  readonly size: number
  readonly note: string
}

const columns: readonly Column<Row>[] = [
  { title: 'NAME', cell: ({ name }) => name },
  { title: 'SIZE', cell: ({ size }) => String(size), align: 'right', spare: 1 },
  { title: 'NOTE', cell: ({ note }) => note, shrinks: true, style: () => 'green' }
]
const rows: readonly Row[] = [
  { name: 'web-1', size: 5, note: 'short' },
  { name: 'database-1', size: 12_345, note: 'a rather long note about nothing' }
]

describe('tables', () => {
  it('align their columns and leave no space at the end of a line', () => {
    assert.deepEqual(renderTable(columns, rows, { colour: false }), [
      'NAME         SIZE  NOTE',
      'web-1           5  short',
      'database-1  12345  a rather long note about nothing'
    ])
  })

  it('cut the columns that may shrink, no further than the terminal asks', () => {
    const lines = renderTable(columns, rows, { width: 30, colour: false })
    assert.equal(lines[2], 'database-1  12345  a rather l…')
    assert.ok(lines.every((line) => line.length <= 30))
  })

  it('leave spare columns out where shrinking is not enough', () => {
    const lines = renderTable(columns, rows, { width: 22, colour: false })
    assert.deepEqual(lines, ['NAME        NOTE', 'web-1       short', 'database-1  a rather …'])
  })

  it('colour only where asked, without changing the widths', () => {
    const coloured = renderTable(columns, rows, { colour: true })
    assert.notDeepEqual(coloured, renderTable(columns, rows, { colour: false }))
    assert.deepEqual(
      coloured.map((line) => stripVTControlCharacters(line)),
      renderTable(columns, rows, { colour: false })
    )
  })

  it('show no control character of a cell', () => {
    const hostile = [{ name: 'a\x1b[2Jb\r\nc', size: 1, note: '\u202eevil\u0007' }]
    for (const line of renderTable(columns, hostile, { colour: false })) assert.equal(plain(line), line)
    assert.equal(renderTable(columns, hostile, { colour: false }).length, 2)
  })

  it('cut by characters, not by halves of them', () => {
    assert.equal(cut('aé😀b', 3), 'aé…')
    assert.equal(cut('abc', 3), 'abc')
    assert.equal(cut('abc', 0), '')
  })

  it('list fields under each other, without those that are absent', () => {
    assert.deepEqual(
      renderFields(
        [
          ['VM', 'web-1'],
          ['address', undefined],
          ['state', 'running']
        ],
        false
      ),
      ['VM:     web-1', 'state:  running']
    )
  })
})
