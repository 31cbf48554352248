// Grants of consoles in memory: how many there may be, what becomes of them when nobody attaches, and who may end one.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { describe, it } from 'node:test'
import { silentLogger } from '../../../src/lib/log.ts'
import type { ConsoleEnd } from '../../../src/protocol/console.ts'
import {
  ConsoleSessions,
  endedKeptMs,
  endedMax,
  type OperatorEnd,
  openedKeptMs,
  sessionsMax,
  sessionsPerKeyMax
} from '../../../src/scheduler/console/sessions.ts'
import type { Actor } from '../../../src/scheduler/http/api-keys.ts'
import type { CommandRecord } from '../../../src/scheduler/store/store.ts'
import { FakeClock } from '../../support/fake-clock.ts'

const host = 'kvm-1'
const hourMs = 3_600_000

/** Whatever it is asked of a command. */
type Find = () => Promise<CommandRecord | undefined>

class Bench {
  readonly clock = new FakeClock(1_000_000)
  find: Find = async () => undefined
  readonly sessions = new ConsoleSessions({
    agents: { isConnected: () => true, sendBytes: () => true },
    findCommand: () => this.find(),
    witness: { record: async () => undefined },
    clock: this.clock,
    log: silentLogger
  })

  grant(key = 'anna') {
    using _place = this.sessions.reserve(host, key)
    const [session, command] = [randomUUID(), randomUUID()]
    const expiresAt = this.clock.now() + hourMs
    const granted = { session, command, vm: 'web-1', host, mode: 'write', expiresAt } as const
    return { session, command, ticket: this.sessions.grant({ ...granted, actor: { id: key, note: '' } }) }
  }

  /** Its host has opened whatever is asked about. */
  open(session: string): void {
    const value = { vm: 'web-1', session, mode: 'write', idleMs: 1, longestMs: 1, attachMs: 1 }
    this.find = async () => ({ state: 'done', value }) as unknown as CommandRecord
  }

  attach({ session, ticket }: { session: string; ticket: string }, operator = operatorEnd()): Promise<void> {
    return this.sessions.attach(session, ticket, { id: 'anna', note: '' } as Actor, operator)
  }
}

function operatorEnd(): OperatorEnd & { readonly ends: ConsoleEnd[] } {
  const ends: ConsoleEnd[] = []
  return {
    from: '192.0.2.1',
    show: () => undefined,
    tell: () => undefined,
    closed: (end) => ends.push(end),
    ends
  }
}

const isFull = { code: 'E_CAPACITY' }

describe('sessions on consoles', () => {
  it('are counted from before they are granted, for each key and in all', () => {
    const { sessions } = new Bench()
    const places = Array.from({ length: sessionsPerKeyMax }, () => sessions.reserve(host, 'anna'))
    assert.throws(() => sessions.reserve(host, 'anna'), isFull)
    places[0]?.[Symbol.dispose]()
    sessions.reserve(host, 'anna')
    for (let key = 1; key < sessionsMax / sessionsPerKeyMax; key++)
      for (let count = 0; count < sessionsPerKeyMax; count++) sessions.reserve(host, `key ${key}`)
    assert.throws(() => sessions.reserve(host, 'the last'), isFull)
  })

  it('that nobody attaches to are forgotten a while after they were opened', async () => {
    const bench = new Bench()
    const grants = Array.from({ length: sessionsPerKeyMax }, () => bench.grant())
    for (const { command } of grants) bench.sessions.commandEnded({ id: command, outcome: 'done' })
    await bench.clock.advance(openedKeptMs - 1)
    assert.throws(() => bench.grant(), isFull)
    await bench.clock.advance(1)
    bench.grant()
  })

  it('whose command failed or expired take no place, and it is known why for a while', async () => {
    const bench = new Bench()
    const error = { code: 'E_AUTH', message: 'the policy forbids it' } as const
    const failed = bench.grant()
    bench.sessions.commandEnded({ id: failed.command, outcome: 'failed', error })
    for (let count = 0; count < sessionsPerKeyMax * 2; count++)
      bench.sessions.commandEnded({ id: bench.grant().command, outcome: 'expired' })
    await assert.rejects(bench.attach(failed), {
      code: 'E_CONFLICT',
      message: /has ended: the policy forbids/
    })
    await bench.clock.advance(endedKeptMs)
    await assert.rejects(bench.attach(failed), { code: 'E_NOT_FOUND' })
  })

  it('that have ended are kept up to a bound, the newest of them', async () => {
    const bench = new Bench()
    const first = bench.grant()
    bench.sessions.commandEnded({ id: first.command, outcome: 'expired' })
    for (let count = 1; count < endedMax; count++)
      bench.sessions.commandEnded({ id: bench.grant().command, outcome: 'expired' })
    await assert.rejects(bench.attach(first), { code: 'E_CONFLICT' })
    await bench.clock.advance(1)
    const last = bench.grant()
    bench.sessions.commandEnded({ id: last.command, outcome: 'expired' })
    await assert.rejects(bench.attach(first), { code: 'E_NOT_FOUND' })
    await assert.rejects(bench.attach(last), { code: 'E_CONFLICT' })
  })

  it('end by the operator who is attached, and by no other', async () => {
    const bench = new Bench()
    const granted = bench.grant()
    bench.open(granted.session)
    const [operator, other] = [operatorEnd(), operatorEnd()]
    await bench.attach(granted, operator)
    await assert.rejects(bench.attach(granted, other), { code: 'E_CONFLICT' })
    const end = { why: 'left', message: 'the operator left' } as const
    bench.sessions.leave(granted.session, other, end)
    assert.deepEqual(operator.ends, [])
    bench.sessions.leave(granted.session, operator, end)
    assert.deepEqual([operator.ends, other.ends], [[end], []])
  })

  it('stay to attach to where the store could not be read', async () => {
    const bench = new Bench()
    const granted = bench.grant()
    bench.find = () => Promise.reject(new Error('disk I/O error'))
    await assert.rejects(bench.attach(granted), /disk I\/O/)
    bench.open(granted.session)
    await bench.attach(granted)
  })
})
