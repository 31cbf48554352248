// Enrollment against a real TLS server: the token is shown to nobody but the scheduler that the hash stands for.

import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, beforeEach, describe, it } from 'node:test'
import { enroll } from '../../../src/agent/identity/enroll.ts'
import { identityPath, loadIdentity } from '../../../src/agent/identity/identity.ts'
import type { EnrollmentRequest } from '../../../src/protocol/enrollment.ts'
import { type Pair, TestAuthority, trustDomain } from '../../support/test-authority.ts'
import { TestScheduler, type TestSchedulerOptions } from '../../support/test-scheduler.ts'

const token = 'test-token-0123456789'
const commandKeys = [{ kty: 'OKP', crv: 'Ed25519', kid: 'key-1', x: 'A'.repeat(43) }]

describe('enrollment', () => {
  let authority: TestAuthority
  let server: Pair
  let root: string
  let stateDirectory: string

  before(async () => {
    authority = await TestAuthority.create()
    server = await authority.issue({ usage: 'server', names: ['127.0.0.1'] })
    root = mkdtempSync(join(tmpdir(), 'hostlet-enroll-'))
  })
  after(() => rmSync(root, { recursive: true }))
  beforeEach(() => {
    stateDirectory = mkdtempSync(join(root, 'state-'))
  })

  const accept = async (_path: string, body: unknown) => ({
    status: 200,
    body: await replyTo(body as EnrollmentRequest)
  })
  async function replyTo({ certificateRequest }: EnrollmentRequest) {
    const uris = [`spiffe://${trustDomain}/host/host-1`]
    return {
      hostId: 'host-1',
      trustDomain,
      certificate: await authority.certifyRequest(certificateRequest, { uris }),
      caCertificate: authority.certificate,
      commandKeys,
      schedulerUrls: ['wss://127.0.0.1:7443/v1/agent']
    }
  }

  const listen = (options: Partial<TestSchedulerOptions> = {}) =>
    TestScheduler.listen({ authority, server, reply: accept, ...options })
  const join_ = (scheduler: TestScheduler, changes: Partial<Parameters<typeof enroll>[0]> = {}) =>
    enroll({ schedulerUrl: scheduler.url, token, caHash: authority.caHash, stateDirectory, ...changes })

  it('leaves a certificate for a key that never left this host, readable by its owner only', async () => {
    await using scheduler = await listen()
    const identity = await join_(scheduler)
    assert.equal(identity.hostId, 'host-1')
    assert.deepEqual(loadIdentity(stateDirectory), identity)
    assert.equal(statSync(identityPath(stateDirectory)).mode & 0o777, 0o600)
    assert.equal(statSync(stateDirectory).mode & 0o777, 0o700)
    const certificate = new X509Certificate(identity.certificate)
    assert.equal(certificate.publicKey.asymmetricKeyDetails?.namedCurve, 'prime256v1')
    const [post] = scheduler.posts as EnrollmentRequest[]
    assert.equal(post?.token, token)
    assert.ok(!JSON.stringify(scheduler.posts).includes('PRIVATE KEY'))
    assert.ok(!readFileSync(identityPath(stateDirectory), 'utf8').includes(token))
  })

  it('shows its token to no server whose CA has another hash', async () => {
    const other = await TestAuthority.create()
    await using scheduler = await listen()
    await assert.rejects(join_(scheduler, { caHash: other.caHash }), {
      code: 'E_AUTH',
      message: /shows no CA with the hash/,
      details: { reason: 'wrong-ca' }
    })
    assert.deepEqual(scheduler.posts, [])
  })

  it('shows its token to no server that only carries the CA along', async () => {
    const other = await TestAuthority.create()
    const foreign = await other.issue({ usage: 'server', names: ['127.0.0.1'] })
    // The right CA stands in the chain, but did not sign the server's certificate.
    await using scheduler = await listen({ server: { ...foreign, cert: foreign.cert } })
    await assert.rejects(join_(scheduler), { code: 'E_AUTH' })
    assert.deepEqual(scheduler.posts, [])
  })

  it('shows its token to no server of the fleet with another name, not even to a host', async () => {
    for (const options of [
      { usage: 'server', names: ['elsewhere.example'] },
      { usage: 'client', names: ['127.0.0.1'], uris: [`spiffe://${trustDomain}/host/host-2`] }
    ] as const) {
      await using scheduler = await listen({ server: await authority.issue(options) })
      await assert.rejects(join_(scheduler), { code: 'E_AUTH' })
      assert.deepEqual(scheduler.posts, [])
    }
  })

  it('shows its token to no server whose certificate has expired', async () => {
    const expired = { usage: 'server', names: ['127.0.0.1'], from: 0, to: Date.now() - 1_000 } as const
    await using scheduler = await listen({ server: await authority.issue(expired) })
    await assert.rejects(join_(scheduler), { code: 'E_AUTH', message: /has expired/ })
    assert.deepEqual(scheduler.posts, [])
  })

  it('does not replace an identity, unless it is told to', async () => {
    await using scheduler = await listen()
    const first = await join_(scheduler)
    await assert.rejects(join_(scheduler), { code: 'E_CONFLICT', message: /--force/ })
    assert.deepEqual(loadIdentity(stateDirectory), first)
    const second = await join_(scheduler, { force: true })
    assert.notEqual(second.key, first.key)
    assert.deepEqual(loadIdentity(stateDirectory), second)
  })

  it('passes on why the scheduler refuses, and leaves nothing', async () => {
    const refuse = async () => ({
      status: 401,
      body: { error: { code: 'E_AUTH', message: 'the token was used already' } }
    })
    await using scheduler = await listen({ reply: refuse })
    await assert.rejects(join_(scheduler), { code: 'E_AUTH', message: 'the token was used already' })
    assert.throws(() => loadIdentity(stateDirectory), { code: 'E_NOT_FOUND', details: { reason: 'missing' } })
  })

  it('refuses an answer with another CA, another key, or a shape of its own', async () => {
    const other = await TestAuthority.create()
    const wrong: Record<string, (body: EnrollmentRequest) => Promise<object>> = {
      'another CA': async (body) => ({ ...(await replyTo(body)), caCertificate: other.certificate }),
      'another key': async (body) => ({
        ...(await replyTo(body)),
        certificate: (await authority.identity()).certificate
      }),
      'another shape': async () => ({ hostId: 'host-1' })
    }
    for (const [what, answer] of Object.entries(wrong)) {
      const reply = async (_path: string, body: unknown) => ({
        status: 200,
        body: await answer(body as EnrollmentRequest)
      })
      await using scheduler = await listen({ reply })
      await assert.rejects(join_(scheduler), /./, what)
      assert.throws(() => loadIdentity(stateDirectory), { code: 'E_NOT_FOUND' }, what)
    }
  })

  it('says that nobody listens, and what an address looks like', async () => {
    await assert.rejects(
      enroll({ schedulerUrl: 'https://127.0.0.1:9', token, caHash: authority.caHash, stateDirectory }),
      { code: 'E_UNAVAILABLE', message: /nothing listens/ }
    )
    await assert.rejects(
      enroll({ schedulerUrl: 'http://127.0.0.1:9', token, caHash: authority.caHash, stateDirectory }),
      { code: 'E_BAD_REQUEST', message: /https:/ }
    )
    await assert.rejects(
      enroll({ schedulerUrl: 'https://127.0.0.1:9', token, caHash: 'sha256:short', stateDirectory }),
      { code: 'E_BAD_REQUEST' }
    )
  })

  it('refuses an identity that is damaged', async () => {
    await using scheduler = await listen()
    await join_(scheduler)
    const { writePrivateFile } = await import('../../../src/lib/private-file.ts')
    writePrivateFile(identityPath(stateDirectory), '{"hostId":')
    assert.throws(() => loadIdentity(stateDirectory), { code: 'E_CORRUPT' })
  })
})
