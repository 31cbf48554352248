// Sizes in sentences.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { sizeText } from '../../src/lib/size-text.ts'

describe('a size in a sentence', () => {
  it('has a unit that a person can read', () => {
    assert.deepEqual([0, 512, 2_359_296, 300 * 1024 ** 2, 5000 * 1024 ** 4].map(sizeText), [
      '0 bytes',
      '512 bytes',
      '2.3 MiB',
      '300 MiB',
      '5000 TiB'
    ])
  })
})
