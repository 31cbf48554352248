// One line of a chain: its hash is of its own bytes, and what others wrote makes it no longer than its bound.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import { follows, lineBytesMax, openLine, origin, sealEntry } from '../../src/lib/chain.ts'

const seal = (fields: Record<string, unknown>) => sealEntry({ at: 5, kind: 'test', fields }, origin)

describe('a line of a chain', () => {
  it('has the SHA-256 of itself without its last member', () => {
    const { line, link } = seal({ vm: 'web-1' })
    assert.equal(
      line,
      `{"seq":1,"at":5,"kind":"test","vm":"web-1","prev":"${origin.hash}","hash":"${link.hash}"}`
    )
    const without = line.replace(/,"hash":"[0-9a-f]{64}"/, '')
    assert.equal(createHash('sha256').update(without).digest('hex'), link.hash)
    const entry = openLine(Buffer.from(line))
    assert.ok(entry && follows(entry, origin))
    assert.ok(!follows(entry, { seq: 1, hash: origin.hash }))
    assert.ok(!follows(entry, { seq: 0, hash: link.hash }))
  })

  it('stays one line within its bound, whatever its facts are', () => {
    const { line } = seal({ text: `${'x'.repeat(9_000)}\n\u2028"`, list: Array(500).fill('y') })
    assert.ok(!line.includes('\n') && line.length < lineBytesMax)
    assert.equal(openLine(Buffer.from(line))?.kind, 'test')
    const huge = seal(Object.fromEntries(Array.from({ length: 60 }, (_, n) => [`f${n}`, 'z'.repeat(2_000)])))
    const entry = openLine(Buffer.from(huge.line))
    assert.deepEqual([entry?.kind, entry?.f0, typeof entry?.cut], ['test', undefined, 'string'])
    assert.equal(openLine(Buffer.from(seal({ half: '\ud800'.repeat(3_000) }).line))?.kind, 'test')
  })

  it('is nothing else that looks like one', () => {
    const { line } = seal({})
    for (const other of ['', '{}', line.slice(1), `${line} `, line.replace('"seq":1', '"seq":01')])
      assert.equal(openLine(Buffer.from(other)), undefined)
    const bare = `{"seq":"1","prev":"${origin.hash}"}`
    const hash = createHash('sha256').update(bare).digest('hex')
    assert.equal(openLine(Buffer.from(`${bare.slice(0, -1)},"hash":"${hash}"}`)), undefined)
  })
})
