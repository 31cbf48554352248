// So many at a time, so many waiting, the rest refused.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Limiter } from '../../src/lib/limiter.ts'
import { settle } from '../support/fake-clock.ts'

describe('Limiter', () => {
  it('refuses what is beyond running and waiting, and takes more when one leaves', () => {
    const limiter = new Limiter({ concurrencyMax: 1, waitingMax: 1 })
    const first = limiter.enter()
    limiter.enter()
    assert.throws(() => limiter.enter(), { code: 'E_BUSY' })
    first[Symbol.dispose]()
    first[Symbol.dispose]()
    limiter.enter()
    assert.throws(() => limiter.enter(), { code: 'E_BUSY' })
  })

  it('takes what was accepted earlier beyond its bound', () => {
    const limiter = new Limiter({ concurrencyMax: 1, waitingMax: 0 })
    limiter.enter()
    limiter.enter({ always: true })
    assert.equal(limiter.waiting, 2)
  })

  it('runs no more than its bound at a time, in order', async () => {
    const limiter = new Limiter({ concurrencyMax: 2, waitingMax: 8 })
    const started: number[] = []
    const tickets = [0, 1, 2, 3].map((index) => {
      const ticket = limiter.enter()
      return { ticket, turn: ticket.turn().then(() => started.push(index)) }
    })
    await settle()
    assert.deepEqual(started, [0, 1])
    assert.deepEqual([limiter.running, limiter.waiting], [2, 2])
    tickets[1]?.ticket[Symbol.dispose]()
    await settle()
    assert.deepEqual(started, [0, 1, 2])
    tickets[0]?.ticket[Symbol.dispose]()
    await settle()
    assert.deepEqual(started, [0, 1, 2, 3])
  })

  it('gives up the place of one who stops waiting', async () => {
    const limiter = new Limiter({ concurrencyMax: 1, waitingMax: 1 })
    const first = limiter.enter()
    await first.turn()
    const second = limiter.enter()
    const controller = new AbortController()
    const turn = second.turn(controller.signal)
    controller.abort(new Error('enough'))
    await assert.rejects(turn, { message: 'enough' })
    assert.deepEqual([limiter.running, limiter.waiting], [1, 0])
    first[Symbol.dispose]()
    assert.deepEqual([limiter.running, limiter.waiting], [0, 0])
  })
})
