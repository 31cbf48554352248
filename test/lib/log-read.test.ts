// Log lines read back: what the journal form writes comes out as it went in, and nothing else passes for facts.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { journalForm } from '../../src/lib/log-form.ts'
import { readLine } from '../../src/lib/log-read.ts'

function written(message: string, fields: Record<string, unknown>): string {
  return journalForm({ level: 'info', message, fields, at: 0 }).replace(/^<6>/, '').replace(/\n$/, '')
}

describe('a log line', () => {
  it('is read as it was written', () => {
    const fields = { vm: 'web-1', note: 'two words', path: '/a=b', empty: '', quote: 'say "x" \\ y', n: 12 }
    assert.deepEqual(readLine(written('operation done', fields)), {
      message: 'operation done',
      fields: { ...fields, n: '12' }
    })
  })

  it('has nested facts under keys with dots, and lists as JSON', () => {
    const line = written('operation failed', { error: { code: 'E_BUSY', message: 'a b' }, vms: ['a', 'b'] })
    assert.deepEqual(readLine(line).fields, {
      'error.code': 'E_BUSY',
      'error.message': 'a b',
      vms: '["a","b"]'
    })
  })

  it('is all sentence where it has no facts, or what follows is none', () => {
    assert.deepEqual(readLine('agent stopped, VMs run on'), {
      message: 'agent stopped, VMs run on',
      fields: {}
    })
    assert.deepEqual(readLine('a b=c d').fields, {})
    assert.deepEqual(readLine('broken quote="x').fields, {})
    assert.deepEqual(readLine('').fields, {})
  })

  it('keeps an equals sign of its sentence', () => {
    assert.deepEqual(readLine('it said x=1 to me vm=web-1'), {
      message: 'it said x=1 to me',
      fields: { vm: 'web-1' }
    })
  })

  it('lets no value pass for another fact', () => {
    const { fields } = readLine(written('guest says', { guest: 'x" vm=other', note: 'a vm=other' }))
    assert.deepEqual(fields, { guest: 'x" vm=other', note: 'a vm=other' })
  })

  it('does not take the square of its length', () => {
    const line = `${' a=b c'.repeat(3_000)}`
    assert.deepEqual(readLine(line).fields, {})
  })
})
