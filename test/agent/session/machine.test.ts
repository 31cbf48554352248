// The session's life: what follows from what, without a socket and without waiting.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  badMessagesMax,
  firstState,
  pongTimeoutMs,
  resendIntervalMs,
  retryCapMs,
  type SessionEffect,
  type SessionEvent,
  type SessionState,
  step,
  timerNames
} from '../../../src/agent/session/machine.ts'

const intervals = { heartbeatIntervalMs: 5_000, metricsIntervalMs: 7_000 }
const welcome: SessionEvent = { type: 'welcome', ...intervals }
const closed = (changes: Partial<Extract<SessionEvent, { type: 'closed' }>> = {}): SessionEvent => ({
  type: 'closed',
  reason: 'gone',
  refused: false,
  jitter: 0.5,
  ...changes
})

function run(
  events: readonly SessionEvent[],
  urls = 1
): { state: SessionState; last: readonly SessionEffect[] } {
  let state = firstState
  let last: readonly SessionEffect[] = []
  for (const event of events) {
    const next = step(state, event, urls)
    state = next.state
    last = next.effects
  }
  return { state, last }
}

const online: SessionEvent[] = [{ type: 'start' }, { type: 'opened' }, welcome]
const does = (effects: readonly SessionEffect[], name: SessionEffect['do']) =>
  effects.some((effect) => effect.do === name)
const timerOf = (effects: readonly SessionEffect[], name: string) =>
  effects.find((effect) => effect.do === 'set-timer' && effect.name === name)

