// The key that leaves a console: how it is written, and where it stands among others.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { escapeDefault, readEscape, untilEscape } from '../../../src/cli/console/escape.ts'
import { HostletError } from '../../../src/errors.ts'

describe('the key that leaves a console', () => {
  it('is written as ^ and a character', () => {
    assert.deepEqual(readEscape(escapeDefault), { byte: 0x1d, name: 'Ctrl-]' })
    assert.deepEqual(readEscape('^o'), { byte: 0x0f, name: 'Ctrl-O' })
    assert.deepEqual(readEscape('^\\'), { byte: 0x1c, name: 'Ctrl-\\' })
  })

  for (const written of ['', '^', 'x', '^1', '^ab', 'Ctrl-A', '^é'])
    it(`is not "${written}"`, () => {
      assert.throws(
        () => readEscape(written),
        (error) =>
          error instanceof HostletError && error.code === 'E_BAD_REQUEST' && /write \^/.test(error.message)
      )
    })

  it('ends what is typed, and nothing behind it is', () => {
    const key = readEscape('^]')
    assert.deepEqual(untilEscape(Buffer.from('ls\n'), key), { typed: Buffer.from('ls\n'), left: false })
    assert.deepEqual(untilEscape(Buffer.from('ls\x1drm'), key), { typed: Buffer.from('ls'), left: true })
    assert.deepEqual(untilEscape(Buffer.from('\x1d'), key), { typed: Buffer.alloc(0), left: true })
  })
})
