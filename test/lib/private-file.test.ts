// Private files: whole or not at all, and nobody else's to read.

import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { ensurePrivateDirectory, writePrivateFile } from '../../src/lib/private-file.ts'

describe('private files', () => {
  let directory: string
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'hostlet-private-'))
  })
  afterEach(() => rmSync(directory, { recursive: true }))

  it('replace what was there, readable by their owner only, and leave nothing beside them', () => {
    const path = join(directory, 'key')
    writeFileSync(path, 'old', { mode: 0o644 })
    writePrivateFile(path, 'new')
    assert.equal(readFileSync(path, 'utf8'), 'new')
    assert.equal(statSync(path).mode & 0o777, 0o600)
    assert.deepEqual(readdirSync(directory), ['key'])
  })

  it('leave nothing when they cannot be put in place', () => {
    const path = join(directory, 'taken')
    ensurePrivateDirectory(path)
    assert.throws(() => writePrivateFile(path, 'x'), { code: 'E_UNAVAILABLE' })
    assert.deepEqual(readdirSync(directory), ['taken'])
    assert.throws(() => writePrivateFile(join(directory, 'none', 'key'), 'x'), {
      code: 'E_UNAVAILABLE',
      message: /ENOENT/
    })
  })

  it('lie in directories that are closed to others, also those that were open', () => {
    const path = join(directory, 'a', 'b')
    ensurePrivateDirectory(path)
    chmodSync(path, 0o755)
    ensurePrivateDirectory(path)
    assert.equal(statSync(path).mode & 0o777, 0o700)
    writeFileSync(join(directory, 'file'), '')
    assert.throws(() => ensurePrivateDirectory(join(directory, 'file')), { code: 'E_UNAVAILABLE' })
  })
})
