// Suggestions for misspelt words.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { editDistance, suggestion } from '../../src/lib/suggestion.ts'

describe('suggestion', () => {
  it('counts a swap of neighbours as one slip', () => {
    assert.equal(editDistance('tokne', 'token'), 1)
    assert.equal(editDistance('', 'abc'), 3)
  })
  it('offers the nearest word, and none that is far', () => {
    assert.equal(suggestion('tokn', ['tokens', 'token']), 'token')
    assert.equal(suggestion('xyz', ['token']), undefined)
    assert.equal(suggestion('a'.repeat(100), ['a'.repeat(99)]), undefined)
  })
})
