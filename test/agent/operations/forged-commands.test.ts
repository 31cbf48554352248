// Forged, foreign and downgraded commands: each attack with the refusal that it meets. Replays are in dispatch.test.ts.

import assert from 'node:assert/strict'
import { createHmac, createPublicKey } from 'node:crypto'
import { before, describe, it } from 'node:test'
import { CompactSign, exportJWK, GeneralSign, generateKeyPair } from 'jose'
import { CommandVerifier } from '../../../src/agent/operations/command-verifier.ts'
import { asHostletError } from '../../../src/errors.ts'
import { commandBytesMax, commandJwsType } from '../../../src/protocol/command.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { claimsOf, createSigner, hostId, type Signer } from '../../support/signed-commands.ts'

const clock = new FakeClock()
const now = clock.now()
const hourMs = 3_600_000

let signer: Signer
let stranger: Signer
let verifier: CommandVerifier

before(async () => {
  signer = await createSigner()
  // Another key under the kid that the host knows.
  stranger = await createSigner()
  verifier = new CommandVerifier({ hostId, keys: () => [signer.publicKey], clock })
})

const encode = (value: unknown) =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')
const header = (changes: Record<string, unknown> = {}) => ({
  alg: 'EdDSA',
  kid: 'key-1',
  typ: commandJwsType,
  ...changes
})

/** Signs with a header that jose would not write. */
async function withHeader(changes: Record<string, unknown>): Promise<string> {
  const { privateKey, publicKey } = await generateKeyPair('EdDSA', { crv: 'Ed25519', extractable: true })
  const { x = '' } = await exportJWK(publicKey)
  owned.push({ kty: 'OKP', crv: 'Ed25519', kid: 'key-1', x })
  const input = `${encode(header(changes))}.${encode(claimsOf(now))}`
  const signature = await crypto.subtle.sign('Ed25519', privateKey, Buffer.from(input))
  return `${input}.${Buffer.from(signature).toString('base64url')}`
}
const owned: { kty: 'OKP'; crv: 'Ed25519'; kid: string; x: string }[] = []

/** HMAC with the public key as its secret: what a verifier falls for that takes `alg` from the message. */
function signedWithPublicKey(): string {
  const key = createPublicKey({ key: { ...signer.publicKey }, format: 'jwk' })
  const input = `${encode(header({ alg: 'HS256' }))}.${encode(claimsOf(now))}`
  const pem = key.export({ type: 'spki', format: 'pem' })
  return `${input}.${createHmac('sha256', pem).update(input).digest('base64url')}`
}

async function withParts(change: (parts: string[]) => string[]): Promise<string> {
  return change((await signer.sign(claimsOf(now))).split('.')).join('.')
}

async function twoSignatures(): Promise<string> {
  const keys = await Promise.all([generateKeyPair('EdDSA'), generateKeyPair('EdDSA')])
  const sign = new GeneralSign(new TextEncoder().encode(JSON.stringify(claimsOf(now))))
  for (const { privateKey } of keys) sign.addSignature(privateKey).setProtectedHeader(header())
  return JSON.stringify(await sign.sign())
}

async function withRsa(): Promise<string> {
  const { privateKey } = await generateKeyPair('RS256')
  return new CompactSign(new TextEncoder().encode(JSON.stringify(claimsOf(now))))
    .setProtectedHeader(header({ alg: 'RS256' }))
    .sign(privateKey)
}

const text = JSON.stringify(claimsOf(now))
const duplicated = text.replace('"audience":', '"audience":"host-9","audience":')

interface Attack {
  readonly name: string
  readonly jws: () => string | Promise<string>
  readonly code: string
  readonly reason?: string
}

