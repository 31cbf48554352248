// The scheduler's audit: what its API was asked, by whom, and what it holds of the trails of hosts.

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, it } from 'node:test'
import { verifyReceipt } from '../../src/agent/trail/receipt.ts'
import { type ChainEntry, follows, openLine } from '../../src/lib/chain.ts'
import type { AuditList, CreatedKey, HostAudit, HostDetail, OperationReply } from '../../src/protocol/api.ts'
import { failureWindowMs, unknownFailuresMax } from '../../src/scheduler/audit.ts'
import { pruneIntervalMs } from '../../src/scheduler/housekeeping.ts'
import { headsMax, judgeHead } from '../../src/scheduler/store/trail-table.ts'
import { specification } from './support/samples.ts'
import type { TestAgent } from './support/test-agent.ts'
import { TestScheduler } from './support/test-scheduler.ts'

const hash = (of: number) => of.toString(16).padStart(64, '0')

async function listOf(scheduler: TestScheduler, query = ''): Promise<AuditList> {
  return scheduler.api.get<AuditList>(`/v1/audit${query}`)
}

async function callsOf(scheduler: TestScheduler, query = ''): Promise<ChainEntry[]> {
  return (await listOf(scheduler, query)).entries as ChainEntry[]
}

describe('the audit of the API', { timeout: 60_000 }, () => {
  it('has every call that changes something, with who, what, from where and what came of it, and no other', async () => {
    await using scheduler = await TestScheduler.start()
    const { text, key } = await scheduler.api.post<CreatedKey>('/v1/keys', { tier: 'manage', note: 'ci' })
    const agent = await scheduler.enroll('kvm-1')
    await agent.connect()
    agent.sendInventory()
    await agent.sync()
    const api = scheduler.apiWith(text)
    await api.get('/v1/hosts')
    const asked = { specification: specification(), host: agent.id }
    const { operation } = await api.post<OperationReply>('/v1/vms', asked)
    const entries = await callsOf(scheduler)
    const told = entries.map(({ method, route, object, status }) => [method, route, object, status])
    assert.deepEqual(told.slice(0, 3), [
      ['POST', '/v1/keys', key.id, 201],
      ['POST', '/v1/tokens', entries[1]?.object, 201],
      ['POST', '/v1/enroll', agent.id, 200]
    ])
    assert.equal(entries.length, 4)
    const last = entries[3]
    assert.deepEqual(
      [last?.key, last?.note, last?.tier, last?.from, last?.route],
      [key.id, 'ci', 'manage', '127.0.0.1', '/v1/vms']
    )
    assert.deepEqual([last?.object, last?.operation, last?.status], ['web-1', operation.id, 202])
    assert.ok(!JSON.stringify(entries).includes(text))
    const answer = await api.ask({ method: 'POST', path: '/v1/vms/nobody/start', json: {} })
    const named = (await callsOf(scheduler)).at(-1)
    assert.deepEqual(
      [named?.request, named?.object, named?.status, named?.code],
      [answer.headers['request-id'], 'nobody', 404, 'E_NOT_FOUND']
    )
  })

  it('has every refused call, of a flood only the first, and counts the rest', async () => {
    await using scheduler = await TestScheduler.start()
    const { text } = await scheduler.api.post<CreatedKey>('/v1/keys', { tier: 'read' })
    const low = await scheduler.apiWith(text).failure({ method: 'POST', path: '/v1/tokens', json: {} })
    assert.equal(low.status, 403)
    for (let count = 0; count < unknownFailuresMax + 30; count++)
      await scheduler.apiWith(`hlk_${'A'.repeat(43)}`).failure({ path: '/v1/hosts' })
    const refused = await callsOf(scheduler, '?refused=true')
    assert.deepEqual([refused[0]?.status, refused[0]?.tier, refused[0]?.code], [403, 'read', 'E_AUTH'])
    assert.equal(refused.length, 1 + unknownFailuresMax)
    assert.deepEqual([refused[1]?.status, refused[1]?.key, refused[1]?.route], [401, undefined, '/v1/hosts'])
    await scheduler.api.failure({ method: 'POST', path: '/v1/vms/nobody/start', json: {} })
    assert.deepEqual(
      (await callsOf(scheduler, '?failure=other')).map(({ status }) => status),
      [404]
    )
    assert.equal((await callsOf(scheduler, '?failure=refused')).length, 1 + unknownFailuresMax)
    assert.equal((await callsOf(scheduler, '?refused=true')).length, 2 + unknownFailuresMax)
    await scheduler.clock.advance(failureWindowMs)
    const more = (await callsOf(scheduler)).find(({ kind }) => kind === 'api.refused-more')
    assert.deepEqual([more?.of, more?.count], ['127.0.0.1', 30])
  })

  it('has calls that only look where the configuration says so', async () => {
    await using scheduler = await TestScheduler.start((config) => ({
      ...config,
      audit: { ...config.audit, reads: true }
    }))
    await scheduler.api.get('/v1/hosts')
    assert.deepEqual(
      (await callsOf(scheduler)).map(({ method, route }) => [method, route]),
      [['GET', '/v1/hosts']]
    )
  })

  it('is read by admins only, in pages, by what it is about, and as CSV that no spreadsheet takes for formulas', async () => {
    await using scheduler = await TestScheduler.start()
    const { text, key } = await scheduler.api.post<CreatedKey>('/v1/keys', {
      tier: 'manage',
      note: '=cmd|" /C calc"!A0'
    })
    assert.equal((await scheduler.apiWith(text).failure({ path: '/v1/audit' })).status, 403)
    await scheduler.apiWith(text).ask({ method: 'POST', path: '/v1/vms/web-1/start', json: {} })
    const first = await listOf(scheduler, '?limit=2')
    assert.deepEqual([first.entries.length, first.more, first.last], [2, true, 2])
    const rest = await listOf(scheduler, `?after=${first.last}`)
    assert.deepEqual([rest.entries.length, rest.more, rest.head.seq], [1, false, 3])
    assert.equal((await callsOf(scheduler, `?key=${key.id}`)).length, 2)
    assert.equal((await callsOf(scheduler, '?object=web-1'))[0]?.seq, 3)
    assert.deepEqual(
      (await callsOf(scheduler, '?newest=true&limit=1')).map(({ seq }) => seq),
      [3]
    )
    for (const options of [{ path: '/v1/audit?format=csv' }, { path: '/v1/audit', accept: 'text/csv' }]) {
      const { type, body } = await askText(scheduler, options)
      assert.match(type, /^text\/csv/)
      const rows = body.split('\r\n')
      assert.match(rows[0] ?? '', /^seq,at,kind,request,key,note,/)
      assert.equal(rows.length, 5)
      assert.ok(rows[3]?.includes(`,"'=cmd|"" /C calc""!A0",`), rows[3] ?? '')
    }
  })

  it('holds together over restarts and what is forgotten, and shows what was changed in its file', async () => {
    await using scheduler = await TestScheduler.start((config) => ({
      ...config,
      audit: { ...config.audit, rowsMax: 3 }
    }))
    for (let count = 0; count < 4; count++) await scheduler.api.post('/v1/keys', { tier: 'read' })
    await scheduler.stop()
    await scheduler.startAgain()
    await scheduler.api.post('/v1/keys', { tier: 'read' })
    await scheduler.clock.advance(pruneIntervalMs)
    const { entries, anchor, head } = await listOf(scheduler)
    assert.deepEqual(
      entries.map(({ seq }) => seq),
      [3, 4, 5]
    )
    assert.deepEqual([anchor.seq, head.seq], [2, 5])
    let tail = anchor
    for (const entry of entries as ChainEntry[]) {
      const opened = openLine(Buffer.from(JSON.stringify(entry)))
      assert.ok(opened && follows(opened, tail), `entry ${entry.seq}`)
      tail = opened
    }
    const database = new DatabaseSync(join(scheduler.directory, 'scheduler.db'))
    database
      .prepare("UPDATE api_audit SET line = replace(line, '127.0.0.1', '10.9.8.7') WHERE sequence = 4")
      .run()
    database.close()
    assert.equal((await callsOf(scheduler))[1]?.kind, 'unreadable')
  })
})

