// The registry of verbs and their pages: each verb is named as its file, and each page is what the declaration says.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { verbPages, verbPagesDirectory } from '../../../scripts/generate-verb-docs.ts'
import { documentedVerbs, verbs } from '../../../src/agent/verbs/registry.ts'
import { lookingVerbs } from '../../../src/protocol/api.ts'
import { compile } from '../../../src/protocol/validate.ts'

const files = readdirSync(join(import.meta.dirname, '../../../src/agent/verbs'))

describe('registry of verbs', () => {
  it('names every verb as its file, once', () => {
    const names = verbs.map((verb) => verb.name)
    assert.equal(new Set(names).size, names.length)
    for (const name of names) assert.ok(files.includes(`${name.replace('.', '-')}.ts`), name)
    const helpers = ['document.ts', 'registry.ts', 'subject.ts']
    assert.deepEqual(files.filter((file) => !helpers.includes(file)).length, names.length)
  })

  for (const { verb, document } of documentedVerbs) {
    it(`has an example of ${verb.name} that fits it, and refuses keys that it does not know`, () => {
      const check = compile(verb.params, verb.name)
      assert.deepEqual(check(document.example), document.example)
      assert.throws(() => check({ ...document.example, unknown: 1 }), { code: 'E_BAD_REQUEST' })
    })
  }

  it('journals whatever has an effect: these alone may come again', () => {
    const looks = verbs.filter((verb) => verb.looks).map(({ name }) => name)
    assert.deepEqual(looks.sort(), [...lookingVerbs])
    for (const verb of verbs.filter((each) => each.looks))
      assert.deepEqual([verb.changes, verb.lock], [false, 'none'], verb.name)
  })

  it('has pages that are as the declarations are: node scripts/generate-verb-docs.ts', () => {
    const pages = verbPages()
    assert.deepEqual(readdirSync(verbPagesDirectory).sort(), [...pages.keys()].sort())
    for (const [name, text] of pages)
      assert.equal(readFileSync(join(verbPagesDirectory, name), 'utf8'), text, name)
  })
})
