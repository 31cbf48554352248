// GET /metrics over real TLS: who may read it, what it counts of the API itself, compressed or not.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { request } from 'node:https'
import { describe, it } from 'node:test'
import { gunzipSync } from 'node:zlib'
import type { CreatedKey } from '../../../src/protocol/api.ts'
import { readExposition } from '../../support/exposition.ts'
import { TestScheduler } from '../support/test-scheduler.ts'

interface TextAnswer {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly body: Buffer
}

async function ask(
  scheduler: TestScheduler,
  {
    key = scheduler.adminKey,
    path = '/metrics',
    encoding
  }: { key?: string; path?: string; encoding?: string } = {}
): Promise<TextAnswer> {
  const { ca } = scheduler.api
  const headers = { authorization: `Bearer ${key}`, ...(encoding && { 'accept-encoding': encoding }) }
  const sent = request(new URL(path, scheduler.running.url), { ca, agent: false, headers }).end()
  const [response] = (await once(sent, 'response')) as [IncomingMessage]
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  return { status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) }
}

async function scrape(scheduler: TestScheduler) {
  const families = readExposition((await ask(scheduler)).body.toString())
  return (name: string, labels: Readonly<Record<string, string>> = {}) =>
    families
      .get(name)
      ?.values.find((value) => Object.entries(labels).every(([label, text]) => value.labels[label] === text))
      ?.value
}

describe('GET /metrics', () => {
  it('is text for any key that may read, and nothing without one', async () => {
    await using scheduler = await TestScheduler.start()
    const { text: key } = await scheduler.api.post<CreatedKey>('/v1/keys', {
      tier: 'read',
      note: 'prometheus'
    })
    const { status, headers } = await ask(scheduler, { key })
    assert.equal(status, 200)
    assert.equal(headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8')
    assert.equal((await ask(scheduler, { key: `hlk_${'x'.repeat(43)}` })).status, 401)
    assert.equal((await ask(scheduler, { path: '/metrics?vms=perhaps' })).status, 400)
  })

  it('is compressed for who takes that, and the same text', async () => {
    await using scheduler = await TestScheduler.start()
    const { headers, body } = await ask(scheduler, { encoding: 'deflate, gzip;q=0.5' })
    assert.equal(headers['content-encoding'], 'gzip')
    assert.ok(readExposition(gunzipSync(body).toString()).has('hostlet_scheduler_info'))
    assert.equal((await ask(scheduler, { encoding: 'gzip;q=0' })).headers['content-encoding'], undefined)
  })

  it('counts requests by route and status, and failed logins by reason', async () => {
    await using scheduler = await TestScheduler.start()
    assert.equal(
      (await scrape(scheduler))('hostlet_scheduler_failed_logins_total', { reason: 'unknown-key' }),
      0
    )
    await scheduler.apiWith(`hlk_${'x'.repeat(43)}`).ask({ path: '/v1/hosts' })
    await scheduler.apiWith(undefined).ask({ path: '/v1/hosts' })
    await scheduler.api.ask({ path: '/v1/hosts/nobody-at-all' })
    await scheduler.api.ask({ path: '/no/such/path' })
    const { text } = await scheduler.api.post<CreatedKey>('/v1/keys', { tier: 'read', note: '' })
    await scheduler.apiWith(text).ask({ method: 'POST', path: '/v1/tokens', json: {} })
    const value = await scrape(scheduler)
    for (const reason of ['unknown-key', 'missing-key', 'low-tier'])
      assert.equal(value('hostlet_scheduler_failed_logins_total', { reason }), 1, reason)
    const requests = (route: string, status: string) =>
      value('hostlet_scheduler_api_requests_total', { method: 'GET', route, status })
    assert.equal(requests('/v1/hosts', '401'), 2)
    assert.equal(requests('/v1/hosts/{id}', '404'), 1)
    assert.equal(requests('other', '404'), 1)
    assert.equal(
      value('hostlet_scheduler_api_request_duration_seconds', { route: '/v1/hosts', le: '+Inf' }),
      2
    )
  })

  it('counts operations that ended, and tells when certificates expire', async () => {
    await using scheduler = await TestScheduler.start()
    const agent = await scheduler.enroll()
    await agent.connect()
    agent.sendInventory()
    await agent.sync()
    const refreshed = scheduler.api.post(`/v1/hosts/${agent.id}/refresh`)
    const { claims } = await agent.nextCommand()
    agent.acknowledge(claims.id)
    agent.fail(claims.id, { code: 'E_TIMEOUT', message: 'too slow' })
    await refreshed
    await agent.sync()
    const value = await scrape(scheduler)
    const ended = { verb: claims.verb, outcome: 'failed' }
    assert.equal(value('hostlet_scheduler_operations_ended_total', ended), 1)
    assert.equal(value('hostlet_host_up', { host: agent.id }), 1)
    const day = 86_400
    const inDays = (name: string) => ((value(name) ?? 0) - Date.now() / 1_000) / day
    assert.ok(inDays('hostlet_scheduler_authority_expiry_timestamp_seconds') > 3_000)
    assert.ok(inDays('hostlet_scheduler_certificate_expiry_timestamp_seconds') > 80)
    assert.ok((value('hostlet_scheduler_store_bytes', { file: 'scheduler.db' }) ?? 0) > 0)
  })
})