describe('the session machine', () => {
  it('connects, says hello, and is online with the welcome', () => {
    assert.ok(does(run([{ type: 'start' }]).last, 'connect'))
    assert.ok(does(run([{ type: 'start' }, { type: 'opened' }]).last, 'hello'))
    const { state, last } = run(online)
    assert.equal(state.phase, 'online')
    assert.deepEqual(
      last
        .filter(({ do: name }) => ['online', 'heartbeat', 'ping'].includes(name))
        .map(({ do: name }) => name),
      ['online', 'heartbeat', 'ping']
    )
  })

  it('beats at the interval that the scheduler assigns, and at the new one after settings', () => {
    assert.deepEqual(timerOf(run(online).last, 'heartbeat'), {
      do: 'set-timer',
      name: 'heartbeat',
      ms: 5_000
    })
    const { last } = run([
      ...online,
      { type: 'settings', heartbeatIntervalMs: 9_000, metricsIntervalMs: 1_000 }
    ])
    assert.deepEqual(timerOf(last, 'heartbeat'), { do: 'set-timer', name: 'heartbeat', ms: 9_000 })
  })

  it('beats no more than once a second, whatever it is assigned', () => {
    const { last } = run([
      { type: 'start' },
      { type: 'opened' },
      { type: 'welcome', ...intervals, heartbeatIntervalMs: 0 }
    ])
    assert.deepEqual(timerOf(last, 'heartbeat'), { do: 'set-timer', name: 'heartbeat', ms: 1_000 })
  })

  it('gives up a connection that stays silent after a ping, although heartbeats go on', () => {
    const beaten = run([
      ...online,
      { type: 'timer', name: 'heartbeat' },
      { type: 'timer', name: 'heartbeat' }
    ])
    assert.equal(timerOf(beaten.last, 'pong'), undefined, 'a later beat must not prolong the wait')
    assert.deepEqual(timerOf(run(online).last, 'pong'), { do: 'set-timer', name: 'pong', ms: pongTimeoutMs })
    assert.ok(does(run([...online, { type: 'timer', name: 'pong' }]).last, 'terminate'))
  })

  it('takes any message for a sign of life', () => {
    const { last } = run([...online, { type: 'heard' }])
    assert.deepEqual(last, [{ do: 'clear-timer', name: 'pong' }])
    assert.ok(timerOf(run([...online, { type: 'heard' }, { type: 'timer', name: 'heartbeat' }]).last, 'pong'))
  })

  it('gives up when there is no welcome, or no connection, in time', () => {
    assert.ok(does(run([{ type: 'start' }, { type: 'timer', name: 'connect' }]).last, 'terminate'))
    assert.ok(
      does(run([{ type: 'start' }, { type: 'opened' }, { type: 'timer', name: 'welcome' }]).last, 'terminate')
    )
  })

  it('sends results again for as long as it is online', () => {
    const { last } = run([...online, { type: 'timer', name: 'resend' }])
    assert.deepEqual(last, [{ do: 'resend' }, { do: 'set-timer', name: 'resend', ms: resendIntervalMs }])
  })

  it('answers unreadable messages, and hangs up after too many in a row', () => {
    const bad = Array.from({ length: badMessagesMax }, (): SessionEvent => ({ type: 'bad-message' }))
    assert.deepEqual(run([...online, { type: 'bad-message' }]).last, [{ do: 'problem' }])
    assert.ok(does(run([...online, ...bad]).last, 'close'))
    assert.ok(
      !does(run([...online, ...bad.slice(1), { type: 'heard' }, { type: 'bad-message' }]).last, 'close')
    )
  })

  it('tries the addresses in turn, with waits that grow by the round up to a bound', () => {
    let state = run([{ type: 'start' }], 2).state
    const seen: { urlIndex: number; retryMs: number }[] = []
    for (let attempt = 0; attempt < 24; attempt++) {
      const next = step(state, closed({ jitter: 1 - Number.EPSILON }), 2)
      const offline = next.effects.find((effect) => effect.do === 'offline')
      seen.push({ urlIndex: next.state.urlIndex, retryMs: offline?.do === 'offline' ? offline.retryMs : -1 })
      state = step(next.state, { type: 'timer', name: 'retry' }, 2).state
    }
    assert.deepEqual(
      seen.slice(0, 4).map(({ urlIndex }) => urlIndex),
      [1, 0, 1, 0]
    )
    assert.ok((seen[0]?.retryMs ?? 0) < (seen[6]?.retryMs ?? 0))
    assert.ok(seen.every(({ retryMs }) => retryMs >= 0 && retryMs <= retryCapMs))
  })

  it('begins with short waits again after a welcome', () => {
    const failed = Array.from({ length: 6 }, (): SessionEvent[] => [
      closed(),
      { type: 'timer', name: 'retry' }
    ]).flat()
    const { last } = run([
      { type: 'start' },
      ...failed,
      { type: 'opened' },
      welcome,
      closed({ jitter: 0.99 })
    ])
    const offline = last.find((effect) => effect.do === 'offline')
    assert.ok(offline?.do === 'offline' && offline.retryMs < 1_000)
  })

  it('waits long after a refusal that no waiting mends', () => {
    const { last } = run([{ type: 'start' }, closed({ refused: true, jitter: 0 })])
    assert.deepEqual(timerOf(last, 'retry'), { do: 'set-timer', name: 'retry', ms: 30_000 })
  })

  it('leaves no timer when it stops, and does nothing afterwards', () => {
    const stopped = run([...online, { type: 'stop' }])
    const cleared = stopped.last.flatMap((effect) => (effect.do === 'clear-timer' ? [effect.name] : []))
    assert.deepEqual(cleared, [...timerNames])
    assert.ok(does(stopped.last, 'close'))
    assert.deepEqual(run([...online, { type: 'stop' }, closed(), { type: 'timer', name: 'retry' }]).last, [])
  })

  it('always has a next move until it is stopped, whatever comes in whatever order', () => {
    const events = fc.array(
      fc.oneof(
        fc.constantFrom<SessionEvent>(
          { type: 'start' },
          { type: 'opened' },
          welcome,
          { type: 'heard' },
          { type: 'bad-message' }
        ),
        fc.constantFrom(...timerNames).map((name): SessionEvent => ({ type: 'timer', name })),
        fc
          .record({ refused: fc.boolean(), jitter: fc.double({ min: 0, max: 0.999, noNaN: true }) })
          .map(closed)
      ),
      { maxLength: 60 }
    )
    fc.assert(
      fc.property(events, fc.integer({ min: 1, max: 4 }), (sequence, urls) => {
        const timers = new Set<string>()
        let state = step(firstState, { type: 'start' }, urls).state
        timers.add('connect')
        for (const event of sequence) {
          if (event.type === 'timer') timers.delete(event.name)
          const next = step(state, event, urls)
          state = next.state
          for (const effect of next.effects) {
            if (effect.do === 'set-timer') timers.add(effect.name)
            if (effect.do === 'clear-timer') timers.delete(effect.name)
          }
          assert.ok(state.urlIndex < urls)
        }
        const moves = {
          waiting: 'retry',
          connecting: 'connect',
          greeting: 'welcome',
          online: 'heartbeat'
        } as const
        const move = moves[state.phase as keyof typeof moves]
        // A timer that fired in the sequence without being due has been taken out here, not by the machine.
        const fired = sequence.some((event) => event.type === 'timer' && event.name === move)
        assert.ok(timers.has(move) || fired, `nothing happens next in ${state.phase}`)
      })
    )
  })
})
