// Hosts that were off past the end of their certificate, over real TLS: what the grace allows, and to whom.

import assert from 'node:assert/strict'
import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { silentLogger } from '../../../src/lib/log.ts'
import type { HostDetail } from '../../../src/protocol/api.ts'
import type { EnrollmentReply } from '../../../src/protocol/enrollment.ts'
import { Authority } from '../../../src/scheduler/identity/authority.ts'
import { authorityAt, certificateOf } from '../support/certificates.ts'
import { createKeyPair, createRequest, refusedUpgrade, TestAgent } from '../support/test-agent.ts'
import { TestScheduler } from '../support/test-scheduler.ts'

const dayMs = 86_400_000

/** A scheduler whose clock was set back that far, a host that enrolled then, and the clock right again. */
async function withHostOf(daysAgo: number, graceDays?: number) {
  const scheduler = await TestScheduler.start(
    (config) =>
      graceDays === undefined
        ? config
        : { ...config, certificates: { ...config.certificates, renewalGraceMs: graceDays * dayMs } },
    Date.now() - daysAgo * dayMs
  )
  const agent = await scheduler.enroll()
  scheduler.clock.jump(daysAgo * dayMs)
  return { scheduler, agent, [Symbol.asyncDispose]: () => scheduler[Symbol.asyncDispose]() }
}

interface Credential {
  readonly cert: string
  readonly key: string
}

const credentialOf = ({ reply, keyPem }: TestAgent): Credential => ({ cert: reply.certificate, key: keyPem })

async function renew(scheduler: TestScheduler, tls: Credential): Promise<Credential> {
  const pair = await createKeyPair()
  const json = { certificateRequest: await createRequest(pair) }
  const reply = await scheduler.apiWith(undefined).post<EnrollmentReply>('/v1/renew', json, { tls })
  return { cert: reply.certificate, key: pair.keyPem }
}

async function refusedRenewal(scheduler: TestScheduler, tls: Credential) {
  const json = { certificateRequest: await createRequest(await createKeyPair()) }
  return scheduler.apiWith(undefined).failure({ method: 'POST', path: '/v1/renew', json, tls })
}

async function refusedSocket(agent: TestAgent, { cert, key }: Credential): Promise<unknown> {
  const { status, body } = await refusedUpgrade(agent.url, { ca: agent.reply.caCertificate, cert, key })
  assert.equal(status, 401)
  return (body as { error: { details: { reason: string } } }).error.details.reason
}

async function connectWith(agent: TestAgent, { cert, key }: Credential): Promise<void> {
  const fresh = new TestAgent({
    reply: { ...agent.reply, certificate: cert },
    keyPem: key,
    address: () => agent.url.replace('wss:', 'https:').replace('/v1/agent', '')
  })
  await fresh.connect()
  await fresh.disconnect()
}

