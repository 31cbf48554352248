// docs/operate-inventory.md tells what the tables of the code say, line by line, and every reason of a quarantine.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { driftRules } from '../src/agent/drift/items.ts'
import { isRepairable } from '../src/agent/drift/repair.ts'
import { orphanRules } from '../src/agent/orphans/finders.ts'
import { orphanKinds } from '../src/protocol/orphans.ts'
import { foreignReasons } from '../src/protocol/vm.ts'

const text = readFileSync(join(import.meta.dirname, '..', 'docs', 'operate-inventory.md'), 'utf8')

describe('docs/operate-inventory.md', () => {
  it('has the line of each comparison, as the code has it', () => {
    for (const { id, title, severity, repair, next } of driftRules)
      assert.ok(text.includes(`| \`${id}\` | ${title} | ${severity} | ${repair} | ${next} |`), id)
  })

  it('has the line of each kind of leftover, and there is one for each', () => {
    for (const { kind, what, proof, removal } of orphanRules)
      assert.ok(text.includes(`| \`${kind}\` | ${what} | ${proof} | ${removal} |`), kind)
    assert.deepEqual(orphanRules.map(({ kind }) => kind).toSorted(), [...orphanKinds].toSorted())
  })

  it('explains each reason of a domain that is not ours', () => {
    for (const reason of foreignReasons) assert.ok(text.includes(`| \`${reason}\` |`), reason)
  })

  it('promises a repair only where there is a way', () => {
    for (const rule of driftRules) assert.equal(isRepairable(rule), rule.repair !== 'operator', rule.id)
  })
})
