// Join tokens under attack and in bad luck, over real TLS: races between processes, guesses, answers that are lost.

import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import { enroll } from '../../src/agent/identity/enroll.ts'
import { silentLogger } from '../../src/lib/log.ts'
import type { HostList } from '../../src/protocol/api.ts'
import type { EnrollmentReply } from '../../src/protocol/enrollment.ts'
import { startScheduler } from '../../src/scheduler/app.ts'
import { failuresMax } from '../../src/scheduler/http/failure-limiter.ts'
import { BreakingProxy } from '../support/breaking-proxy.ts'
import { HostAgent } from '../support/host-agent.ts'
import { ApiClient } from './support/api-client.ts'
import { createKeyPair, createRequest, type KeyPair } from './support/test-agent.ts'
import { defaultConfig, TestScheduler } from './support/test-scheduler.ts'

const claimants = 8

async function bodyOf(token: string, hostname: string, pair?: KeyPair) {
  const certificateRequest = await createRequest(pair ?? (await createKeyPair()))
  return { token, certificateRequest, hostname, agentVersion: '0.1.0' }
}

describe('a join token', { timeout: 60_000 }, () => {
  let scheduler: TestScheduler
  before(async () => {
    scheduler = await TestScheduler.start()
  })
  after(() => scheduler[Symbol.asyncDispose]())

  const hosts = async () => (await scheduler.api.get<HostList>('/v1/hosts')).hosts.map(({ id }) => id)
  const refusedFor = async (json: unknown) =>
    scheduler.apiWith(undefined).failure({ method: 'POST', path: '/v1/enroll', json })

  it('lets one of many claimants in who come to two processes at the same instant', async () => {
    const second = await startScheduler(defaultConfig(scheduler.directory), {
      clock: scheduler.clock,
      log: silentLogger
    })
    try {
      const { token } = await scheduler.token()
      const apis = [scheduler.apiWith(undefined), new ApiClient({ url: second.url, caFile: second.caFile })]
      const bodies = await Promise.all(
        Array.from({ length: claimants }, (_, index) => bodyOf(token, `racer-${index}`))
      )
      const answers = await Promise.all(
        bodies.map((json, index) => apis[index % 2]?.ask({ method: 'POST', path: '/v1/enroll', json }))
      )
      const statuses = answers.map((answer) => answer?.status).sort()
      assert.deepEqual(statuses, [200, ...Array.from({ length: claimants - 1 }, () => 401)])
      for (const answer of answers)
        if (answer?.status === 401) assert.match(JSON.stringify(answer.body), /used-token/)
      assert.equal((await hosts()).filter((id) => id.startsWith('racer-')).length, 1)
    } finally {
      await second.stop()
    }
  })

  it('answers the same key again within its time, as the same host, and no other key', async () => {
    const { token } = await scheduler.token()
    const pair = await createKeyPair()
    const api = scheduler.apiWith(undefined)
    const first = await api.post<EnrollmentReply>('/v1/enroll', await bodyOf(token, 'kvm-again', pair))
    const again = await api.post<EnrollmentReply>('/v1/enroll', await bodyOf(token, 'kvm-again', pair))
    assert.equal(again.hostId, first.hostId)
    assert.ok(
      new X509Certificate(again.certificate).publicKey.equals(
        new X509Certificate(first.certificate).publicKey
      )
    )
    const other = await refusedFor(await bodyOf(token, 'kvm-again'))
    assert.deepEqual([other.code, other.details?.reason], ['E_AUTH', 'used-token'])
    assert.match(other.message, /by host kvm-again.*hostlet host rm kvm-again.*hostlet host token/)
    assert.equal((await hosts()).filter((id) => id.startsWith('kvm-again')).length, 1)
  })

  it('answers the same key no more once the host is revoked', async () => {
    const { token } = await scheduler.token()
    const pair = await createKeyPair()
    await scheduler.apiWith(undefined).post('/v1/enroll', await bodyOf(token, 'kvm-gone', pair))
    await scheduler.api.delete('/v1/hosts/kvm-gone')
    const { details } = await refusedFor(await bodyOf(token, 'kvm-gone', pair))
    assert.equal(details?.reason, 'used-token')
  })

  it('is not lost with the answer: the agent asks again with the same key', async () => {
    await using proxy = await BreakingProxy.start(scheduler.running.port)
    await using host = new HostAgent()
    const { token, caHash } = await scheduler.token()
    // The first connection looks at the CA. The second is cut in the answer: the handshake takes some 1.5 KB of what comes down.
    proxy.break(
      { kind: 'cut', direction: 'down', afterBytes: 1_000_000 },
      { kind: 'cut', direction: 'down', afterBytes: 3_000 }
    )
    const identity = await enroll({
      schedulerUrl: proxy.endpoint.replace('http:', 'https:'),
      ...{ token, caHash, stateDirectory: host.stateDirectory, hostname: 'kvm-lost' }
    })
    assert.equal(identity.hostId, 'kvm-lost')
    assert.equal(proxy.connections, 3)
    assert.match(scheduler.log.text(), /host asked for its enrollment again/)
    assert.deepEqual(
      (await hosts()).filter((id) => id.startsWith('kvm-lost')),
      ['kvm-lost']
    )
  })

  it('cannot be guessed at will: an address that tries too often is told to wait, and the right token passes', async () => {
    await using lone = await TestScheduler.start()
    const api = lone.apiWith(undefined)
    const guess = await bodyOf(`hlt_${'x'.repeat(43)}`, 'guesser')
    const statuses: number[] = []
    for (let count = 0; count <= failuresMax; count++)
      statuses.push((await api.ask({ method: 'POST', path: '/v1/enroll', json: guess })).status)
    assert.deepEqual(statuses, [...Array.from({ length: failuresMax }, () => 401), 429])
    const { token } = await lone.token()
    await api.post('/v1/enroll', await bodyOf(token, 'kvm-right'))
  })
})