describe('a host whose certificate expired while it was off', { timeout: 60_000 }, () => {
  it('may renew it within the grace, connects with the new one, and could do nothing else with the old one', async () => {
    await using fleet = await withHostOf(20)
    const { scheduler, agent } = fleet
    assert.equal(await refusedSocket(agent, credentialOf(agent)), 'expired-certificate')
    const renewed = await renew(scheduler, credentialOf(agent))
    assert.equal(await refusedSocket(agent, credentialOf(agent)), 'expired-certificate')
    await connectWith(agent, renewed)
    const { host } = await scheduler.api.get<HostDetail>(`/v1/hosts/${agent.id}`)
    assert.ok(host.certificateExpiresAt > Date.now() + 6 * dayMs)
  })

  it('is told of the grace, and to enroll anew, when that is over', async () => {
    await using fleet = await withHostOf(38)
    const { code, status, details, message } = await refusedRenewal(
      fleet.scheduler,
      credentialOf(fleet.agent)
    )
    assert.deepEqual([code, status, details?.reason], ['E_AUTH', 401, 'expired-certificate'])
    assert.match(message, /grace of 30 days.*hostlet host token.*hostlet enroll --force/)
  })

  it('has no grace where the operator gives none', async () => {
    await using fleet = await withHostOf(8, 0)
    const { details } = await refusedRenewal(fleet.scheduler, credentialOf(fleet.agent))
    assert.equal(details?.reason, 'expired-certificate')
  })

  it('may not renew once it is revoked', async () => {
    await using fleet = await withHostOf(20)
    await fleet.scheduler.api.delete(`/v1/hosts/${fleet.agent.id}`)
    const { details } = await refusedRenewal(fleet.scheduler, credentialOf(fleet.agent))
    assert.equal(details?.reason, 'revoked-host')
  })

  it('may renew with no certificate but its last', async () => {
    await using fleet = await withHostOf(20)
    const { scheduler, agent } = fleet
    const second = await renew(scheduler, credentialOf(agent))
    await connectWith(agent, second)
    const { code, details, message } = await refusedRenewal(scheduler, credentialOf(agent))
    assert.deepEqual([code, details?.reason], ['E_AUTH', 'superseded-certificate'])
    assert.match(message, /copy.*hostlet host token/)
  })

  // Of an expired certificate TLS says that it has expired, and nothing of what else is wrong with it.
  it('is not whoever shows an expired certificate of another authority of the same name', async () => {
    await using fleet = await withHostOf(20)
    const { scheduler, agent } = fleet
    await using foreign = await authorityAt(Date.now() - 20 * dayMs)
    const { details } = await refusedRenewal(scheduler, await certificateOf(foreign.authority, agent.id))
    assert.equal(details?.reason, 'foreign-certificate')
  })

  it("is not whoever shows the scheduler's own expired certificate", async () => {
    await using fleet = await withHostOf(20)
    const { scheduler } = fleet
    const past = await Authority.open({
      directory: scheduler.directory,
      trustDomain: 'hostlet.internal',
      authorityMs: 3_650 * dayMs,
      serverMs: dayMs,
      hostMs: dayMs,
      clock: { now: () => Date.now() - 20 * dayMs },
      log: silentLogger
    })
    const { certificatePem, keyPem } = await past.serverCertificate(['another.name'])
    const { details } = await refusedRenewal(scheduler, { cert: certificatePem, key: keyPem })
    assert.equal(details?.reason, 'foreign-certificate')
  })
})

describe('the certificate of a host', { timeout: 60_000 }, () => {
  it('serves on after a renewal whose answer was lost, until the new one is used', async () => {
    await using scheduler = await TestScheduler.start()
    const agent = await scheduler.enroll()
    await renew(scheduler, credentialOf(agent))
    await connectWith(agent, credentialOf(agent))
    const second = await renew(scheduler, credentialOf(agent))
    await connectWith(agent, second)
    assert.equal(await refusedSocket(agent, credentialOf(agent)), 'superseded-certificate')
    await connectWith(agent, second)
  })

  it('that was given to nobody after all counts no more once its host has another', async () => {
    await using scheduler = await TestScheduler.start()
    const agent = await scheduler.enroll()
    const lost = await renew(scheduler, credentialOf(agent))
    scheduler.clock.jump(2_000)
    const kept = await renew(scheduler, credentialOf(agent))
    assert.equal(await refusedSocket(agent, lost), 'superseded-certificate')
    await connectWith(agent, kept)
  })

  it('is known again when the store was put back from an older backup', async () => {
    await using scheduler = await TestScheduler.start()
    const agent = await scheduler.enroll()
    await scheduler.stop()
    const backup = join(scheduler.directory, 'backup')
    copyFileSync(join(scheduler.directory, 'scheduler.db'), backup)
    await scheduler.startAgain()
    scheduler.clock.jump(2_000)
    const renewed = await renew(scheduler, credentialOf(agent))
    await connectWith(agent, renewed)
    await scheduler.stop()
    copyFileSync(backup, join(scheduler.directory, 'scheduler.db'))
    await scheduler.startAgain()
    await connectWith(agent, renewed)
    assert.equal(await refusedSocket(agent, credentialOf(agent)), 'superseded-certificate')
  })
})
