// After a renewal the connection moves at a quiet moment, and in time where there is none.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Handover, lookIntervalMs, waitMsMax } from '../../../src/agent/session/handover.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import { FakeClock } from '../../support/fake-clock.ts'

function create() {
  const clock = new FakeClock()
  const state = { quiet: false, current: false, online: true, reconnects: 0 }
  const handover = new Handover({
    session: {
      get isOnline() {
        return state.online
      },
      reconnect: () => {
        state.reconnects++
        state.current = true
      }
    },
    clock,
    log: silentLogger,
    isCurrent: () => state.current,
    isQuiet: () => state.quiet
  })
  return { clock, state, handover }
}

describe('the handover of a connection', () => {
  it('waits for operations to end', async () => {
    const { clock, state, handover } = create()
    handover.begin(clock.now() + 3_600_000)
    await clock.advance(10 * lookIntervalMs)
    assert.equal(state.reconnects, 0)
    state.quiet = true
    await clock.advance(lookIntervalMs)
    assert.equal(state.reconnects, 1)
    await clock.advance(10 * lookIntervalMs)
    assert.deepEqual([state.reconnects, clock.pending], [1, 0])
  })

  it('waits no longer than half of what the old certificate lives, nor than ten minutes', async () => {
    for (const [lifeMs, waitMs] of [
      [60_000, 30_000],
      [86_400_000, waitMsMax]
    ] as const) {
      const { clock, state, handover } = create()
      handover.begin(clock.now() + lifeMs)
      await clock.advance(waitMs - 1)
      assert.equal(state.reconnects, 0)
      await clock.advance(lookIntervalMs)
      assert.equal(state.reconnects, 1)
    }
  })

  it('leaves a connection alone that was opened with the new one, and looks after one that is being opened', async () => {
    const { clock, state, handover } = create()
    Object.assign(state, { online: false, quiet: true })
    handover.begin(clock.now() + 60_000)
    await clock.advance(lookIntervalMs)
    assert.equal(state.reconnects, 0)
    state.online = true
    await clock.advance(lookIntervalMs)
    assert.equal(state.reconnects, 1)
    handover.begin(clock.now() + 60_000)
    assert.equal(state.reconnects, 1)
    handover[Symbol.dispose]()
    assert.equal(clock.pending, 0)
  })
})
