// Join tokens: whole or refused, and no refusal tells what is in one.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  decodeJoinToken,
  encodeJoinToken,
  isJoinToken,
  type JoinToken
} from '../../src/protocol/join-token.ts'

const token: JoinToken = {
  version: 1,
  urls: ['https://sched-1.example.org:7443', 'https://192.0.2.10:7443'],
  caHash: `sha256:${'5f'.repeat(32)}`,
  token: `hlt_${'s'.repeat(43)}`,
  expiresAt: 1_800_000_000_000
}

describe('join token', () => {
  it('comes back as it was, in one word that a shell takes as it is', () => {
    const word = encodeJoinToken(token)
    assert.match(word, /^hlj_[A-Za-z0-9_-]+$/)
    assert.ok(isJoinToken(word))
    assert.deepEqual(decodeJoinToken(word), token)
  })

  it('is refused when it is cut short, changed, of another form, or too long, without telling what it holds', () => {
    const word = encodeJoinToken(token)
    const again = (change: object) =>
      `hlj_${Buffer.from(JSON.stringify({ ...token, ...change })).toString('base64url')}`
    const bad = [
      word.slice(0, -20),
      word.slice(4),
      'hlj_',
      again({ version: 2 }),
      again({ urls: [] }),
      again({ urls: ['http://sched-1'] }),
      again({ urls: ['https://user:secret@sched-1'] }),
      again({ caHash: 'sha256:00' }),
      again({ more: true }),
      `hlj_${'A'.repeat(20_000)}`
    ]
    for (const each of bad)
      assert.throws(
        () => decodeJoinToken(each),
        (error: Error & { code?: string }) =>
          error.code === 'E_BAD_REQUEST' && /damaged/.test(error.message) && !error.message.includes('ssss')
      )
  })
})
