// Second factors over real TLS with a clock that the test moves: setting up, windows, replay, guessing, recovery, removal.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { Secret, TOTP } from 'otpauth'
import type {
  AuditList,
  BegunFactor,
  CreatedKey,
  CreateKeyRequest,
  OpenedSession,
  RecoveryCodes,
  SessionView
} from '../../../src/protocol/api.ts'
import { freeFailures, lockMs, lockMsBase, lockMsMax } from '../../../src/scheduler/http/second-factors.ts'
import { TestScheduler } from '../support/test-scheduler.ts'

const stepMs = 30_000
/** A whole step, so that no test begins at the edge of one. */
const startsAt = Math.floor(Date.now() / stepMs) * stepMs

class Person {
  readonly scheduler: TestScheduler
  readonly id: string
  readonly key: string
  secret = ''
  recoveryCodes: readonly string[] = []

  constructor(scheduler: TestScheduler, { key, text }: CreatedKey) {
    this.scheduler = scheduler
    this.id = key.id
    this.key = text
  }

  static async of(scheduler: TestScheduler, options: Partial<CreateKeyRequest> = {}): Promise<Person> {
    const json = { tier: 'admin', owner: 'Ada', ...options }
    return new Person(scheduler, await scheduler.api.post<CreatedKey>('/v1/keys', json))
  }

  get api() {
    return this.scheduler.apiWith(this.key)
  }

  code(aside = 0): string {
    const timestamp = this.scheduler.clock.now() + aside * stepMs
    return new TOTP({ secret: Secret.fromBase32(this.secret) }).generate({ timestamp })
  }

  wrongCode(): string {
    const near = new Set([-1, 0, 1].map((aside) => this.code(aside)))
    return ['000000', '111111', '222222', '333333'].find((code) => !near.has(code)) ?? ''
  }

  async setUp(): Promise<this> {
    this.secret = (await this.api.post<BegunFactor>('/v1/second-factor')).secret
    const json = { code: this.code() }
    this.recoveryCodes = (await this.api.post<RecoveryCodes>('/v1/second-factor/confirm', json)).recoveryCodes
    this.scheduler.clock.jump(stepMs)
    return this
  }

  async signIn(code?: string): Promise<string> {
    const opened = await this.#open(code)
    assert.equal(opened.status, 201, JSON.stringify(opened.body))
    return (opened.body as OpenedSession).token ?? ''
  }

  async reasonOf(code?: string): Promise<unknown> {
    const { status, body } = await this.#open(code)
    assert.ok(status >= 400)
    return (body as { error: { details?: { reason?: unknown } } }).error.details?.reason
  }

  #open(code?: string) {
    const json = { key: this.key, token: true, ...(code !== undefined && { code }) }
    return this.scheduler.apiWith(undefined).ask({ method: 'POST', path: '/v1/session', json })
  }
}

async function start(require: 'none' | 'admin' | 'manage' | 'read' = 'none'): Promise<TestScheduler> {
  return TestScheduler.start(
    (config) => ({ ...config, people: { ...config.people, requireSecondFactor: require } }),
    startsAt
  )
}

