// The host's key of secrets: made once, kept to itself, rotated without losing anything that was sealed before.

import assert from 'node:assert/strict'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import {
  HostKey,
  previousKeyCredential,
  retiredKeyMs,
  sealFor,
  secretsKeyCredential,
  secretsKeyName
} from '../../../src/agent/keys/host-key.ts'
import { createPrivateKey, keyText, publicHalf } from '../../../src/agent/keys/jwk.ts'

describe("the host's key of secrets", () => {
  let stateDirectory: string
  let now = 1_000
  const clock = { now: () => now }
  const open = (credentialsDirectory?: string) =>
    HostKey.open({ stateDirectory, credentialsDirectory, clock })

  beforeEach(() => {
    now = 1_000
    stateDirectory = mkdtempSync(join(tmpdir(), 'hostlet-host-key-'))
  })
  afterEach(() => rmSync(stateDirectory, { recursive: true, force: true }))

  it('is made once, for its owner only, and opens what is sealed for its public half', async () => {
    const first = await open()
    assert.equal(statSync(join(stateDirectory, secretsKeyName)).mode & 0o777, 0o600)
    const sealed = await sealFor(first.publicKey, 'a secret')
    const second = await open()
    assert.deepEqual(second.publicKey, first.publicKey)
    assert.equal(await second.open(sealed), 'a secret')
    assert.equal('d' in second.publicKey, false)
  })

  it('refuses what is sealed for another key, and what was changed, without repeating it', async () => {
    const key = await open()
    const other = await createPrivateKey()
    await assert.rejects(async () => key.open(await sealFor(publicHalf(other), 'a secret')), {
      code: 'E_AUTH'
    })
    await assert.rejects(key.open('no JWE'), { code: 'E_AUTH' })
    const sealed = await key.seal('a secret')
    const parts = sealed.split('.')
    parts[3] = `${parts[3]?.startsWith('A') ? 'B' : 'A'}${parts[3]?.slice(1)}`
    await assert.rejects(key.open(parts.join('.')), { code: 'E_CORRUPT' })
  })

  it('is rotated; the old one opens for a stated time what was sealed before, and is destroyed then', async () => {
    const key = await open()
    const sealed = await key.seal('a secret')
    let rewrapped: string | undefined
    const { before, now: name } = await key.rotate(async () => {
      rewrapped = await key.seal(await key.open(sealed))
    })
    assert.notEqual(before, name)
    assert.equal(key.isCurrent(rewrapped ?? ''), true)
    assert.equal(await key.open(sealed), 'a secret')
    assert.equal(await (await open()).open(sealed), 'a secret')
    assert.equal((await open()).publicKey.kid, name)
    now += retiredKeyMs
    const later = await open()
    await assert.rejects(later.open(sealed), { code: 'E_AUTH' })
    assert.equal(await later.open(rewrapped ?? ''), 'a secret')
    assert.deepEqual(readdirSync(stateDirectory), [secretsKeyName])
  })

  it('opens everything after a rotation that was cut short, and goes on with the same new key', async () => {
    const key = await open()
    const old = await key.seal('old')
    let half = ''
    await assert.rejects(
      key.rotate(async () => {
        half = await key.seal('half')
        throw new Error('the agent was killed')
      })
    )
    const back = await open()
    assert.equal(await back.open(old), 'old')
    assert.equal(await back.open(half), 'half')
    const { now: name } = await back.rotate(() => Promise.resolve())
    assert.equal(back.isCurrent(half), true)
    assert.equal((await open()).publicKey.kid, name)
    assert.equal(await (await open()).open(old), 'old')
  })

  it('is the credential of systemd where there is one, and says how that is rotated', async () => {
    const file = await open()
    const sealed = await file.seal('a secret')
    const credentials = join(stateDirectory, 'credentials')
    mkdirSync(credentials)
    const [first, second] = [await createPrivateKey(), await createPrivateKey()]
    writeFileSync(join(credentials, secretsKeyCredential), keyText(first))
    const key = await open(credentials)
    assert.equal(key.publicKey.kid, first.kid)
    assert.equal(await key.open(sealed), 'a secret')
    await assert.rejects(
      key.rotate(() => Promise.resolve()),
      { code: 'E_UNSUPPORTED', message: new RegExp(previousKeyCredential) }
    )
    const before = await key.seal('before')
    writeFileSync(join(credentials, secretsKeyCredential), keyText(second))
    writeFileSync(join(credentials, previousKeyCredential), keyText(first))
    const rotated = await open(credentials)
    assert.equal(rotated.publicKey.kid, second.kid)
    assert.equal(await rotated.open(before), 'before')
    assert.equal(existsSync(join(stateDirectory, secretsKeyName)), true)
  })

  it('says what is wrong with a file that is no key, and nothing of what it holds', async () => {
    writeFileSync(
      join(stateDirectory, secretsKeyName),
      '{"kty":"OKP","crv":"X25519","x":"AAAA","d":"hidden"}'
    )
    await assert.rejects(open(), { code: 'E_CORRUPT', message: /^(?!.*hidden)/ })
    assert.match(readFileSync(join(stateDirectory, secretsKeyName), 'utf8'), /hidden/)
  })
})
