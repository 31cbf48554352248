// Enrollment over real TLS: what a token and a request get, and why others get nothing.

import '../../src/lib/reflect-metadata.ts'
import assert from 'node:assert/strict'
import { createHash, X509Certificate } from 'node:crypto'
import { describe, it } from 'node:test'
import { Pkcs10CertificateRequestGenerator, SubjectAlternativeNameExtension } from '@peculiar/x509'
import type { HostList, TokenList } from '../../src/protocol/api.ts'
import { EnrollmentReply } from '../../src/protocol/enrollment.ts'
import { decodeJoinToken } from '../../src/protocol/join-token.ts'
import { compile } from '../../src/protocol/validate.ts'
import { createKeyPair, createRequest } from './support/test-agent.ts'
import { TestScheduler } from './support/test-scheduler.ts'

const readReply = compile(EnrollmentReply, 'reply')
const minuteMs = 60_000

async function requestBody(token: string, change: Record<string, unknown> = {}) {
  const certificateRequest = await createRequest(await createKeyPair())
  return { token, certificateRequest, hostname: 'kvm-7.example.org', agentVersion: '0.1.0', ...change }
}

describe('enrollment', { timeout: 60_000 }, () => {
  it('gives a host its certificate, the authority and the command key', async () => {
    await using scheduler = await TestScheduler.start()
    const created = await scheduler.token()
    const body = await requestBody(created.token)
    const reply = readReply(await scheduler.apiWith(undefined).post('/v1/enroll', body))

    assert.equal(reply.hostId, 'kvm-7-example-org')
    const certificate = new X509Certificate(reply.certificate)
    const authority = new X509Certificate(reply.caCertificate)
    assert.equal(certificate.subjectAltName, 'URI:spiffe://hostlet.internal/host/kvm-7-example-org')
    assert.ok(certificate.verify(authority.publicKey))
    assert.deepEqual(certificate.keyUsage, ['1.3.6.1.5.5.7.3.2'])
    assert.equal(certificate.ca, false)
    const lifeMs = certificate.validToDate.getTime() - scheduler.clock.now()
    assert.ok(Math.abs(lifeMs - 7 * 24 * 60 * minuteMs) < minuteMs, `lives ${lifeMs} ms`)
    assert.deepEqual(reply.schedulerUrls, [`${scheduler.running.url.replace('https', 'wss')}/v1/agent`])

    const spki = authority.publicKey.export({ type: 'spki', format: 'der' })
    assert.equal(created.caHash, `sha256:${createHash('sha256').update(spki).digest('hex')}`)
    assert.ok(created.command.endsWith(` <<< ${created.join}`))
    const { urls, caHash, token } = decodeJoinToken(created.join)
    assert.deepEqual([urls[0], caHash, token], [created.url, created.caHash, created.token])
    const { hosts } = await scheduler.api.get<HostList>('/v1/hosts')
    assert.deepEqual(
      hosts.map(({ id, state }) => ({ id, state })),
      [{ id: 'kvm-7-example-org', state: 'new' }]
    )
  })

  it('takes only the key of the request: asked-for names and uses are not granted', async () => {
    await using scheduler = await TestScheduler.start()
    const pair = await createKeyPair()
    const greedy = await Pkcs10CertificateRequestGenerator.create({
      name: 'CN=scheduler',
      keys: pair.keys,
      signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
      extensions: [
        new SubjectAlternativeNameExtension([
          { type: 'dns', value: 'localhost' },
          { type: 'url', value: 'spiffe://hostlet.internal/host/other' }
        ])
      ]
    })
    const { token } = await scheduler.token()
    const body = await requestBody(token, { certificateRequest: greedy.toString('pem') })
    const reply = await scheduler.apiWith(undefined).post<EnrollmentReply>('/v1/enroll', body)
    const certificate = new X509Certificate(reply.certificate)
    assert.equal(certificate.subjectAltName, 'URI:spiffe://hostlet.internal/host/kvm-7-example-org')
    assert.equal(certificate.subject, 'CN=kvm-7-example-org')
  })

  it('uses a token once', async () => {
    await using scheduler = await TestScheduler.start()
    const { token } = await scheduler.token()
    const api = scheduler.apiWith(undefined)
    await api.post('/v1/enroll', await requestBody(token))
    const failure = await api.failure({ method: 'POST', path: '/v1/enroll', json: await requestBody(token) })
    assert.equal(failure.status, 401)
    assert.equal(failure.code, 'E_AUTH')
    assert.deepEqual(failure.details, { reason: 'used-token' })
    const { tokens } = await scheduler.api.get<TokenList>('/v1/tokens')
    assert.equal(tokens[0]?.state, 'used')
    assert.equal(tokens[0]?.host, 'kvm-7-example-org')
  })

  it('lets one of two claimants of a token in, and only one', async () => {
    await using scheduler = await TestScheduler.start()
    const { token } = await scheduler.token()
    const api = scheduler.apiWith(undefined)
    const bodies = [await requestBody(token, { hostname: 'a' }), await requestBody(token, { hostname: 'b' })]
    const answers = await Promise.all(
      bodies.map((json) => api.ask({ method: 'POST', path: '/v1/enroll', json }))
    )
    assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 401])
    const { hosts } = await scheduler.api.get<HostList>('/v1/hosts')
    assert.equal(hosts.length, 1)
  })

  it('refuses a token after its time', async () => {
    await using scheduler = await TestScheduler.start()
    const { token } = await scheduler.token({ ttlSeconds: 60 })
    await scheduler.clock.advance(minuteMs)
    const failure = await scheduler
      .apiWith(undefined)
      .failure({ method: 'POST', path: '/v1/enroll', json: await requestBody(token) })
    assert.deepEqual(failure.details, { reason: 'expired-token' })
  })

  it('refuses a token that was never made, or was taken back', async () => {
    await using scheduler = await TestScheduler.start()
    const { id, token } = await scheduler.token()
    await scheduler.api.delete(`/v1/tokens/${id}`)
    for (const wrong of [token, `hlt_${'x'.repeat(43)}`]) {
      const failure = await scheduler
        .apiWith(undefined)
        .failure({ method: 'POST', path: '/v1/enroll', json: await requestBody(wrong) })
      assert.equal(failure.code, 'E_AUTH')
      assert.deepEqual(failure.details, { reason: 'unknown-token' })
    }
  })

  it('refuses a bad certificate request and leaves the token unused', async () => {
    await using scheduler = await TestScheduler.start()
    const { token } = await scheduler.token()
    const api = scheduler.apiWith(undefined)
    const stolen = await withStolenKey()
    const otherCurve = await withOtherCurve()
    for (const certificateRequest of ['', 'not a request', stolen, otherCurve]) {
      const json = await requestBody(token, { certificateRequest })
      const failure = await api.failure({ method: 'POST', path: '/v1/enroll', json })
      assert.equal(failure.status, 400)
      assert.equal(failure.code, 'E_BAD_REQUEST')
      assert.deepEqual(failure.details, { reason: 'certificate-request' })
    }
    await api.post('/v1/enroll', await requestBody(token))
  })

  it('gives a second host of the same name another id', async () => {
    await using scheduler = await TestScheduler.start()
    const first = await scheduler.enroll('KVM 7')
    const second = await scheduler.enroll('KVM 7')
    assert.equal(first.id, 'kvm-7')
    assert.match(second.id, /^kvm-7-[0-9a-f]{8}$/)
  })

  it('renews a certificate over the present one, with another key', async () => {
    await using scheduler = await TestScheduler.start()
    const agent = await scheduler.enroll()
    const pair = await createKeyPair()
    const api = scheduler.apiWith(undefined)
    const json = { certificateRequest: await createRequest(pair) }
    const anonymous = await api.failure({ method: 'POST', path: '/v1/renew', json })
    assert.deepEqual(anonymous.details, { reason: 'missing-certificate' })

    const reply = await api.post<EnrollmentReply>('/v1/renew', json, {
      tls: { cert: agent.reply.certificate, key: agent.keyPem }
    })
    assert.equal(reply.hostId, agent.id)
    const renewed = new X509Certificate(reply.certificate)
    const exported = await crypto.subtle.exportKey('spki', pair.keys.publicKey)
    assert.ok(renewed.publicKey.export({ type: 'spki', format: 'der' }).equals(Buffer.from(exported)))
  })

  it('keeps tokens and keys out of the log', async () => {
    await using scheduler = await TestScheduler.start()
    const { token } = await scheduler.token()
    const api = scheduler.apiWith(undefined)
    await api.post('/v1/enroll', await requestBody(token))
    await api.ask({ method: 'POST', path: '/v1/enroll', json: await requestBody(token) })
    const text = scheduler.log.text()
    assert.match(text, /host enrolled/)
    assert.ok(!text.includes(token))
    assert.ok(!text.includes(scheduler.adminKey))
  })
})

/** A request that shows somebody else's public key: signed, but not by that key. */
async function withStolenKey(): Promise<string> {
  const [own, victim] = [await createKeyPair(), await createKeyPair()]
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: 'CN=x',
    keys: { publicKey: victim.keys.publicKey, privateKey: own.keys.privateKey },
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' }
  })
  return request.toString('pem')
}

async function withOtherCurve(): Promise<string> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' }
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: 'CN=x',
    keys,
    signingAlgorithm: algorithm
  })
  return request.toString('pem')
}
