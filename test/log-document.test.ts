// docs/logs.md is what agent and scheduler log: every event stands in it with its meaning, and nothing else does.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { logDocsPath, logLines, meaningsIn, tableNames, withTables } from '../scripts/generate-log-docs.ts'

const text = readFileSync(logDocsPath, 'utf8')

describe('docs/logs.md', () => {
  it('has the events, levels and fields of the sources: "node scripts/generate-log-docs.ts" writes them', () => {
    assert.equal(withTables(text), text)
  })

  it('says of every event what it means', () => {
    for (const table of tableNames) {
      const meanings = meaningsIn(text, table)
      const silent = logLines(table).filter(({ event }) => !meanings.has(event))
      assert.deepEqual(
        silent.map(({ event, files }) => `${event} (${files.join(', ')})`),
        []
      )
    }
  })

  it('is made of what is really logged', () => {
    const lines = logLines('agent')
    assert.ok(lines.length > 100, `found ${lines.length}`)
    const found = (event: string) => lines.find((line) => line.event === event)
    assert.deepEqual(found('command-refused')?.levels, ['warn', 'error'])
    assert.deepEqual(found('command-refused')?.fields, ['command', 'verb', 'vm', 'error'])
    assert.deepEqual(found('condition-raised')?.levels, ['warn', 'error'])
    assert.deepEqual(found('undoing-operation')?.fields, ['code', 'step'])
  })
})
