// One entry is found in files of any size, by what it says of itself, and in pieces.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { findEntry } from '../../../src/agent/trail/find-entry.ts'
import { contentOf, type MadeTrail, madeTrail } from './made-trail.ts'

describe('an entry of the trail', () => {
  let directory: string
  let made: MadeTrail

  before(() => {
    directory = mkdtempSync('/dev/shm/hostlet-entries-')
    // Of lengths that put ends of pieces anywhere, with what looks like another entry in each.
    made = madeTrail([2, 3_000, 5], (seq) => ({
      vm: 'x'.repeat((seq * 7) % 613),
      of: { seq: seq + 1, at: 1 }
    }))
    for (const file of made.files) writeFileSync(join(directory, file.name), contentOf(file))
  })
  after(() => rmSync(directory, { recursive: true }))

  it('is found wherever it lies', async () => {
    for (const { seq, hash } of made.links) assert.equal((await findEntry(directory, seq))?.hash, hash)
  })

  it('is not there when it never was, or is not what its hash says', async () => {
    for (const seq of [0, -1, made.links.length + 1]) assert.equal(await findEntry(directory, seq), undefined)
    const [first] = made.files
    assert.ok(first)
    writeFileSync(join(directory, first.name), contentOf(first).toString().replace('"vm":"x', '"vm":"y'))
    assert.equal(await findEntry(directory, 1), undefined)
    assert.equal((await findEntry(directory, 2))?.seq, 2)
  })

  it('leaves the event loop to others while a large file is read', async () => {
    let turns = 0
    const beat = setInterval(() => turns++, 0)
    for (let round = 0; round < 20; round++) await findEntry(directory, 3_001)
    clearInterval(beat)
    assert.ok(turns > 0, `${turns} turns`)
  })
})
