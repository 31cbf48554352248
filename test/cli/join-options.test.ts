// What a host is given to join, from options, a file and the environment.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { readJoin } from '../../src/cli/join-options.ts'
import { encodeJoinToken } from '../../src/protocol/join-token.ts'

const caHash = `sha256:${'5f'.repeat(32)}`
const secret = `hlt_${'s'.repeat(43)}`
const url = 'https://sched-1:7443'
const word = encodeJoinToken({ version: 1, urls: [url], caHash, token: secret, expiresAt: 2_000 })

describe('what a host is given to join', () => {
  let directory: string
  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'hostlet-join-'))
    writeFileSync(join(directory, 'token'), `${word}\n`)
  })
  after(() => rmSync(directory, { recursive: true, force: true }))

  it('is a join token in a file, or in the environment', () => {
    assert.deepEqual(readJoin({ tokenFile: join(directory, 'token') }, undefined, 1_000).urls, [url])
    assert.equal(readJoin({}, word, 1_000).token, secret)
  })

  it('is a bare token with address and CA', () => {
    const parts = { token: secret, scheduler: url, caHash }
    assert.deepEqual(readJoin(parts, undefined, 0), { version: 1, urls: [url], caHash, token: secret })
    assert.throws(() => readJoin({ token: secret, caHash }, undefined, 0), /needs --scheduler and --ca-hash/)
  })

  it('takes another address from --scheduler, and no other CA', () => {
    assert.deepEqual(readJoin({ token: word, scheduler: 'https://other:7443' }, undefined, 0).urls, [
      'https://other:7443'
    ])
    const other = `sha256:${'00'.repeat(32)}`
    assert.throws(() => readJoin({ token: word, caHash: other }, undefined, 0), { code: 'E_AUTH' })
  })

  it('is refused when its time is over, missing, or cannot be read', () => {
    assert.throws(() => readJoin({ token: word }, undefined, 3_000), {
      code: 'E_AUTH',
      message: /ended at 1970/
    })
    assert.throws(() => readJoin({}, undefined, 0), { code: 'E_BAD_REQUEST', message: /hostlet host token/ })
    assert.throws(() => readJoin({ tokenFile: join(directory, 'none') }, undefined, 0), /ENOENT/)
  })
})
