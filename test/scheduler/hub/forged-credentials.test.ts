// Forged, foreign and worn-out credentials at a real scheduler, over real TLS: each attack with the refusal that it meets.

import '../../../src/lib/reflect-metadata.ts'
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import * as x509 from '@peculiar/x509'
import { failuresMax, failureWindowMs } from '../../../src/scheduler/http/failure-limiter.ts'
import { authorityAt, authorityIn, certificateOf } from '../support/certificates.ts'
import { createKeyPair, createRequest, refusedUpgrade, type TestAgent } from '../support/test-agent.ts'
import { TestScheduler } from '../support/test-scheduler.ts'

const dayMs = 86_400_000
const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const

let scheduler: TestScheduler
let agent: TestAgent
let uri: string

interface Made {
  readonly names?: readonly { type: 'url' | 'dns'; value: string }[]
  readonly usage?: readonly x509.ExtendedKeyUsage[]
  readonly ca?: boolean
  readonly from?: number
  readonly to?: number
  /** `ours`: the key of the fleet's own CA, as an insider could use it; otherwise a key of the attacker. */
  readonly signer?: 'ours' | 'itself' | 'stranger'
}

/** A certificate with exactly these contents, its issuer's name always that of our CA. */
async function make({ names, usage, ca = false, from, to, signer = 'ours' }: Made) {
  const pair = await createKeyPair()
  const authority = new x509.X509Certificate(agent.reply.caCertificate)
  const signingKey =
    signer === 'ours'
      ? await importKey(readFileSync(join(scheduler.directory, 'ca-key.pem'), 'utf8'))
      : (signer === 'itself' ? pair : await createKeyPair()).keys.privateKey
  const certificate = await x509.X509CertificateGenerator.create({
    subject: `CN=${agent.id}`,
    issuer: authority.subject,
    notBefore: new Date(from ?? Date.now() - 60_000),
    notAfter: new Date(to ?? Date.now() + dayMs),
    publicKey: pair.keys.publicKey,
    signingKey,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(ca, undefined, true),
      new x509.ExtendedKeyUsageExtension([...(usage ?? [x509.ExtendedKeyUsage.clientAuth])], false),
      new x509.SubjectAlternativeNameExtension([...(names ?? [{ type: 'url', value: uri }])])
    ]
  })
  return { cert: certificate.toString('pem'), key: pair.keyPem }
}

async function importKey(pem: string): Promise<CryptoKey> {
  const [der] = x509.PemConverter.decode(pem)
  return crypto.subtle.importKey('pkcs8', der ?? new ArrayBuffer(0), algorithm, false, ['sign'])
}

async function ofForeignCa() {
  await using foreign = await authorityAt(Date.now())
  return certificateOf(foreign.authority, agent.id)
}

const url = (value: string) => ({ type: 'url' as const, value })
const { clientAuth, serverAuth } = x509.ExtendedKeyUsage