describe('second factors', { timeout: 60_000 }, () => {
  it('are set up with a secret that apps read, and count once a first code was right', async () => {
    await using scheduler = await start()
    const person = await Person.of(scheduler)
    const { secret, uri } = await person.api.post<BegunFactor>('/v1/second-factor')
    assert.match(
      uri,
      /^otpauth:\/\/totp\/hostlet%20localhost:Ada\?issuer=hostlet%20localhost&secret=[A-Z2-7]{32}&algorithm=SHA1&digits=6&period=30$/
    )
    person.secret = secret
    const wrong = { method: 'POST', path: '/v1/second-factor/confirm', json: { code: person.wrongCode() } }
    assert.equal((await person.api.failure(wrong)).details?.reason, 'wrong-code')
    // Until then nothing has changed: who lost the secret begins again.
    await person.api.get('/v1/keys')
    await person.signIn()
    await person.setUp()
    assert.equal(person.recoveryCodes.length, 8)
    for (const code of person.recoveryCodes) assert.match(code, /^([a-z2-7]{4}-){3}[a-z2-7]{4}$/)
    const again = await scheduler.apiWith(await person.signIn(person.code())).failure({
      ...{ method: 'POST', path: '/v1/second-factor', json: { key: person.key } }
    })
    assert.equal(again.code, 'E_CONFLICT')
  })

  it('make the key alone good for nothing but opening sessions', async () => {
    await using scheduler = await start()
    const person = await (await Person.of(scheduler)).setUp()
    const failure = await person.api.failure({ path: '/v1/hosts' })
    assert.deepEqual([failure.status, failure.details?.reason], [403, 'key-alone'])
    assert.match(failure.message, /hostlet login/)
    assert.equal(await person.reasonOf(), 'code-needed')
    const api = scheduler.apiWith(await person.signIn(person.code()))
    const { factors, secondFactor } = await api.get<SessionView>('/v1/session')
    assert.deepEqual([factors, secondFactor], [2, 'on'])
    await api.get('/v1/keys')
  })

  it('end the sessions that were opened without them', async () => {
    await using scheduler = await start()
    const person = await Person.of(scheduler)
    const before = await person.signIn()
    await person.setUp()
    const failure = await scheduler.apiWith(before).failure({ path: '/v1/hosts' })
    assert.equal(failure.details?.reason, 'ended-session')
  })

  it('take the codes of this step and of those beside it, and no others', async () => {
    await using scheduler = await start()
    const person = await (await Person.of(scheduler)).setUp()
    scheduler.clock.jump(10 * stepMs)
    for (const aside of [-2, 2]) assert.equal(await person.reasonOf(person.code(aside)), 'wrong-code')
    await person.signIn(person.code(-1))
    await person.signIn(person.code())
    await person.signIn(` ${person.code(1).slice(0, 3)} ${person.code(1).slice(3)}`)
  })

  it('take no code twice, nor one from before the last, also after a restart and many at once', async () => {
    await using scheduler = await start()
    const person = await (await Person.of(scheduler)).setUp()
    const early = person.code()
    scheduler.clock.jump(stepMs)
    const code = person.code()
    const answers = await Promise.all(
      Array.from({ length: 4 }, () =>
        scheduler.apiWith(undefined).ask({
          ...{ method: 'POST', path: '/v1/session', json: { key: person.key, code } }
        })
      )
    )
    assert.equal(answers.filter(({ status }) => status === 201).length, 1)
    assert.equal(await person.reasonOf(early), 'used-code')
    await scheduler.stop()
    await scheduler.startAgain()
    assert.equal(await person.reasonOf(code), 'used-code')
  })

  it('do not take the code again that confirmed them', async () => {
    await using scheduler = await start()
    const person = await Person.of(scheduler)
    await person.setUp()
    scheduler.clock.jump(-stepMs)
    assert.equal(await person.reasonOf(person.code()), 'used-code')
  })

  it('wait longer and longer after wrong codes, right ones included, also after a restart and many at once', async () => {
    await using scheduler = await start()
    const person = await (await Person.of(scheduler)).setUp()
    const wrong = { key: person.key, code: person.wrongCode() }
    const reasons = await Promise.all(
      Array.from({ length: freeFailures + 3 }, async () => {
        const api = scheduler.apiWith(undefined)
        return (await api.failure({ method: 'POST', path: '/v1/session', json: wrong })).details?.reason
      })
    )
    assert.equal(reasons.filter((reason) => reason === 'wrong-code').length, freeFailures)
    assert.equal(reasons.filter((reason) => reason === 'locked').length, 3)
    await scheduler.stop()
    await scheduler.startAgain()
    assert.equal(await person.reasonOf(person.code()), 'locked')
    const told = await scheduler
      .apiWith(undefined)
      .ask({ method: 'POST', path: '/v1/session', json: { key: person.key, code: person.code() } })
    assert.deepEqual([told.status, told.headers['retry-after']], [429, String(lockMsBase / 1000)])
    scheduler.clock.jump(lockMsBase)
    assert.equal(await person.reasonOf(person.wrongCode()), 'wrong-code')
    scheduler.clock.jump(lockMsBase)
    assert.equal(await person.reasonOf(person.code()), 'locked')
    scheduler.clock.jump(lockMsBase)
    await person.signIn(person.code())
    assert.equal(await person.reasonOf(person.wrongCode()), 'wrong-code')
    assert.deepEqual([1, 4, 5, 6, 7, 60].map(lockMs), [
      ...[0, 0, lockMsBase, 2 * lockMsBase, 4 * lockMsBase, lockMsMax]
    ])
  })

  it('cannot be locked by who has not got the key, and a lock leaves sessions and recovery codes alone', async () => {
    await using scheduler = await start()
    const person = await (await Person.of(scheduler)).setUp()
    const session = await person.signIn(person.code())
    scheduler.clock.jump(stepMs)
    const api = scheduler.apiWith(undefined)
    for (let count = 0; count < 3 * freeFailures; count++) {
      const key = `hlk_${String(count).padStart(43, 'A')}`
      await api.ask({ method: 'POST', path: '/v1/session', json: { key, code: '000000' } })
    }
    await person.signIn(person.code())
    for (let count = 0; count < freeFailures; count++) await person.reasonOf(person.wrongCode())
    assert.equal(await person.reasonOf(person.code(1)), 'locked')
    await scheduler.apiWith(session).get('/v1/keys')
    await person.signIn(person.recoveryCodes[0])
  })

  it('have recovery codes, each good once, however it is typed', async () => {
    await using scheduler = await start()
    const person = await (await Person.of(scheduler)).setUp()
    const [first = '', second = ''] = person.recoveryCodes
    const json = { key: person.key, code: first.toUpperCase().replaceAll('-', ' ') }
    const { factors, recoveryCodesLeft } = await scheduler
      .apiWith(undefined)
      .post<OpenedSession>('/v1/session', json)
    assert.deepEqual([factors, recoveryCodesLeft], [2, 7])
    assert.equal(await person.reasonOf(first), 'wrong-code')
    const api = scheduler.apiWith(await person.signIn(person.code()))
    const renewed = await api.post<RecoveryCodes>('/v1/second-factor/recovery-codes')
    assert.equal(await person.reasonOf(second), 'wrong-code')
    await person.signIn(renewed.recoveryCodes[0])
  })

  it('are removed by an admin for one whose device is lost, and with the key', async () => {
    await using scheduler = await start()
    const person = await (await Person.of(scheduler, { tier: 'manage' })).setUp()
    const session = await person.signIn(person.code())
    const low = await scheduler
      .apiWith(session)
      .failure({ method: 'DELETE', path: `/v1/keys/${person.id}/second-factor` })
    assert.equal(low.details?.reason, 'low-tier')
    await scheduler.api.delete(`/v1/keys/${person.id}/second-factor`)
    assert.equal((await scheduler.apiWith(session).ask({ path: '/v1/hosts' })).status, 401)
    await person.api.get('/v1/hosts')
    await person.setUp()
    await scheduler.api.delete(`/v1/keys/${person.id}`)
    assert.equal(await person.reasonOf(person.code()), 'unknown-key')
    const none = await scheduler.api.failure({
      ...{ method: 'DELETE', path: `/v1/keys/${person.id}/second-factor` }
    })
    assert.equal(none.code, 'E_NOT_FOUND')
  })

  it('tell the reader of the database nothing, and stand in no log and no audit', async () => {
    await using scheduler = await start()
    const person = await (await Person.of(scheduler)).setUp()
    const code = person.code()
    await person.signIn(code)
    const { entries } = await scheduler.api.get<AuditList>('/v1/audit')
    const told = `${scheduler.log.text()}${JSON.stringify(entries)}`
    await scheduler.stop()
    const secret = Buffer.from(Secret.fromBase32(person.secret).bytes)
    for (const name of ['scheduler.db', 'scheduler.db-wal']) {
      const bytes = readIfThere(join(scheduler.directory, name))
      for (const text of [secret, person.secret, person.key, ...person.recoveryCodes])
        assert.ok(!bytes.includes(text), name)
    }
    for (const text of [person.secret, person.key, ...person.recoveryCodes]) assert.ok(!told.includes(text))
    await scheduler.startAgain()
  })

  it('are told of in the audit: who showed two factors, and why others were refused', async () => {
    await using scheduler = await start()
    const person = await (await Person.of(scheduler)).setUp()
    await person.reasonOf(person.wrongCode())
    await person.signIn(person.code())
    const { entries } = await scheduler.api.get<AuditList>(`/v1/audit?key=${person.id}`)
    const told = entries
      .map((entry) => entry as Record<string, unknown>)
      .map(({ route, status, reason, factors }) => [route, status, reason, factors])
    assert.deepEqual(told, [
      ['/v1/second-factor', 201, undefined, 1],
      ['/v1/second-factor/confirm', 200, undefined, 1],
      ['/v1/session', 401, 'wrong-code', 1],
      ['/v1/session', 201, undefined, 2]
    ])
  })

  it('may be asked of a key from the start: until it has one, it can do nothing else', async () => {
    await using scheduler = await start()
    const person = await Person.of(scheduler, { secondFactor: true })
    const failure = await person.api.failure({ path: '/v1/hosts' })
    assert.deepEqual([failure.status, failure.details?.reason], [403, 'second-factor'])
    assert.match(failure.message, /hostlet key second-factor/)
    assert.equal((await person.api.get<SessionView>('/v1/session')).secondFactor, 'wanted')
    await person.setUp()
    await scheduler.apiWith(await person.signIn(person.code())).get('/v1/keys')
  })

  it('may be asked of everybody from a tier on, but for machines; the first key is not locked out', async () => {
    await using scheduler = await start('admin')
    const first = await scheduler.api.get<SessionView>('/v1/session')
    assert.deepEqual([first.refusedFrom, first.secondFactor], ['admin', 'wanted'])
    await scheduler.api.get('/v1/hosts')
    const refused = await scheduler.api.failure({ path: '/v1/keys' })
    assert.deepEqual([refused.status, refused.details?.reason], [403, 'second-factor'])
    const operator = new Person(scheduler, {
      key: { id: first.key },
      text: scheduler.adminKey
    } as CreatedKey)
    await operator.setUp()
    const api = scheduler.apiWith(await operator.signIn(operator.code()))
    const machine = await api.post<CreatedKey>('/v1/keys', { tier: 'admin', machine: true })
    await scheduler.apiWith(machine.text).get('/v1/keys')
    const session = await scheduler.apiWith(undefined).failure({
      ...{ method: 'POST', path: '/v1/session', json: { key: machine.text } }
    })
    assert.equal(session.details?.reason, 'machine-key')
    const own = await scheduler
      .apiWith(machine.text)
      .failure({ method: 'POST', path: '/v1/second-factor', json: {} })
    assert.match(own.message, /machine/)
  })

  it('of another key cannot be set up from a session', async () => {
    await using scheduler = await start()
    const [person, other] = [await Person.of(scheduler), await Person.of(scheduler)]
    const api = scheduler.apiWith(await person.signIn())
    const foreign = await api.failure({ method: 'POST', path: '/v1/second-factor', json: { key: other.key } })
    assert.match(foreign.message, /not the one of this session/)
    const missing = await api.failure({ method: 'POST', path: '/v1/second-factor', json: {} })
    assert.match(missing.message, /give its key/)
  })
})

function readIfThere(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch {
    return Buffer.alloc(0)
  }
}
