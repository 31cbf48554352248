// Files whose content is gone with their name, and what a crash in the middle leaves.

import assert from 'node:assert/strict'
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { replacePrivateFile, shredFile, shredLeftovers } from '../../src/lib/shred.ts'

describe('a file that is shredded', () => {
  let directory: string
  let path: string
  const content = 'a secret that is to be gone'
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'hostlet-shred-'))
    path = join(directory, 'secret')
  })
  afterEach(() => rmSync(directory, { recursive: true, force: true }))

  it('holds other bytes in its old place, all along its length, and has no name', () => {
    writeFileSync(path, content)
    const held = openSync(path, 'r')
    assert.equal(shredFile(path), true)
    const left = Buffer.alloc(content.length)
    assert.equal(readSync(held, left, 0, left.length, 0), content.length)
    closeSync(held)
    for (let at = 0; at + 4 <= content.length; at++)
      assert.equal(left.includes(content.slice(at, at + 4)), false)
    assert.deepEqual(readdirSync(directory), [])
    assert.equal(shredFile(path), false)
  })

  it('says which file could not be destroyed', () => {
    assert.throws(() => shredFile(directory), { code: 'E_UNAVAILABLE', message: new RegExp(directory) })
  })

  it('is what a replaced one becomes, while the name always has a whole content', () => {
    replacePrivateFile(path, content)
    assert.equal(statSync(path).mode & 0o777, 0o600)
    const held = openSync(path, 'r')
    replacePrivateFile(path, 'the next')
    assert.equal(readFileSync(held, 'utf8').includes(content), false)
    closeSync(held)
    assert.equal(readFileSync(path, 'utf8'), 'the next')
    assert.deepEqual(readdirSync(directory), ['secret'])
    shredLeftovers(directory)
    assert.equal(readFileSync(path, 'utf8'), 'the next')
  })
})
