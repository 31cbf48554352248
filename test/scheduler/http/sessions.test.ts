// Sessions over real TLS: how they open, what they may do, when they end, and what other sites and strangers get.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { AuditList, CreatedKey, OpenedSession, SessionView } from '../../../src/protocol/api.ts'
import { backgroundHeader, requestHeader, sessionCookie } from '../../../src/protocol/api.ts'
import { sessionsOfKeyMax } from '../../../src/scheduler/http/sessions.ts'
import type { Answer, AskOptions } from '../support/api-client.ts'
import { TestScheduler } from '../support/test-scheduler.ts'

const hourMs = 3_600_000
const ownPage = { [requestHeader]: '1', 'sec-fetch-site': 'same-origin' }

/** Opens a session as a browser does. */
async function signIn(scheduler: TestScheduler, body: Record<string, unknown> = {}): Promise<string> {
  const answer = await scheduler.apiWith(undefined).ask({
    ...{ method: 'POST', path: '/v1/session', headers: ownPage },
    json: { key: scheduler.adminKey, ...body }
  })
  assert.equal(answer.status, 201, JSON.stringify(answer.body))
  return cookieOf(answer)
}

function cookieOf({ headers }: Answer): string {
  const [line = ''] = (headers['set-cookie'] ?? []) as string[]
  return line.split(';')[0] ?? ''
}

/** Asks as our own page in a browser does. */
function fromPage(cookie: string, change: Partial<AskOptions> = {}): AskOptions {
  return { path: '/v1/session', ...change, headers: { cookie, ...ownPage, ...change.headers } }
}

async function signInWithToken(scheduler: TestScheduler, key = scheduler.adminKey): Promise<string> {
  const opened = await scheduler.apiWith(undefined).post<OpenedSession>('/v1/session', { key, token: true })
  return opened.token ?? assert.fail('no token')
}

