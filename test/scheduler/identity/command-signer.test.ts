// The command key: made once, private, and what it signs is what hosts verify.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { compactVerify, importJWK } from 'jose'
import { type CommandClaims, commandBytesMax } from '../../../src/protocol/command.ts'
import { CommandKey } from '../../../src/protocol/enrollment.ts'
import { compile } from '../../../src/protocol/validate.ts'
import { CommandSigner } from '../../../src/scheduler/identity/command-signer.ts'
import { uuid1 } from '../support/samples.ts'

const claims: CommandClaims = {
  id: uuid1,
  verb: 'vm.start',
  audience: 'kvm-1',
  issuedAt: 1,
  expiresAt: 2,
  arguments: { vm: 'web-1' }
}

describe('the command key', () => {
  let directory: string
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'hostlet-signer-'))
  })
  afterEach(() => rmSync(directory, { recursive: true }))

  it('is made once, is private, and shows only its public half', async () => {
    const { publicKey } = await CommandSigner.open(directory)
    assert.deepEqual(compile(CommandKey, 'key')(publicKey), publicKey)
    assert.equal(statSync(join(directory, 'command-key.json')).mode & 0o777, 0o600)
    assert.deepEqual((await CommandSigner.open(directory)).publicKey, publicKey)
  })

  it('signs what hosts verify, and nothing else passes', async () => {
    const signer = await CommandSigner.open(directory)
    const jws = await signer.sign(claims)
    const key = await importJWK({ ...signer.publicKey }, 'EdDSA')
    const { payload, protectedHeader } = await compactVerify(jws, key)
    assert.deepEqual(JSON.parse(new TextDecoder().decode(payload)), claims)
    assert.equal(protectedHeader.typ, 'hostlet-command+jwt')
    const [head, , signature] = jws.split('.')
    const forged = Buffer.from(JSON.stringify({ ...claims, audience: 'kvm-2' })).toString('base64url')
    await assert.rejects(compactVerify(`${head}.${forged}.${signature}`, key))
  })

  it('does not sign what no host would accept for its length', async () => {
    const signer = await CommandSigner.open(directory)
    const long = { ...claims, arguments: { text: 'x'.repeat(commandBytesMax) } }
    await assert.rejects(signer.sign(long), { code: 'E_BAD_REQUEST', message: /Shorten its arguments/ })
  })

  it('is not made anew over a damaged file', async () => {
    for (const text of [
      '',
      '{"kty":"OKP"',
      '{"kty":"RSA","crv":"Ed25519","x":"a","d":"b","kid":"c"}',
      '{"kty":"OKP","crv":"Ed25519","x":"a","d":"b","kid":"c"}'
    ]) {
      writeFileSync(join(directory, 'command-key.json'), text)
      await assert.rejects(CommandSigner.open(directory), { code: 'E_CORRUPT' })
    }
  })
})
