// Deadlines abort with a reason, and leave nothing behind.

import assert from 'node:assert/strict'
import { getEventListeners } from 'node:events'
import { describe, it } from 'node:test'
import { startDeadline, untilAborted } from '../../src/lib/deadline.ts'
import { FakeClock } from '../support/fake-clock.ts'

describe('startDeadline', () => {
  it('aborts with E_TIMEOUT and says what took too long', async () => {
    const clock = new FakeClock()
    using deadline = startDeadline({ clock, ms: 500, what: 'the download' })
    await clock.advance(499)
    assert.equal(deadline.signal.aborted, false)
    await clock.advance(1)
    assert.equal(deadline.signal.reason.code, 'E_TIMEOUT')
    assert.match(deadline.signal.reason.message, /the download took longer than 500 ms/)
  })

  it('follows the outer signal, also one that was aborted before', () => {
    const clock = new FakeClock()
    const outer = new AbortController()
    using early = startDeadline({ clock, ms: 500, what: 'x', signal: outer.signal })
    outer.abort(new Error('stop'))
    assert.equal(early.signal.reason.message, 'stop')
    using late = startDeadline({ clock, ms: 500, what: 'x', signal: outer.signal })
    assert.equal(late.signal.reason.message, 'stop')
  })

  it('leaves no timer and no listener once disposed of', () => {
    const clock = new FakeClock()
    const outer = new AbortController()
    startDeadline({ clock, ms: 500, what: 'x', signal: outer.signal })[Symbol.dispose]()
    assert.equal(clock.pending, 0)
    assert.equal(getEventListeners(outer.signal, 'abort').length, 0)
  })
})

describe('untilAborted', () => {
  it('is the promise, or the reason of the abort', async () => {
    const controller = new AbortController()
    assert.equal(await untilAborted(Promise.resolve(1), controller.signal), 1)
    const waiting = untilAborted(new Promise(() => undefined), controller.signal)
    controller.abort(new Error('stop'))
    await assert.rejects(waiting, { message: 'stop' })
    await assert.rejects(untilAborted(Promise.resolve(1), controller.signal), { message: 'stop' })
  })
})
