// One holder a key, in order, without leaks.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { KeyedLock } from '../../src/lib/keyed-lock.ts'
import { settle } from '../support/fake-clock.ts'

describe('KeyedLock', () => {
  it('lets holders of one key in one after another, in the order of asking', async () => {
    const lock = new KeyedLock()
    const order: string[] = []
    const first = await lock.acquire('a')
    const others = ['b', 'c'].map(async (name) => {
      await using _held = await lock.acquire('a')
      order.push(`${name} in`)
      await settle()
      order.push(`${name} out`)
    })
    await settle()
    assert.deepEqual(order, [])
    await first[Symbol.asyncDispose]()
    await Promise.all(others)
    assert.deepEqual(order, ['b in', 'b out', 'c in', 'c out'])
    assert.equal(lock.isHeld('a'), false)
  })

  it('does not make different keys wait for each other', async () => {
    const lock = new KeyedLock()
    await using _first = await lock.acquire('a')
    await using _second = await lock.acquire('b')
    assert.ok(lock.isHeld('a') && lock.isHeld('b'))
  })

  it('lets a waiter give up without losing the turn of the next', async () => {
    const lock = new KeyedLock()
    const first = await lock.acquire('a')
    const controller = new AbortController()
    const quitter = lock.acquire('a', controller.signal)
    const patient = lock.acquire('a')
    controller.abort(new Error('enough'))
    await assert.rejects(quitter, { message: 'enough' })
    await first[Symbol.asyncDispose]()
    const second = await patient
    await second[Symbol.asyncDispose]()
    assert.equal(lock.isHeld('a'), false)
  })

  it('releases once, however often it is disposed of', async () => {
    const lock = new KeyedLock()
    const first = await lock.acquire('a')
    const [second, third] = [lock.acquire('a'), lock.acquire('a')]
    await first[Symbol.asyncDispose]()
    await first[Symbol.asyncDispose]()
    const state = await Promise.race([third.then(() => 'third'), settle().then(() => 'waits')])
    assert.equal(state, 'waits')
    await (await second)[Symbol.asyncDispose]()
    await (await third)[Symbol.asyncDispose]()
  })

  it('bounds the waiters of a key', async () => {
    const lock = new KeyedLock({ waitersMax: 1 })
    await using _held = await lock.acquire('a')
    const controller = new AbortController()
    const waiting = lock.acquire('a', controller.signal)
    await assert.rejects(lock.acquire('a'), { code: 'E_BUSY' })
    controller.abort(new Error('over'))
    await assert.rejects(waiting)
  })
})
