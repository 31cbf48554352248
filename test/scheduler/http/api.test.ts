// The HTTP API over real TLS: who may ask what, what bad input gets, and that answers fit the document it serves.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { connect } from 'node:tls'
import type { CreatedKey, KeyList } from '../../../src/protocol/api.ts'
import { requestBytesMax } from '../../../src/protocol/api.ts'
import { compile } from '../../../src/protocol/validate.ts'
import { failuresMax, failureWindowMs } from '../../../src/scheduler/http/failure-limiter.ts'
import { routes } from '../../../src/scheduler/http/routes.ts'
import type { AskOptions } from '../support/api-client.ts'
import {
  backupRecord,
  backupReport,
  metricsSample,
  snapshot1,
  specification,
  uuid1,
  vmSample,
  vmSummary
} from '../support/samples.ts'
import { TestScheduler } from '../support/test-scheduler.ts'

const unknownKey = `hlk_${'A'.repeat(43)}`
const tiers = ['read', 'manage', 'admin'] as const

describe('the HTTP API', { timeout: 60_000 }, () => {
  let scheduler: TestScheduler
  const keys: Record<string, string> = {}

  before(async () => {
    scheduler = await TestScheduler.start()
    for (const tier of tiers) keys[tier] = (await scheduler.api.post<CreatedKey>('/v1/keys', { tier })).text
  })
  after(() => scheduler[Symbol.asyncDispose]())

  /** A request to a route that names nothing that exists: whoever passes the door gets another error than 401 and 403. */
  function probe(route: (typeof routes)[number], key: string | undefined): AskOptions {
    const path = route.path.replace('{id}', uuid1).replace('{name}', 'nobody')
    const json = route.method === 'POST' ? { surplus: true } : undefined
    return { method: route.method, path: path.endsWith('/wait') ? `${path}?timeoutMs=0` : path, key, json }
  }

  describe('lets in by tier:', () => {
    for (const route of routes.filter(({ tier }) => tier !== 'open'))
      it(`${route.method} ${route.path} needs ${route.tier}`, async () => {
        const api = scheduler.apiWith(undefined)
        for (const tier of tiers) {
          const { status } = await api.ask(probe(route, keys[tier]))
          const allowed = tiers.indexOf(tier) >= tiers.indexOf(route.tier as (typeof tiers)[number])
          assert.equal(status !== 403, allowed, `${tier} got ${status}`)
          assert.notEqual(status, 401)
          assert.notEqual(status, 500)
        }
      })
  })

  it('names what is wrong with a key', async () => {
    const api = scheduler.apiWith(undefined)
    const missing = await api.failure({ path: '/v1/hosts' })
    assert.deepEqual(
      [missing.status, missing.code, missing.details],
      [401, 'E_AUTH', { reason: 'missing-key' }]
    )
    for (const key of [unknownKey, 'short', keys.admin?.toUpperCase()]) {
      const unknown = await api.failure({ path: '/v1/hosts', key })
      assert.deepEqual([unknown.status, unknown.details], [401, { reason: 'unknown-key' }])
    }
    const low = await api.failure({ method: 'POST', path: '/v1/tokens', key: keys.manage, json: {} })
    assert.deepEqual([low.status, low.code, low.details], [403, 'E_AUTH', { reason: 'low-tier' }])
    assert.match(low.message, /tier admin, yours is of tier manage/)
  })

  describe('bad input is refused with the form that all errors have:', () => {
    const vm = (change: Record<string, unknown>) => ({
      method: 'POST',
      path: '/v1/vms',
      json: { specification: specification(change) }
    })
    const table: readonly [string, AskOptions, number, string, RegExp][] = [
      ['a path that is not there', { path: '/v1/nothing' }, 404, 'E_NOT_FOUND', /no GET \/v1\/nothing/],
      ['a method that is not there', { method: 'PUT', path: '/v1/vms' }, 404, 'E_NOT_FOUND', /no PUT/],
      [
        'a host that is not there',
        { path: '/v1/hosts/nobody' },
        404,
        'E_NOT_FOUND',
        /host nobody is not enrolled/
      ],
      ['a VM that is not there', { path: '/v1/vms/nobody' }, 404, 'E_NOT_FOUND', /no VM nobody/],
      [
        'an operation that is not there',
        { path: `/v1/operations/${uuid1}` },
        404,
        'E_NOT_FOUND',
        /no operation/
      ],
      [
        'an operation to wait for',
        { path: `/v1/operations/${uuid1}/wait` },
        404,
        'E_NOT_FOUND',
        /no operation/
      ],
      ['a path trick', { path: '/v1/vms/..%2f..%2fetc' }, 400, 'E_BAD_REQUEST', /name: must be a name/],
      ['a broken escape', { path: '/v1/vms/%zz' }, 400, 'E_BAD_REQUEST', /not a valid URL/],
      ['a very long name', { path: `/v1/vms/${'a'.repeat(300)}` }, 414, 'E_BAD_REQUEST', /too long/],
      ['an id that is none', { path: '/v1/operations/1' }, 400, 'E_BAD_REQUEST', /id: must be a UUID/],
      ['an unknown query key', { path: '/v1/vms?hots=kvm-1' }, 400, 'E_BAD_REQUEST', /unknown key "hots"/],
      ['a query where none is', { path: '/v1/hosts?limit=1' }, 400, 'E_BAD_REQUEST', /unknown key "limit"/],
      ['a query key twice', { path: '/v1/vms?host=a&host=b' }, 400, 'E_BAD_REQUEST', /host: must be string/],
      [
        'a limit beyond the bound',
        { path: '/v1/vms?limit=1001' },
        400,
        'E_BAD_REQUEST',
        /limit: must be <= 1000/
      ],
      [
        'a limit that is no number',
        { path: '/v1/vms?limit=many' },
        400,
        'E_BAD_REQUEST',
        /limit: must be integer/
      ],
      [
        'a state that is none',
        { path: '/v1/operations?state=odd' },
        400,
        'E_BAD_REQUEST',
        /state: must be one of waiting/
      ],
      [
        'no body',
        { method: 'POST', path: '/v1/vms' },
        400,
        'E_BAD_REQUEST',
        /required property 'specification'/
      ],
      [
        'a body that is no object',
        { method: 'POST', path: '/v1/vms', json: [] },
        400,
        'E_BAD_REQUEST',
        /must be object/
      ],
      [
        'broken JSON',
        { method: 'POST', path: '/v1/vms', raw: { text: '{"a":', type: 'application/json' } },
        400,
        'E_BAD_REQUEST',
        /not JSON/
      ],
      [
        'another type',
        { method: 'POST', path: '/v1/vms', raw: { text: 'a=b', type: 'application/x-www-form-urlencoded' } },
        415,
        'E_BAD_REQUEST',
        /must be JSON/
      ],
      [
        'no type',
        { method: 'POST', path: '/v1/vms', raw: { text: '{}' } },
        415,
        'E_BAD_REQUEST',
        /must be JSON/
      ],
      [
        'a huge body',
        {
          method: 'POST',
          path: '/v1/vms',
          raw: { text: ' '.repeat(requestBytesMax + 1), type: 'application/json' }
        },
        413,
        'E_BAD_REQUEST',
        /longer than 1048576 bytes/
      ],
      ['an unknown key', vm({ vcpus: 4 }), 400, 'E_BAD_REQUEST', /specification: unknown key "vcpus"/],
      ['a UUID of the asker', vm({ uuid: uuid1 }), 400, 'E_BAD_REQUEST', /unknown key "uuid"/],
      [
        'a prototype',
        {
          method: 'POST',
          path: '/v1/vms',
          raw: { text: '{"__proto__":{"specification":{}}}', type: 'application/json' }
        },
        400,
        'E_BAD_REQUEST',
        /__proto__|specification/
      ],
      ['a number as text', vm({ cpus: '2' }), 400, 'E_BAD_REQUEST', /cpus: must be integer/],
      ['a name with XML in it', vm({ name: "a'/><disk>" }), 400, 'E_BAD_REQUEST', /name: must be a name/],
      [
        'a name with a path in it',
        vm({ name: '../../etc/passwd' }),
        400,
        'E_BAD_REQUEST',
        /name: must be a name/
      ],
      [
        'a profile with XML in it',
        vm({ profile: '<x>' }),
        400,
        'E_BAD_REQUEST',
        /profile: must be a profile/
      ],
      [
        'an image by http',
        vm({ image: { url: 'http://a/b', sha256: 'a'.repeat(64), format: 'raw' } }),
        400,
        'E_BAD_REQUEST',
        /image.url: must be an https/
      ],
      [
        'a digest that is none',
        vm({ image: { url: 'https://a/b', sha256: 'A'.repeat(64), format: 'raw' } }),
        400,
        'E_BAD_REQUEST',
        /image.sha256: must be 64 hex/
      ],
      [
        'a host that is not there, for a VM',
        { ...vm({}), json: { specification: specification(), host: 'nobody' } },
        404,
        'E_NOT_FOUND',
        /host nobody/
      ],
      [
        'a bad Idempotency-Key',
        { ...vm({}), headers: { 'idempotency-key': 'with spaces' } },
        400,
        'E_BAD_REQUEST',
        /Idempotency-Key must be/
      ],
      [
        'a tier that is none',
        { method: 'POST', path: '/v1/keys', json: { tier: 'root' } },
        400,
        'E_BAD_REQUEST',
        /tier: must be one of read, manage, admin/
      ],
      [
        'a token for a year',
        { method: 'POST', path: '/v1/tokens', json: { ttlSeconds: 31_536_000 } },
        400,
        'E_BAD_REQUEST',
        /ttlSeconds: must be <= 604800/
      ],
      [
        'a token that is not there',
        { method: 'DELETE', path: `/v1/tokens/${uuid1}` },
        404,
        'E_NOT_FOUND',
        /no join token/
      ],
      [
        'a key that is not there',
        { method: 'DELETE', path: `/v1/keys/${uuid1}` },
        404,
        'E_NOT_FOUND',
        /no API key/
      ]
    ]
    for (const [name, ask, status, code, message] of table)
      it(name, async () => {
        const failure = await scheduler.api.failure(ask)
        assert.equal(failure.status, status)
        assert.equal(failure.code, code)
        assert.match(failure.message, message)
      })
  })

  it('never changes anything on bad input', async () => {
    const { operations } = await scheduler.api.get<{ operations: unknown[] }>('/v1/operations')
    assert.deepEqual(operations, [])
  })

  it('answers what is not HTTP in the same form', async () => {
    const { port } = new URL(scheduler.running.url)
    const socket = connect({ host: '127.0.0.1', port: Number(port), ca: scheduler.api.ca })
    socket.end('HELLO WORLD\r\n\r\n')
    const chunks: Buffer[] = []
    for await (const chunk of socket) chunks.push(chunk as Buffer)
    const [head = '', body = ''] = Buffer.concat(chunks).toString().split('\r\n\r\n')
    assert.match(head, /^HTTP\/1\.1 400 /)
    assert.equal(JSON.parse(body).error.code, 'E_BAD_REQUEST')
  })

  describe('keys', () => {
    it('are listed without their texts, with their last use', async () => {
      const { keys: listed } = await scheduler.api.get<KeyList>('/v1/keys')
      assert.equal(listed.length, 4)
      assert.ok(!JSON.stringify(listed).includes('hlk_'))
      assert.ok(listed.some(({ lastUsedAt }) => lastUsedAt === scheduler.clock.now()))
    })

    it('work until they are revoked', async () => {
      const { key, text } = await scheduler.api.post<CreatedKey>('/v1/keys', {
        tier: 'read',
        note: 'for a test'
      })
      assert.equal(key.note, 'for a test')
      await scheduler.apiWith(text).get('/v1/hosts')
      await scheduler.api.delete(`/v1/keys/${key.id}`)
      assert.equal((await scheduler.apiWith(text).failure({ path: '/v1/hosts' })).status, 401)
    })

    it('are not in the log', () => {
      assert.match(scheduler.log.text(), /API key made/)
      for (const text of Object.values(keys)) assert.ok(!scheduler.log.text().includes(text))
    })
  })

  it('answers an address that guesses too often with 429, but lets the right key through', async () => {
    await using lone = await TestScheduler.start()
    const api = lone.apiWith(undefined)
    for (let count = 0; count < failuresMax; count++)
      assert.equal((await api.ask({ path: '/v1/hosts', key: unknownKey })).status, 401)
    const { status, headers } = await api.ask({ path: '/v1/hosts', key: unknownKey })
    assert.equal(status, 429)
    assert.equal(headers['retry-after'], '60')
    assert.equal((await lone.api.ask({ path: '/v1/hosts' })).status, 200)
    await lone.clock.advance(failureWindowMs)
    assert.equal((await api.ask({ path: '/v1/hosts', key: unknownKey })).status, 401)
  })

  it('ends long waits when the scheduler stops', async () => {
    await using lone = await TestScheduler.start()
    const agent = await lone.enroll()
    const { operation } = await lone.api.post<{ operation: { id: string } }>('/v1/vms', {
      specification: specification(),
      host: agent.id
    })
    const timers = lone.clock.pending
    const waiting = lone.api.failure({ path: `/v1/operations/${operation.id}/wait?timeoutMs=60000` })
    // Requests have connections of their own and overtake each other: it waits once it has set its timer.
    while (lone.clock.pending === timers) await lone.api.get('/v1/status')
    await lone.stop()
    assert.equal((await waiting).code, 'E_UNAVAILABLE')
  })

  it('ends a wait at its time, with the operation as it is', async () => {
    await using lone = await TestScheduler.start()
    const agent = await lone.enroll()
    const { operation } = await lone.api.post<{ operation: { id: string } }>('/v1/vms', {
      specification: specification(),
      host: agent.id
    })
    const path = `/v1/operations/${operation.id}/wait?timeoutMs=0`
    const { operation: seen } = await lone.api.get<{ operation: { state: string } }>(path)
    assert.equal(seen.state, 'waiting')
  })

  describe('OpenAPI', () => {
    interface Document {
      openapi: string
      paths: Record<
        string,
        Record<string, { operationId: string; parameters: { in: string; name: string }[] }>
      >
      components: { schemas: Record<string, unknown> }
    }

    it('describes every route once', async () => {
      const document = await scheduler.apiWith(undefined).get<Document>('/openapi.json')
      assert.equal(document.openapi, '3.1.0')
      const described = Object.entries(document.paths).flatMap(([path, methods]) =>
        Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`)
      )
      assert.deepEqual(described.sort(), routes.map(({ method, path }) => `${method} ${path}`).sort())
      const ids = Object.values(document.paths).flatMap((methods) =>
        Object.values(methods).map(({ operationId }) => operationId)
      )
      assert.equal(new Set(ids).size, ids.length)
    })

    it('names every part of each path, and refers only to schemas that it has', async () => {
      const document = await scheduler.apiWith(undefined).get<Document>('/openapi.json')
      for (const [path, methods] of Object.entries(document.paths))
        for (const { parameters } of Object.values(methods)) {
          const named = parameters.filter((parameter) => parameter.in === 'path').map(({ name }) => name)
          assert.deepEqual(
            named,
            [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name)
          )
        }
      const references = [...JSON.stringify(document).matchAll(/#\/components\/schemas\/(\w+)/g)]
      assert.ok(references.length > 20)
      for (const [, name = ''] of references) assert.ok(name in document.components.schemas, name)
    })
  })

  it('answers as its schemas say', async () => {
    await using lone = await TestScheduler.start()
    const agent = await lone.enroll()
    await agent.connect()
    agent.sendInventory({ vms: [vmSummary()] })
    agent.send({ type: 'backups', reports: [backupReport(uuid1, backupRecord(agent.id))] })
    agent.send({ type: 'metrics', samples: [metricsSample(5, [vmSample()])] })
    agent.send({
      type: 'event',
      at: 5,
      vm: 'web-1',
      uuid: uuid1,
      kind: 'ready',
      state: 'running',
      detail: ''
    })
    await agent.sync()
    const { operation } = await lone.api.post<{ operation: { id: string } }>('/v1/vms/web-1/stop')
    await lone.token()
    const named: Record<string, string> = {
      '/v1/hosts': agent.id,
      '/v1/vms': 'web-1',
      '/v1/operations': operation.id,
      '/v1/backups': snapshot1
    }
    // A certificate takes a host that has erased a VM, a placement an operation that made one: their own tests have them.
    const elsewhere = /\/(erase-certificate|placement)$/
    const read = routes.filter(({ method, path }) => method === 'GET' && !elsewhere.test(path))
    assert.ok(read.length > 15)
    for (const route of read) {
      const base = Object.keys(named).find((prefix) => route.path.startsWith(`${prefix}/`)) ?? ''
      const path = route.path.replace(/\{\w+\}/, named[base] ?? '').replace('/wait', '/wait?timeoutMs=0')
      compile(route.reply, path)(await lone.api.get(path))
    }
  })
})
