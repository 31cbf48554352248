// Consoles over the scheduler: who is granted one and may attach, bytes both ways within their credit, and every end of it.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import {
  type AuditList,
  type ConsoleReply,
  type CreatedKey,
  type OpenedSession,
  requestHeader,
  type VmList
} from '../../../src/protocol/api.ts'
import type { CommandClaims } from '../../../src/protocol/command.ts'
import { consoleWindowBytes } from '../../../src/protocol/console.ts'
import { openedKeptMs, sessionsPerKeyMax } from '../../../src/scheduler/console/sessions.ts'
import { attachTimeoutMs, checkIntervalMs } from '../../../src/scheduler/console/socket.ts'
import { Operator } from '../support/operator.ts'
import { uuid1, vmSummary } from '../support/samples.ts'
import type { TestAgent } from '../support/test-agent.ts'
import { TestScheduler } from '../support/test-scheduler.ts'

const path = '/v1/vms/web-1/console'

describe('a console over the scheduler', { timeout: 120_000 }, () => {
  let scheduler: TestScheduler
  let agent: TestAgent
  const operators: Operator[] = []

  before(async () => {
    scheduler = await TestScheduler.start()
    agent = await scheduler.enroll('kvm-1')
    await connect()
    while ((await scheduler.api.get<VmList>('/v1/vms')).vms.length === 0) await agent.sync()
  })
  after(async () => {
    for (const { socket } of operators) socket.terminate()
    await scheduler[Symbol.asyncDispose]()
  })

  async function connect(): Promise<void> {
    await agent.connect()
    agent.sendInventory({ vms: [vmSummary({ name: 'web-1', uuid: uuid1 })] })
    await agent.sync()
  }

  const where = (key = scheduler.adminKey) => ({ url: scheduler.running.url, ca: scheduler.api.ca, key })

  /** Granted, and opened by the host. */
  async function granted(
    body: Record<string, unknown> = {},
    key = scheduler.adminKey
  ): Promise<ConsoleReply> {
    const reply = await scheduler.apiWith(key).post<ConsoleReply>(path, body)
    const { claims } = await agent.nextCommand()
    assert.equal(claims.verb, 'vm.console')
    agent.acknowledge(claims.id)
    const { vm, session, mode } = claims.arguments
    agent.finish(claims.id, { vm, session, mode, idleMs: 60_000, longestMs: 600_000, attachMs: 30_000 })
    await agent.sync()
    return reply
  }

  async function attached(body: Record<string, unknown> = {}) {
    const reply = await granted(body)
    const operator = await Operator.attach(reply, where())
    operators.push(operator)
    const told = await operator.next('attached')
    const credit = await agent.nextFrame('credit')
    assert.deepEqual(credit, { type: 'credit', session: reply.session, bytes: consoleWindowBytes })
    return { operator, told, session: reply.session, reply }
  }

  async function assertAttached(operator: Operator, session: string): Promise<void> {
    // What the scheduler still had to do with sockets that are gone is done with the answer to something later.
    await scheduler.api.get('/v1/vms')
    const shown = operator.shown.length
    agent.sendFrame({ type: 'data', session, data: Buffer.from('still here') })
    const told = operator.untilShown(shown + 10).then(() => 'shown')
    assert.equal(await Promise.race([told, operator.next('closed')]), 'shown')
  }

  async function keyOf(tier: string): Promise<{ id: string; text: string }> {
    const { key, text } = await scheduler.api.post<CreatedKey>('/v1/keys', { tier, note: `a ${tier}` })
    return { id: key.id, text }
  }

  /** Opens a session as the dashboard does. */
  async function browserOf(key: string): Promise<{ cookie: string }> {
    const json = { key }
    const { headers } = await scheduler
      .apiWith(undefined)
      .ask({ method: 'POST', path: '/v1/session', json, headers: { [requestHeader]: '1' } })
    const [line = ''] = (headers['set-cookie'] ?? []) as string[]
    return { cookie: line.split(';')[0] ?? '' }
  }

  const ownOrigin = () => new URL(scheduler.running.url).origin
  const fromPage = (cookie: string) => ({
    ...where(),
    key: undefined,
    headers: { cookie, origin: ownOrigin(), 'sec-fetch-site': 'same-origin' }
  })

  it('is granted by a signed command that names the VM, its UUID, the operator and the mode', async () => {
    const reply = await scheduler.api.post<ConsoleReply>(path, { mode: 'read', idleMs: 5_000 })
    const { claims } = await agent.nextCommand()
    const { by, ...others } = claims.arguments
    assert.deepEqual(others, {
      vm: 'web-1',
      uuid: uuid1,
      session: reply.session,
      mode: 'read',
      idleMs: 5_000
    })
    assert.match(String(by), /^made at the first start \(key [0-9a-f-]{36}\)$/)
    assert.equal(claims.subject, undefined)
    assert.equal(reply.socket, `/v1/console/${reply.session}`)
    const operator = await Operator.attach(reply, where())
    const { why, message } = await operator.next('closed')
    assert.match(`${why} ${message}`, /not open yet: operation .*hostlet op wait/)
    await operator.gone()
    // The socket was too early, the session stays.
    agent.acknowledge(claims.id)
    const { vm, session, mode } = claims.arguments
    agent.finish(claims.id, { vm, session, mode, idleMs: 1, longestMs: 1, attachMs: 1 })
    await agent.sync()
    const second = await Operator.attach(reply, where())
    operators.push(second)
    assert.equal((await second.next('attached')).mode, 'read')
    second.socket.close(1000)
    assert.equal((await agent.nextFrame('close')).why, 'left')
  })

  it('carries bytes and credit both ways, and tells the host when the operator leaves', async () => {
    const { operator, told, session } = await attached()
    assert.deepEqual(told, {
      type: 'attached',
      ...{ vm: 'web-1', host: agent.id, mode: 'write' },
      ...{ idleMs: 60_000, longestMs: 600_000, windowBytes: consoleWindowBytes }
    })
    operator.type('ls\n')
    assert.deepEqual(await agent.nextFrame('data'), { type: 'data', session, data: Buffer.from('ls\n') })
    agent.sendFrame({ type: 'credit', session, bytes: 3 })
    assert.deepEqual(await operator.next('credit'), { type: 'credit', bytes: 3 })
    agent.sendFrame({ type: 'data', session, data: Buffer.from([0, 255, 10]) })
    await operator.untilShown(3)
    assert.deepEqual(operator.shown, Buffer.from([0, 255, 10]))
    operator.say({ type: 'credit', bytes: 3 })
    assert.deepEqual(await agent.nextFrame('credit'), { type: 'credit', session, bytes: 3 })
    operator.socket.close(1000)
    assert.deepEqual(await agent.nextFrame('close'), {
      ...{ type: 'close', session, why: 'left', message: 'the operator left' }
    })
  })

  it('cuts a long paste into frames', async () => {
    const { operator } = await attached()
    const paste = Buffer.alloc(40_000, 'p')
    operator.type(paste)
    const pieces: Buffer[] = []
    while (Buffer.concat(pieces).length < paste.length) pieces.push((await agent.nextFrame('data')).data)
    assert.deepEqual(Buffer.concat(pieces), paste)
    assert.ok(pieces.length >= 3)
    operator.socket.close(1000)
    await agent.nextFrame('close')
  })

  it('ends with the reason that the host gives', async () => {
    const { operator, session } = await attached()
    agent.sendFrame({ type: 'close', session, why: 'off', message: 'VM web-1 is off' })
    const { why, message } = await operator.next('closed')
    assert.deepEqual([why, message], ['off', 'VM web-1 is off'])
    await operator.gone()
  })

  it('is written down with who, from where, when, why and how much', async () => {
    const { operator, session } = await attached()
    operator.type('secret-word')
    await agent.nextFrame('data')
    agent.sendFrame({ type: 'data', session, data: Buffer.from('answer') })
    await operator.untilShown(6)
    operator.socket.close(1000)
    await agent.nextFrame('close')
    await operator.gone()
    const { entries } = await scheduler.api.get<AuditList>('/v1/audit?newest=true&limit=2&kind=console')
    const [opened, closed] = entries as Record<string, unknown>[]
    for (const entry of [opened, closed]) {
      assert.equal(entry?.session, session)
      assert.equal(entry?.object, 'web-1')
      assert.equal(entry?.note, 'made at the first start')
      assert.match(String(entry?.from), /127\.0\.0\.1/)
    }
    assert.equal(opened?.kind, 'console.attached')
    const { kind, why, shownBytes, typedBytes } = closed ?? {}
    assert.deepEqual(
      { kind, why, shownBytes, typedBytes },
      {
        ...{ kind: 'console.closed', why: 'left', shownBytes: 6, typedBytes: 11 }
      }
    )
    assert.doesNotMatch(JSON.stringify(entries) + scheduler.log.text, /secret-word/)
  })

  describe('is for nobody', () => {
    it('without a key of the tier that the configuration asks for', async () => {
      const { text } = await keyOf('manage')
      const refused = await scheduler.apiWith(text).failure({ method: 'POST', path, json: {} })
      assert.equal(refused.status, 403)
      assert.match(refused.message, /tier admin/)
      const reply = await granted()
      const upgrade = await Operator.refused({ ...where(text), path: reply.socket })
      assert.equal(upgrade.status, 403)
      assert.equal((await Operator.refused({ ...where(), key: undefined, path: reply.socket })).status, 401)
    })

    it('who is somebody else than who asked, ticket or not', async () => {
      const reply = await granted()
      const other = await keyOf('admin')
      const operator = await Operator.attach(reply, where(other.text))
      const { why, message } = await operator.next('closed')
      assert.deepEqual([why, message], ['revoked', 'this console session was granted to somebody else'])
      const { entries } = await scheduler.api.get<AuditList>('/v1/audit?newest=true&limit=1')
      const [refused] = entries as Record<string, unknown>[]
      assert.deepEqual(
        [refused?.kind, refused?.key, refused?.session],
        ['console.refused', other.id, reply.session]
      )
      const guessed = { ...reply, ticket: `hlc_${'A'.repeat(43)}` }
      const second = await Operator.attach(guessed, where())
      assert.equal((await second.next('closed')).why, 'revoked')
    })

    it('a second time', async () => {
      const { operator, reply, session } = await attached()
      const second = await Operator.attach(reply, where())
      assert.match((await second.next('closed')).message, /somebody is attached/)
      await second.gone()
      await assertAttached(operator, session)
      operator.socket.close(1000)
      await agent.nextFrame('close')
      await operator.gone()
      const third = await Operator.attach(reply, where())
      assert.match((await third.next('closed')).message, /has ended: the operator left/)
    })

    it('who would end the session of somebody else', async () => {
      const { operator, reply, session } = await attached()
      const { text } = await keyOf('admin')
      const guessed = await Operator.attach({ ...reply, ticket: `hlc_${'A'.repeat(43)}` }, where(text))
      assert.equal((await guessed.next('closed')).why, 'revoked')
      await guessed.gone()
      const rude = await Operator.open({ ...where(text), path: reply.socket })
      rude.type('reboot')
      assert.equal((await rude.next('closed')).why, 'protocol')
      await rude.gone()
      const silent = await Operator.open({ ...where(text), path: reply.socket })
      silent.socket.close(1000)
      await silent.gone()
      await assertAttached(operator, session)
      operator.socket.close(1000)
      await agent.nextFrame('close')
    })

    it('from a page of another site', async () => {
      const { socket } = await granted()
      const headers = { origin: 'https://elsewhere.example' }
      const { status, message } = await Operator.refused({ ...where(), path: socket, headers })
      assert.equal(status, 403)
      assert.match(message, /another site/)
      const own = {
        origin: scheduler.running.url.replace('localhost', new URL(scheduler.running.url).hostname)
      }
      const operator = await Operator.open({ ...where(), path: socket, headers: own })
      operator.socket.terminate()
    })

    it('with a browser’s session whose page is of another site, or does not say of which', async () => {
      const { cookie } = await browserOf(scheduler.adminKey)
      const { socket } = await granted()
      const of = (headers: Record<string, string>) =>
        Operator.refused({ ...where(), key: undefined, path: socket, headers: { cookie, ...headers } })
      for (const headers of [
        {},
        { origin: 'https://elsewhere.example' },
        { origin: 'null' },
        { origin: ownOrigin(), 'sec-fetch-site': 'cross-site' },
        { origin: ownOrigin(), 'sec-fetch-site': 'same-site' }
      ]) {
        const { status, message } = await of(headers as Record<string, string>)
        assert.equal(status, 403, JSON.stringify(headers))
        assert.match(message, /another site/)
      }
    })

    it('with a browser’s session of another key, whatever ticket it has', async () => {
      const other = await keyOf('admin')
      const { cookie } = await browserOf(other.text)
      const reply = await granted()
      const operator = await Operator.attach(reply, fromPage(cookie))
      const { why, message } = await operator.next('closed')
      assert.deepEqual([why, message], ['revoked', 'this console session was granted to somebody else'])
    })

    it('of a session that is not known, of another path, or without the subprotocol', async () => {
      const unknown = {
        socket: '/v1/console/00000000-0000-4000-8000-000000000000',
        ticket: `hlc_${'A'.repeat(43)}`
      }
      const operator = await Operator.attach(unknown, where())
      assert.match((await operator.next('closed')).message, /knows no such console session/)
      assert.equal((await Operator.refused({ ...where(), path: '/v1/console/..' })).code, 'E_NOT_FOUND')
      const { socket } = await granted()
      const other = await Operator.refused({ ...where(), path: socket, protocol: 'hostlet.v1' })
      assert.equal(other.code, 'E_UNSUPPORTED')
    })

    it('where the host refused it', async () => {
      const reply = await scheduler.api.post<ConsoleReply>(path, {})
      const { claims } = await agent.nextCommand()
      agent.refuse(claims.id, {
        code: 'E_AUTH',
        message: 'the policy forbids vm.console',
        details: { reason: 'policy' }
      })
      await agent.sync()
      const operator = await Operator.attach(reply, where())
      assert.match((await operator.next('closed')).message, /has ended: the policy forbids vm.console/)
    })
  })

  it('is the same for who asks twice with one Idempotency-Key, and the second ticket counts', async () => {
    const headers = { 'idempotency-key': 'console-1' }
    const first = await scheduler.api.post<ConsoleReply>(path, {}, { headers })
    const second = await scheduler.api.post<ConsoleReply>(path, {}, { headers })
    assert.equal(second.session, first.session)
    assert.equal(second.operation.id, first.operation.id)
    assert.notEqual(second.ticket, first.ticket)
    const { claims } = await agent.nextCommand()
    agent.acknowledge(claims.id)
    const { vm, session, mode } = claims.arguments
    agent.finish(claims.id, { vm, session, mode, idleMs: 1, longestMs: 1, attachMs: 1 })
    await agent.sync()
    const void1 = await Operator.attach(first, where())
    assert.equal((await void1.next('closed')).why, 'revoked')
    const operator = await Operator.attach(second, where())
    await operator.next('attached')
    operator.socket.close(1000)
    await agent.nextFrame('close')
    const late = await scheduler.api.failure({ method: 'POST', path, json: {}, headers })
    assert.equal(late.code, 'E_CONFLICT')
  })

  it('is for sessions too: with their token, or their cookie from a page of the scheduler', async () => {
    const { token } = await scheduler
      .apiWith(undefined)
      .post<OpenedSession>('/v1/session', { key: scheduler.adminKey, token: true })
    const { cookie } = await browserOf(scheduler.adminKey)
    for (const as of [where(token), fromPage(cookie)]) {
      const operator = await Operator.attach(await granted(), as)
      await operator.next('attached')
      operator.socket.close(1000)
      assert.equal((await agent.nextFrame('close')).why, 'left')
    }
  })

  describe('ends where somebody breaks the rules:', () => {
    const breaches: readonly [string, RegExp, Record<string, unknown>, (operator: Operator) => void][] = [
      ['a watcher types', /a watcher has typed/, { mode: 'read' }, (operator) => operator.type('a')],
      [
        'more typed than credit',
        /more was typed/,
        {},
        (operator) => {
          operator.type(Buffer.alloc(consoleWindowBytes))
          operator.type('a')
        }
      ],
      [
        'credit for nothing',
        /more was credited/,
        {},
        (operator) => operator.say({ type: 'credit', bytes: 1 })
      ],
      ['no JSON', /not JSON/, {}, (operator) => operator.say('{')],
      [
        'an unknown key',
        /unknown key|message of the operator/,
        {},
        (operator) => operator.say({ type: 'credit', bytes: 1, x: 1 })
      ],
      [
        'a ticket twice',
        /not expected now/,
        {},
        (operator) => operator.say({ type: 'attach', ticket: `hlc_${'A'.repeat(43)}` })
      ]
    ]
    for (const [name, expected, body, breach] of breaches)
      it(name, async () => {
        const { operator } = await attached(body)
        breach(operator)
        assert.match((await operator.next('closed')).message, expected)
        assert.equal((await agent.nextFrame('close')).why, 'protocol')
      })

    it('a host that sends without credit', async () => {
      const { operator, session } = await attached()
      for (let sent = 0; sent <= consoleWindowBytes; sent += 16_384)
        agent.sendFrame({ type: 'data', session, data: Buffer.alloc(16_384) })
      assert.match((await operator.next('closed')).message, /host sent more than/)
      assert.equal((await agent.nextFrame('close')).why, 'protocol')
      agent.sendFrame({ type: 'data', session, data: Buffer.from('late') })
      assert.equal((await agent.nextFrame('close')).why, 'unknown')
    })
  })

  it('does not wait for who shows no ticket, and looks whether a key is still good', async () => {
    const { socket } = await granted()
    const silent = await Operator.open({ ...where(), path: socket })
    await scheduler.clock.advance(attachTimeoutMs)
    assert.match((await silent.next('closed')).message, /no ticket came in time/)
    const other = await keyOf('admin')
    const reply = await granted({}, other.text)
    const operator = await Operator.attach(reply, where(other.text))
    await operator.next('attached')
    await scheduler.api.delete(`/v1/keys/${other.id}`)
    await scheduler.clock.advance(checkIntervalMs)
    assert.equal((await operator.next('closed')).why, 'revoked')
  })

  describe('of a browser’s session, which is idle after an hour,', () => {
    const idleMs = 3_600_000
    const checks = async (operator: Operator, ms: number) => {
      for (let passed = 0; passed < ms; passed += idleMs / 4) {
        scheduler.clock.jump(idleMs / 4 - checkIntervalMs)
        await checked(operator)
      }
    }
    /** The socket is asked for a sign of life as the session is looked at. */
    const checked = async ({ socket }: Operator) => {
      let isPinged = false
      socket.once('ping', () => {
        isPinged = true
      })
      while (!isPinged && socket.readyState === socket.OPEN) {
        await scheduler.clock.advance(checkIntervalMs)
        await agent.sync()
      }
    }
    const begin = async () => {
      const { cookie } = await browserOf(scheduler.adminKey)
      const operator = await Operator.attach(await granted(), fromPage(cookie))
      operators.push(operator)
      await operator.next('attached')
      await agent.nextFrame('credit')
      return operator
    }

    it('does not keep it alive by being open, and ends with it', async () => {
      const operator = await begin()
      await checks(operator, idleMs)
      const { why, message } = await operator.next('closed')
      assert.equal(why, 'revoked')
      assert.match(message, /session|key/)
    })

    it('keeps it alive while somebody types', async () => {
      const operator = await begin()
      for (let quarter = 0; quarter < 6; quarter++) {
        operator.type('x')
        await agent.nextFrame('data')
        await checks(operator, idleMs / 4)
      }
      operator.socket.close(1000)
      let end = await agent.nextFrame('close')
      while (end.why === 'revoked') end = await agent.nextFrame('close')
      assert.equal(end.why, 'left')
    })
  })

  describe('that nobody attaches to', () => {
    /** As many as a key may have; answers with those. */
    async function fill(key: string): Promise<ConsoleReply[]> {
      const api = scheduler.apiWith(key)
      // All at once: none is granted before the others are asked for.
      const asked = Array.from({ length: sessionsPerKeyMax + 8 }, () => api.post<ConsoleReply>(path, {}))
      const settled = await Promise.allSettled(asked)
      const replies = settled.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []))
      assert.equal(replies.length, sessionsPerKeyMax)
      const refused = await api.failure({ method: 'POST', path, json: {} })
      assert.equal(refused.code, 'E_CAPACITY')
      assert.match(refused.message, /granted to this key/)
      return replies
    }

    async function commandsOf(replies: readonly ConsoleReply[]): Promise<CommandClaims[]> {
      const wanted = new Set(replies.map(({ operation }) => operation.id))
      const found: CommandClaims[] = []
      while (found.length < wanted.size) {
        const { claims } = await agent.nextCommand()
        agent.acknowledge(claims.id)
        if (wanted.has(claims.id)) found.push(claims)
      }
      return found
    }

    it('shuts nobody else out, and is forgotten soon after it was opened', async () => {
      const { text } = await keyOf('admin')
      const commands = await commandsOf(await fill(text))
      agent.frames.length = 0
      const { operator } = await attached()
      operator.socket.close(1000)
      await agent.nextFrame('close')
      for (const {
        id,
        arguments: { vm, session, mode }
      } of commands)
        agent.finish(id, { vm, session, mode, idleMs: 1, longestMs: 1, attachMs: 1 })
      await agent.sync()
      assert.equal(
        (await scheduler.apiWith(text).failure({ method: 'POST', path, json: {} })).code,
        'E_CAPACITY'
      )
      await scheduler.clock.advance(openedKeptMs)
      await connect()
      await granted({}, text)
    })

    it('is over at once where its command failed', async () => {
      const { text } = await keyOf('admin')
      for (const { id } of await commandsOf(await fill(text)))
        agent.fail(id, { code: 'E_TIMEOUT', message: 'the host was too slow' })
      await agent.sync()
      const { socket, ticket } = await granted({}, text)
      const operator = await Operator.attach({ socket, ticket }, where(text))
      await operator.next('attached')
      operator.socket.close(1000)
      await agent.nextFrame('close')
    })

    it('takes no dry run, which would grant it all the same', async () => {
      const planned = { method: 'POST', path: `${path}?dryRun=true`, json: {} }
      const { code, message } = await scheduler.api.failure(planned)
      assert.equal(code, 'E_BAD_REQUEST')
      assert.match(message, /dryRun/)
    })
  })

  it('ends with the connection of its host, and is not granted while the host is away', async () => {
    agent.frames.length = 0
    const { operator } = await attached()
    await agent.disconnect()
    const { why, message } = await operator.next('closed')
    assert.equal(why, 'lost')
    assert.match(message, /host kvm-1 was lost. The VM runs on/)
    const refused = await scheduler.api.failure({ method: 'POST', path, json: {} })
    assert.equal(refused.code, 'E_UNAVAILABLE')
    assert.match(refused.message, /kvm-1 is away/)
    await connect()
  })

  it('ends with the scheduler', async () => {
    const { operator } = await attached()
    const stopping = scheduler.stop()
    assert.equal((await operator.next('closed')).why, 'stopping')
    await stopping
  })
})