const attacks: readonly [string, string, () => Promise<{ cert?: string; key?: string }>][] = [
  ['none at all', 'missing-certificate', async () => ({})],
  ['signed by itself', 'foreign-certificate', () => make({ signer: 'itself' })],
  ["signed by a stranger in our CA's name", 'foreign-certificate', () => make({ signer: 'stranger' })],
  ['of another CA of the same name', 'foreign-certificate', ofForeignCa],
  [
    "signed by a stranger in our CA's name, and expired",
    'foreign-certificate',
    () => make({ signer: 'stranger', to: Date.now() - 1_000 })
  ],
  [
    "signed by a stranger in our CA's name, and not valid yet",
    'foreign-certificate',
    () => make({ signer: 'stranger', from: Date.now() + dayMs, to: Date.now() + 2 * dayMs })
  ],
  [
    'signed by another host with the key of its own certificate',
    'foreign-certificate',
    async () => {
      const pair = await createKeyPair()
      const certificate = await x509.X509CertificateGenerator.create({
        subject: 'CN=x',
        issuer: new x509.X509Certificate(agent.reply.certificate).subject,
        notBefore: new Date(Date.now() - 60_000),
        notAfter: new Date(Date.now() + dayMs),
        publicKey: pair.keys.publicKey,
        signingKey: await importKey(agent.keyPem),
        signingAlgorithm: algorithm,
        extensions: [new x509.SubjectAlternativeNameExtension([url(uri)])]
      })
      return { cert: `${certificate.toString('pem')}\n${agent.reply.certificate}`, key: pair.keyPem }
    }
  ],
  ['expired', 'expired-certificate', () => make({ to: Date.now() - 1_000 })],
  [
    'not valid yet',
    'future-certificate',
    () => make({ from: Date.now() + dayMs, to: Date.now() + 2 * dayMs })
  ],
  ['good for servers only', 'foreign-certificate', () => make({ usage: [serverAuth] })],
  [
    'good for servers only, and expired',
    'foreign-certificate',
    () => make({ usage: [serverAuth], to: Date.now() - 1_000 })
  ],
  ['good for servers, too', 'foreign-certificate', () => make({ usage: [clientAuth, serverAuth] })],
  ['that of a CA', 'foreign-certificate', () => make({ ca: true })],
  [
    "the scheduler's own",
    'foreign-certificate',
    async () => ({
      cert: readFileSync(join(scheduler.directory, 'server.pem'), 'utf8'),
      key: readFileSync(join(scheduler.directory, 'server-key.pem'), 'utf8')
    })
  ],
  [
    "the authority's own",
    'foreign-certificate',
    async () => ({
      cert: readFileSync(join(scheduler.directory, 'ca.pem'), 'utf8'),
      key: readFileSync(join(scheduler.directory, 'ca-key.pem'), 'utf8')
    })
  ],
  ['without a name', 'wrong-identity', () => make({ names: [{ type: 'dns', value: 'kvm-1' }] })],
  ['with two names', 'wrong-identity', () => make({ names: [url(uri), url(`${uri}-2`)] })],
  ['with its name twice', 'wrong-identity', () => make({ names: [url(uri), url(uri)] })],
  [
    'of another trust domain',
    'wrong-identity',
    () => make({ names: [url(`spiffe://elsewhere.internal/host/${agent.id}`)] })
  ],
  [
    'of a trust domain that begins as ours does',
    'wrong-identity',
    () => make({ names: [url(`spiffe://hostlet.internal.attacker.example/host/${agent.id}`)] })
  ],
  [
    "with a scheduler's name",
    'wrong-identity',
    () => make({ names: [url('spiffe://hostlet.internal/scheduler/main')] })
  ],
  ['with a path behind the id', 'wrong-identity', () => make({ names: [url(`${uri}/../other`)] })],
  ['with a line break in the id', 'wrong-identity', () => make({ names: [url(`${uri}\n`)] })],
  ['with a query behind the id', 'wrong-identity', () => make({ names: [url(`${uri}?x`)] })],
  ['with capital letters', 'wrong-identity', () => make({ names: [url(uri.toUpperCase())] })],
  [
    'of a host that nobody enrolled',
    'unknown-host',
    () => make({ names: [url('spiffe://hostlet.internal/host/stranger')] })
  ],
  [
    'older than the last that the host has used',
    'superseded-certificate',
    async () => certificateOf(await authorityIn(scheduler.directory, Date.now() - dayMs), agent.id)
  ]
]

describe('no agent socket is opened with a certificate', { timeout: 60_000 }, () => {
  before(async () => {
    scheduler = await TestScheduler.start()
    agent = await scheduler.enroll()
    uri = `spiffe://hostlet.internal/host/${agent.id}`
  })
  after(() => scheduler[Symbol.asyncDispose]())

  for (const [index, [what, reason, credential]] of attacks.entries())
    it(what, async () => {
      // Else the address would be told to wait, not why.
      if (index % failuresMax === failuresMax - 1) await scheduler.clock.advance(failureWindowMs)
      const tls = { ca: agent.reply.caCertificate, ...(await credential()) }
      const { status, body } = await refusedUpgrade(agent.url, tls)
      const { error } = body as { error: { code: string; message: string; details: { reason: string } } }
      assert.deepEqual([status, error.code, error.details.reason], [401, 'E_AUTH', reason], error.message)
      // Renewal asks the same: the grace is for the last certificate on record only.
      const json = { certificateRequest: await createRequest(await createKeyPair()) }
      const api = scheduler.apiWith(undefined)
      const renewal = await api.failure({ method: 'POST', path: '/v1/renew', json, tls })
      assert.deepEqual([renewal.code, renewal.details?.reason], ['E_AUTH', reason], renewal.message)
    })

  it('and the certificate that enrollment gave opens one', async () => {
    assert.equal((await agent.connect()).type, 'welcome')
    await agent.disconnect()
  })
})
