// Who may open an agent socket, over real TLS: each refusal names its own reason.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { connect } from 'node:tls'
import { authorityIn, certificateOf } from '../support/certificates.ts'
import { refusedUpgrade, type TestAgent } from '../support/test-agent.ts'
import { TestScheduler } from '../support/test-scheduler.ts'

const dayMs = 86_400_000

describe('agent socket: who may open it', { timeout: 60_000 }, () => {
  let scheduler: TestScheduler
  let agent: TestAgent
  let ca: string

  before(async () => {
    scheduler = await TestScheduler.start()
    agent = await scheduler.enroll()
    ca = agent.reply.caCertificate
  })
  after(() => scheduler[Symbol.asyncDispose]())

  async function reasonFor(tls: { cert?: string; key?: string }): Promise<unknown> {
    const { status, body } = await refusedUpgrade(agent.url, { ca, ...tls })
    assert.equal(status, 401)
    const { error } = body as { error: { code: string; details: { reason: string } } }
    assert.equal(error.code, 'E_AUTH')
    return error.details.reason
  }

  it('lets an enrolled host in', async () => {
    assert.equal((await agent.connect()).type, 'welcome')
    await agent.disconnect()
  })

  it('refuses without a certificate', async () => {
    assert.equal(await reasonFor({}), 'missing-certificate')
  })

  it('refuses an expired certificate', async () => {
    const past = await authorityIn(scheduler.directory, Date.now() - 30 * dayMs)
    assert.equal(await reasonFor(await certificateOf(past, agent.id)), 'expired-certificate')
  })

  it('refuses a certificate that is not valid yet', async () => {
    const future = await authorityIn(scheduler.directory, Date.now() + 30 * dayMs)
    assert.equal(await reasonFor(await certificateOf(future, agent.id)), 'future-certificate')
  })

  it('refuses a certificate of another authority', async () => {
    const elsewhere = mkdtempSync(join(tmpdir(), 'hostlet-authority-'))
    try {
      const foreign = await authorityIn(elsewhere, Date.now())
      assert.equal(await reasonFor(await certificateOf(foreign, agent.id)), 'foreign-certificate')
    } finally {
      rmSync(elsewhere, { recursive: true })
    }
  })

  it('refuses a certificate of another trust domain', async () => {
    const other = await authorityIn(scheduler.directory, Date.now(), 'elsewhere.internal')
    assert.equal(await reasonFor(await certificateOf(other, agent.id)), 'wrong-identity')
  })

  it("refuses the scheduler's own certificate as a host's", async () => {
    const authority = await authorityIn(scheduler.directory, Date.now())
    const { certificatePem, keyPem } = await authority.serverCertificate(['localhost', '127.0.0.1'])
    assert.equal(await reasonFor({ cert: certificatePem, key: keyPem }), 'foreign-certificate')
  })

  it('refuses a host that was never enrolled', async () => {
    const authority = await authorityIn(scheduler.directory, Date.now())
    assert.equal(await reasonFor(await certificateOf(authority, 'stranger')), 'unknown-host')
  })

  it('cuts off a revoked host and refuses it from then on', async () => {
    const doomed = await scheduler.enroll('doomed')
    await doomed.connect()
    const closed = doomed.closed()
    await scheduler.api.delete(`/v1/hosts/${doomed.id}`)
    assert.equal((await closed).code, 4003)
    assert.equal(await reasonFor({ cert: doomed.reply.certificate, key: doomed.keyPem }), 'revoked-host')
    const again = await scheduler.api.failure({ method: 'DELETE', path: `/v1/hosts/${doomed.id}` })
    assert.equal(again.code, 'E_CONFLICT')
  })

  it('refuses another path and another subprotocol', async () => {
    const tls = { ca, cert: agent.reply.certificate, key: agent.keyPem }
    const path = await refusedUpgrade(agent.url.replace('/v1/agent', '/v1/other'), tls)
    assert.equal(path.status, 404)
    const protocol = await refusedUpgrade(agent.url, tls, ['hostlet.v0'])
    assert.equal(protocol.status, 501)
    assert.match(JSON.stringify(protocol.body), /E_UNSUPPORTED.*hostlet\.v1/)
  })

  it('speaks nothing older than TLS 1.3', async () => {
    const { port } = new URL(scheduler.running.url)
    const refused = await new Promise<{ code?: string }>((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port: Number(port), ca, maxVersion: 'TLSv1.2' })
      socket.on('error', resolve)
      socket.on('secureConnect', () => reject(new Error(`spoke ${socket.getProtocol()}`)))
    })
    assert.equal(refused.code, 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION')
  })
})