describe('sessions', { timeout: 60_000 }, () => {
  it('open with a key, in a cookie that only this host, over TLS, and no script gets', async () => {
    await using scheduler = await TestScheduler.start()
    const answer = await scheduler
      .apiWith(undefined)
      .ask({ method: 'POST', path: '/v1/session', json: { key: scheduler.adminKey } })
    assert.equal(answer.status, 201)
    const [line = ''] = (answer.headers['set-cookie'] ?? []) as string[]
    assert.match(
      line,
      /^__Host-hostlet-session=hls_[\w-]{43}; Path=\/; Secure; HttpOnly; SameSite=Strict; Max-Age=43200$/
    )
    const { tier, note, expiresAt, idleMs, factors, secondFactor } = answer.body as SessionView
    assert.deepEqual(
      { tier, note, expiresAt, idleMs, factors, secondFactor },
      {
        ...{ tier: 'admin', note: 'made at the first start', factors: 1, secondFactor: 'none' },
        ...{ expiresAt: scheduler.clock.now() + 12 * hourMs, idleMs: hourMs }
      }
    )
    assert.ok(!JSON.stringify(answer.body).includes('hls_'))
    const seen = await scheduler
      .apiWith(undefined)
      .get<SessionView>('/v1/session', fromPage(cookieOf(answer)))
    assert.equal(seen.id, (answer.body as SessionView).id)
  })

  it('hand their token to a program that asks for it, and then set no cookie', async () => {
    await using scheduler = await TestScheduler.start()
    const answer = await scheduler
      .apiWith(undefined)
      .ask({ method: 'POST', path: '/v1/session', json: { key: scheduler.adminKey, token: true } })
    assert.equal(answer.headers['set-cookie'], undefined)
    const { token } = answer.body as OpenedSession
    assert.match(token ?? '', /^hls_[\w-]{43}$/)
    assert.equal((await scheduler.apiWith(token).ask({ path: '/v1/keys' })).status, 200)
  })

  it('may do what their key may', async () => {
    await using scheduler = await TestScheduler.start()
    const { text } = await scheduler.api.post<CreatedKey>('/v1/keys', { tier: 'read' })
    const api = scheduler.apiWith(await signInWithToken(scheduler, text))
    await api.get('/v1/hosts')
    assert.equal((await api.failure({ path: '/v1/keys' })).details?.reason, 'low-tier')
  })

  it('outlive the scheduler, and none of their texts lies in its files or its log', async () => {
    await using scheduler = await TestScheduler.start()
    const token = await signInWithToken(scheduler)
    const cookie = await signIn(scheduler)
    await scheduler.stop()
    for (const name of ['scheduler.db', 'scheduler.db-wal', 'observed.db', 'observed.db-wal']) {
      const bytes = readIfThere(join(scheduler.directory, name))
      for (const text of [token, cookie.split('=')[1] ?? '']) assert.ok(!bytes.includes(text), name)
    }
    await scheduler.startAgain()
    await scheduler.apiWith(token).get('/v1/keys')
    assert.ok(!scheduler.log.text().includes(token))
  })

  it('end after their time, whatever is asked meanwhile', async () => {
    await using scheduler = await TestScheduler.start()
    const api = scheduler.apiWith(undefined)
    const cookie = await signIn(scheduler)
    for (let hours = 0; hours < 12; hours += 0.5) {
      await api.get('/v1/session', fromPage(cookie))
      scheduler.clock.jump(hourMs / 2)
    }
    const failure = await api.failure(fromPage(cookie))
    assert.deepEqual([failure.status, failure.details?.reason], [401, 'ended-session'])
    assert.match(failure.message, /hostlet login/)
  })

  it('end when a browser was idle, but not where they are to be remembered or are a program’s', async () => {
    await using scheduler = await TestScheduler.start()
    const api = scheduler.apiWith(undefined)
    const cookie = await signIn(scheduler)
    const remembered = await signIn(scheduler, { remember: true })
    const token = await signInWithToken(scheduler)
    scheduler.clock.jump(hourMs)
    assert.equal((await api.failure(fromPage(cookie))).details?.reason, 'ended-session')
    await api.get('/v1/session', fromPage(remembered))
    await scheduler.apiWith(token).get('/v1/session')
    scheduler.clock.jump(6 * 24 * hourMs)
    await api.get('/v1/session', fromPage(remembered))
    scheduler.clock.jump(24 * hourMs)
    assert.equal((await api.ask(fromPage(remembered))).status, 401)
  })

  it('end when nobody is at the page, however often it looks by itself', async () => {
    await using scheduler = await TestScheduler.start()
    const api = scheduler.apiWith(undefined)
    const cookie = await signIn(scheduler)
    const byItself = fromPage(cookie, { path: '/v1/vms', headers: { [backgroundHeader]: '1' } })
    const token = await signInWithToken(scheduler)
    for (let minutes = 0; minutes < 60; minutes += 5) {
      await api.get(byItself.path, byItself)
      scheduler.clock.jump(hourMs / 12)
    }
    assert.equal((await api.failure(byItself)).details?.reason, 'ended-session')
    await scheduler.apiWith(token).get('/v1/vms', { headers: { [backgroundHeader]: '1' } })
  })

  it('are kept by what somebody does, whatever it says of itself', async () => {
    await using scheduler = await TestScheduler.start()
    const api = scheduler.apiWith(undefined)
    const cookie = await signIn(scheduler)
    const background = { [backgroundHeader]: '1' }
    for (const asked of [
      fromPage(cookie, { method: 'POST', path: '/v1/tokens', json: {}, headers: background }),
      fromPage(cookie, { path: '/v1/vms', headers: { [backgroundHeader]: 'yes' } }),
      fromPage(cookie, { path: '/v1/vms' })
    ]) {
      scheduler.clock.jump(hourMs * 0.75)
      assert.ok((await api.ask(asked)).status < 300)
    }
    scheduler.clock.jump(hourMs * 0.75)
    await api.get('/v1/vms', fromPage(cookie))
  })

  it('end when they are signed out, for good', async () => {
    await using scheduler = await TestScheduler.start()
    const api = scheduler.apiWith(undefined)
    const cookie = await signIn(scheduler)
    const answer = await api.ask(fromPage(cookie, { method: 'DELETE' }))
    assert.equal(answer.status, 200)
    assert.match(String(answer.headers['set-cookie']), /^__Host-hostlet-session=; .*Max-Age=0$/)
    assert.equal((await api.failure(fromPage(cookie))).details?.reason, 'ended-session')
    const failure = await scheduler.api.failure({ method: 'DELETE', path: '/v1/session' })
    assert.match(failure.message, /no.* session/)
  })

  it('end with their key, and when it expires', async () => {
    await using scheduler = await TestScheduler.start()
    const revoked = await scheduler.api.post<CreatedKey>('/v1/keys', { tier: 'read' })
    const expiring = await scheduler.api.post<CreatedKey>('/v1/keys', { tier: 'read', ttlSeconds: 3_600 })
    const tokens = [
      await signInWithToken(scheduler, revoked.text),
      await signInWithToken(scheduler, expiring.text)
    ]
    const [ofRevoked, ofExpiring] = tokens.map((token) => scheduler.apiWith(token))
    await scheduler.api.delete(`/v1/keys/${revoked.key.id}`)
    assert.equal((await ofRevoked?.failure({ path: '/v1/hosts' }))?.details?.reason, 'ended-session')
    await ofExpiring?.get('/v1/hosts')
    scheduler.clock.jump(hourMs)
    assert.equal((await ofExpiring?.failure({ path: '/v1/hosts' }))?.details?.reason, 'expired-key')
  })

  it('are always new: one that a stranger has put into the browser is not taken over', async () => {
    await using scheduler = await TestScheduler.start()
    const planted = `${sessionCookie}=hls_${'A'.repeat(43)}`
    const api = scheduler.apiWith(undefined)
    const json = { key: scheduler.adminKey }
    const answer = await api.ask(fromPage(planted, { method: 'POST', json }))
    assert.equal(answer.status, 201)
    assert.notEqual(cookieOf(answer), planted)
    assert.equal((await api.ask(fromPage(planted))).status, 401)
    // Of two cookies of the name one is not ours.
    const both = `${cookieOf(answer)}; ${planted}`
    assert.equal((await api.failure(fromPage(both))).details?.reason, 'missing-key')
  })

  it('are of a bounded number for a key: the oldest ends', async () => {
    await using scheduler = await TestScheduler.start()
    const first = await signInWithToken(scheduler)
    for (let count = 0; count < sessionsOfKeyMax; count++) {
      scheduler.clock.jump(1)
      await signInWithToken(scheduler)
    }
    assert.equal((await scheduler.apiWith(first).ask({ path: '/v1/hosts' })).status, 401)
  })

  it('open for no key that is unknown, and every attempt is written down', async () => {
    await using scheduler = await TestScheduler.start()
    const key = `hlk_${randomBytes(32).toString('base64url')}`
    const failure = await scheduler
      .apiWith(undefined)
      .failure({ method: 'POST', path: '/v1/session', json: { key } })
    assert.deepEqual([failure.status, failure.details?.reason], [401, 'unknown-key'])
    const token = await signInWithToken(scheduler)
    await scheduler.apiWith(token).post('/v1/keys', { tier: 'read' })
    const { entries } = await scheduler.api.get<AuditList>('/v1/audit')
    const told = entries
      .map((entry) => entry as Record<string, unknown>)
      .map(({ route, status, reason, session }) => [route, status, reason, typeof session])
    assert.deepEqual(told, [
      ['/v1/session', 401, 'unknown-key', 'undefined'],
      ['/v1/session', 201, undefined, 'string'],
      ['/v1/keys', 201, undefined, 'string']
    ])
    const text = JSON.stringify(entries)
    for (const secret of [key, token, scheduler.adminKey]) assert.ok(!text.includes(secret))
  })

  describe('refuse what another site’s page makes the browser ask:', () => {
    const json = { tier: 'admin' }
    const table: readonly [string, Partial<AskOptions>, number][] = [
      ['a change without our header', { method: 'POST', headers: { [requestHeader]: '' } }, 403],
      ['a change from another site', { method: 'POST', headers: { 'sec-fetch-site': 'cross-site' } }, 403],
      ['a change from a sibling', { method: 'POST', headers: { 'sec-fetch-site': 'same-site' } }, 403],
      ['a change that no page asked for', { method: 'POST', headers: { 'sec-fetch-site': 'none' } }, 403],
      ['a look from a sibling', { headers: { 'sec-fetch-site': 'same-site' } }, 403],
      ['a look from the address line', { headers: { 'sec-fetch-site': 'none' } }, 200],
      ['a change from our own page', { method: 'POST' }, 201]
    ]
    for (const [name, change, status] of table)
      it(name, async () => {
        await using scheduler = await TestScheduler.start()
        const cookie = await signIn(scheduler)
        const body = change.method === 'POST' ? { json } : {}
        const asked = fromPage(cookie, { path: '/v1/keys', ...body, ...change })
        const answer = await scheduler.apiWith(undefined).ask(asked)
        assert.equal(answer.status, status)
        const { keys } = await scheduler.api.get<{ keys: unknown[] }>('/v1/keys')
        assert.equal(keys.length, status === 201 ? 2 : 1)
      })

    it('a form that signs the browser in as somebody else', async () => {
      await using scheduler = await TestScheduler.start()
      const api = scheduler.apiWith(undefined)
      const key = scheduler.adminKey
      const foreign = { method: 'POST', path: '/v1/session', headers: { 'sec-fetch-site': 'cross-site' } }
      assert.equal((await api.failure({ ...foreign, json: { key } })).details?.reason, 'cross-site')
      const raw = { text: JSON.stringify({ key }), type: 'text/plain' }
      assert.equal((await api.failure({ method: 'POST', path: '/v1/session', raw })).code, 'E_BAD_REQUEST')
    })
  })
})

function readIfThere(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch {
    return Buffer.alloc(0)
  }
}