const attacks: readonly Attack[] = [
  {
    name: 'no signature and alg none',
    jws: () => `${encode(header({ alg: 'none' }))}.${encode(claimsOf(now))}.`,
    code: 'E_AUTH',
    reason: 'signature'
  },
  {
    name: 'alg none under a signature that is good',
    jws: () =>
      withParts(([, payload = '', signature = '']) => [encode(header({ alg: 'none' })), payload, signature]),
    code: 'E_AUTH',
    reason: 'signature'
  },
  {
    name: 'HS256 with the public key as secret',
    jws: signedWithPublicKey,
    code: 'E_AUTH',
    reason: 'signature'
  },
  { name: 'an RSA signature', jws: withRsa, code: 'E_AUTH', reason: 'signature' },
  {
    name: 'another type',
    jws: () => signer.sign(claimsOf(now), { typ: 'JWT' }),
    code: 'E_AUTH',
    reason: 'type'
  },
  {
    name: 'a statement that the scheduler signed for another purpose',
    jws: () => signer.sign(claimsOf(now), { typ: 'hostlet-approval+jwt' }),
    code: 'E_AUTH',
    reason: 'type'
  },
  { name: 'no type', jws: () => withHeader({ typ: undefined }), code: 'E_AUTH', reason: 'type' },
  {
    name: 'an unknown key',
    jws: () => signer.sign(claimsOf(now), { kid: 'key-2' }),
    code: 'E_AUTH',
    reason: 'key'
  },
  { name: 'no key id', jws: () => withHeader({ kid: undefined }), code: 'E_AUTH', reason: 'key' },
  {
    name: 'a key id that is a path',
    jws: () => signer.sign(claimsOf(now), { kid: '../../etc/passwd' }),
    code: 'E_AUTH',
    reason: 'key'
  },
  {
    name: "a stranger's key under a known id",
    jws: () => stranger.sign(claimsOf(now)),
    code: 'E_AUTH',
    reason: 'signature'
  },
  {
    name: "the stranger's own key in the header",
    jws: () => stranger.sign(claimsOf(now), { jwk: { ...stranger.publicKey } }),
    code: 'E_AUTH',
    reason: 'header'
  },
  {
    name: 'an address to fetch keys from',
    jws: () => signer.sign(claimsOf(now), { jku: 'https://attacker.example/keys' }),
    code: 'E_AUTH',
    reason: 'header'
  },
  {
    name: 'a certificate chain in the header',
    jws: () => signer.sign(claimsOf(now), { x5c: ['MIIB'] }),
    code: 'E_AUTH',
    reason: 'header'
  },
  {
    name: 'a critical header',
    jws: () => withHeader({ crit: ['exp'], exp: 1 }),
    code: 'E_AUTH',
    reason: 'signature'
  },
  {
    name: 'an unencoded payload (RFC 7797)',
    jws: () => withHeader({ b64: false, crit: ['b64'] }),
    code: 'E_AUTH',
    reason: 'header'
  },
  {
    name: 'a payload that was changed',
    jws: () =>
      withParts(([head = '', , signature = '']) => [
        head,
        encode(claimsOf(now, { verb: 'vm.teardown' })),
        signature
      ]),
    code: 'E_AUTH',
    reason: 'signature'
  },
  {
    name: 'a signature that was cut',
    jws: () =>
      withParts(([head = '', payload = '', signature = '']) => [head, payload, signature.slice(0, 80)]),
    code: 'E_AUTH',
    reason: 'signature'
  },
  {
    name: 'the signature of another command',
    jws: async () => {
      const [, , other = ''] = (await signer.sign(claimsOf(now, { verb: 'vm.list' }))).split('.')
      return withParts(([head = '', payload = '']) => [head, payload, other])
    },
    code: 'E_AUTH',
    reason: 'signature'
  },
  { name: 'two signatures', jws: twoSignatures, code: 'E_BAD_REQUEST' },
  { name: 'an encrypted message (JWE)', jws: () => 'a.b.c.d.e', code: 'E_BAD_REQUEST' },
  { name: 'nothing', jws: () => '', code: 'E_BAD_REQUEST' },
  {
    name: 'what is longer than a command may be',
    jws: () => 'a'.repeat(commandBytesMax + 1),
    code: 'E_BAD_REQUEST'
  },
  {
    name: "another host's command",
    jws: () => signer.sign(claimsOf(now, { audience: 'host-2' })),
    code: 'E_AUTH',
    reason: 'audience'
  },
  {
    name: 'two audiences, the first one another host (the last counts, and is signed)',
    jws: () => signer.sign(duplicated.replace(`"audience":"${hostId}"`, '"audience":"host-2"')),
    code: 'E_AUTH',
    reason: 'audience'
  },
  {
    name: 'an audience that is a list',
    jws: () => signer.sign({ ...claimsOf(now), audience: [hostId, 'host-2'] }),
    code: 'E_BAD_REQUEST'
  },
  {
    name: '__proto__ beside the claims',
    jws: () => signer.sign(text.replace('{', '{"__proto__":{"audience":"host-2"},')),
    code: 'E_BAD_REQUEST'
  },
  {
    name: 'claims that nobody knows',
    jws: () => signer.sign({ ...claimsOf(now), sudo: true }),
    code: 'E_BAD_REQUEST'
  },
  { name: 'a payload that is not JSON', jws: () => signer.sign('{'), code: 'E_BAD_REQUEST' },
  {
    name: 'a payload that is not UTF-8',
    jws: () => withParts(([head = '', , s = '']) => [head, '_w', s]),
    code: 'E_AUTH',
    reason: 'signature'
  },
  {
    name: 'one that has expired',
    jws: () => signer.sign(claimsOf(now, { issuedAt: now - 2 * hourMs, expiresAt: now - hourMs })),
    code: 'E_STALE',
    reason: 'expired'
  },
  {
    name: 'one from the future',
    jws: () => signer.sign(claimsOf(now, { issuedAt: now + hourMs, expiresAt: now + 2 * hourMs })),
    code: 'E_BAD_REQUEST',
    reason: 'clock'
  },
  {
    name: 'one that expires before it was made',
    jws: () => signer.sign(claimsOf(now, { issuedAt: now, expiresAt: now - 1 })),
    code: 'E_BAD_REQUEST',
    reason: 'life'
  },
  {
    name: 'one that lives for ever',
    jws: () => signer.sign(claimsOf(now, { expiresAt: now + 10 * 365 * 24 * hourMs })),
    code: 'E_BAD_REQUEST',
    reason: 'life'
  }
]

describe('a command is refused that is, or has,', () => {
  for (const { name, jws, code, reason } of attacks)
    it(name, async () => {
      owned.length = 0
      const message = await jws()
      // Where the attacker holds a real key, nothing but what the row names may stand in the way.
      const trusting =
        owned.length === 0 ? verifier : new CommandVerifier({ hostId, keys: () => owned, clock })
      const refusal = await refusalOf(trusting, message)
      assert.deepEqual([refusal?.code, refusal?.details.reason], [code, reason], refusal?.message ?? 'taken')
    })

  it('and none of that stands in the way of one that is in order', async () => {
    assert.equal(await refusalOf(verifier, await signer.sign(claimsOf(now))), undefined)
    const claims = claimsOf(now, { arguments: JSON.parse('{"__proto__":{"polluted":true}}') })
    const { claims: read } = await verifier.verify(await signer.sign(claims))
    assert.equal((read.arguments as { polluted?: unknown }).polluted, undefined)
    assert.equal(({} as { polluted?: unknown }).polluted, undefined)
  })
})

async function refusalOf(by: CommandVerifier, jws: string) {
  try {
    by.checkTime((await by.verify(jws)).claims)
    return undefined
  } catch (error) {
    return asHostletError(error)
  }
}
