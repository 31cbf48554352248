// The text format: heads, escapes, values that are no plain numbers.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { familyText, type MetricFamily, valueLine } from '../../src/lib/exposition.ts'
import { readExposition } from '../support/exposition.ts'

const family: MetricFamily = {
  name: 'a_seconds',
  type: 'gauge',
  labels: ['vm'],
  help: 'Two\nlines and a \\.'
}

describe('the text of a metric', () => {
  it('has its meaning and type before its values', () => {
    assert.equal(
      familyText(family, [[{ vm: 'web-1' }, 1.5]]),
      '# HELP a_seconds Two\\nlines and a \\\\.\n# TYPE a_seconds gauge\na_seconds{vm="web-1"} 1.5\n'
    )
  })

  it('is nothing at all without values', () => {
    assert.equal(familyText(family, []), '')
  })

  it('writes what is no number as Prometheus reads it', () => {
    const lines = [Number.NaN, Infinity, -Infinity, 1e21, 0].map((value) => valueLine('a', '', value))
    assert.deepEqual(lines, ['a NaN\n', 'a +Inf\n', 'a -Inf\n', 'a 1e+21\n', 'a 0\n'])
  })

  it('keeps any text of a label', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary' }).filter((text) => !text.includes('\r')),
        (vm) => {
          const read = readExposition(familyText(family, [[{ vm }, 1]]))
          assert.equal(read.get('a_seconds')?.values[0]?.labels.vm, vm)
        }
      )
    )
  })
})