describe('heads of trails', { timeout: 60_000 }, () => {
  it('are judged by those that are held', () => {
    const held = [
      { seq: 90, hash: hash(90) },
      { seq: 40, hash: hash(40) }
    ]
    const judge = (seq: number, of: number, earlier?: [number, number | null]) =>
      judgeHead(
        {
          seq,
          hash: hash(of),
          ...(earlier && {
            earlier: { seq: earlier[0], hash: earlier[1] === null ? null : hash(earlier[1]) }
          })
        },
        held
      )
    assert.equal(judgeHead({ seq: 5, hash: hash(5) }, []).kind, 'kept')
    assert.equal(judge(90, 90).kind, 'kept')
    assert.equal(judge(95, 95, [90, 90]).kind, 'kept')
    assert.deepEqual(judge(95, 95), { kind: 'ask', seq: 90 })
    assert.deepEqual(judge(95, 95, [40, 40]), { kind: 'ask', seq: 90 })
    for (const refused of [
      judge(89, 89),
      judge(90, 91),
      judge(95, 95, [90, 91]),
      judge(95, 95, [90, null]),
      judge(95, 95, [40, 41])
    ])
      assert.equal(refused.kind, 'refused')
  })

  async function tell(agent: TestAgent, seq: number, of = seq, earlier?: number): Promise<void> {
    const before = earlier === undefined ? {} : { earlier: { seq: earlier, hash: hash(earlier) } }
    agent.send({ type: 'audit-head', seq, hash: hash(of), ...before })
    await agent.sync()
  }

  it('get a receipt that the host can check, and that bears witness of the audit of the scheduler', async () => {
    await using scheduler = await TestScheduler.start()
    const agent = await scheduler.enroll('kvm-1')
    await agent.connect()
    agent.send({ type: 'audit-head', seq: 7, hash: hash(7) })
    const { jws } = await agent.next('audit-receipt')
    const receipt = verifyReceipt(jws, agent.reply.commandKeys)
    const { head } = await listOf(scheduler)
    assert.deepEqual(
      [receipt.host, receipt.seq, receipt.hash, receipt.at, receipt.scheduler],
      [agent.id, 7, hash(7), scheduler.clock.now(), head]
    )
    agent.send({ type: 'audit-head', seq: 9, hash: hash(9) })
    assert.equal((await agent.next('audit-question')).seq, 7)
    agent.send({ type: 'audit-head', seq: 9, hash: hash(9), earlier: { seq: 7, hash: hash(7) } })
    await agent.next('audit-receipt')
    const { heads } = await scheduler.api.get<HostAudit>(`/v1/hosts/${agent.id}/audit`)
    assert.deepEqual(
      heads.map(({ seq }) => seq),
      [9, 7]
    )
  })

  it('that go back or differ raise an alarm until an admin has looked, also over a restart', async () => {
    await using scheduler = await TestScheduler.start()
    const agent = await scheduler.enroll('kvm-1')
    await agent.connect()
    await tell(agent, 9)
    const fault = async () => {
      const { host } = await scheduler.api.get<HostDetail>(`/v1/hosts/${agent.id}`)
      return host.conditions.find(({ id }) => id === 'audit-trail-tampered')
    }
    assert.equal(await fault(), undefined)
    agent.send({ type: 'audit-head', seq: 4, hash: hash(4) })
    const { seq, error } = await agent.next('audit-refusal')
    assert.deepEqual([seq, error.code], [4, 'E_CONFLICT'])
    assert.match(error.message, /hostlet audit accept kvm-1/)
    assert.match((await fault())?.message ?? '', /ends with entry 4, and it had come to entry 9/)
    // What would have been good does not mend it.
    agent.send({ type: 'audit-head', seq: 12, hash: hash(12), earlier: { seq: 9, hash: hash(9) } })
    await agent.next('audit-refusal')
    await agent.disconnect()
    await scheduler.stop()
    await scheduler.startAgain()
    assert.equal((await fault())?.severity, 'critical')
    const events = (await callsOf(scheduler)).filter(({ kind }) => kind === 'host.audit-fault')
    assert.deepEqual(
      events.map(({ object, entry }) => [object, entry]),
      [['kvm-1', 4]]
    )
    await scheduler.api.delete(`/v1/hosts/${agent.id}/audit`)
    assert.equal(await fault(), undefined)
    const accepted = (await callsOf(scheduler)).at(-1)
    assert.deepEqual(
      [accepted?.method, accepted?.route, accepted?.object],
      ['DELETE', '/v1/hosts/{id}/audit', 'kvm-1']
    )
    await agent.connect()
    agent.send({ type: 'audit-head', seq: 4, hash: hash(4) })
    await agent.next('audit-receipt')
  })

  it('are kept in a bounded number', async () => {
    await using scheduler = await TestScheduler.start()
    const agent = await scheduler.enroll('kvm-1')
    await agent.connect()
    for (let seq = 1; seq <= headsMax + 6; seq++) await tell(agent, seq, seq, seq === 1 ? undefined : seq - 1)
    const { heads } = await scheduler.api.get<HostAudit>(`/v1/hosts/${agent.id}/audit`)
    assert.deepEqual([heads.length, heads[0]?.seq, heads.at(-1)?.seq], [headsMax, headsMax + 6, 7])
  })
})

async function askText(
  scheduler: TestScheduler,
  { path, accept }: { readonly path: string; readonly accept?: string | undefined }
): Promise<{ type: string; body: string }> {
  const { request } = await import('node:https')
  const headers = {
    authorization: `Bearer ${scheduler.adminKey}`,
    ...(accept === undefined ? {} : { accept })
  }
  const options = { ca: scheduler.api.ca, agent: false as const, headers }
  return new Promise((resolve, reject) => {
    const sent = request(new URL(path, scheduler.running.url), options, (answer) => {
      const chunks: Buffer[] = []
      answer.on('data', (chunk: Buffer) => chunks.push(chunk))
      answer.on('end', () =>
        resolve({ type: answer.headers['content-type'] ?? '', body: Buffer.concat(chunks).toString() })
      )
    })
    sent.on('error', reject)
    sent.end()
  })
}
