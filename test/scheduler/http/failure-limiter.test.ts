// Counting failures: by address, for a while, in bounded memory.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  addressesMax,
  FailureLimiter,
  failuresMax,
  failureWindowMs
} from '../../../src/scheduler/http/failure-limiter.ts'

describe('failure limiter', () => {
  function limiter() {
    let now = 0
    const counted = new FailureLimiter({ monotonic: () => now })
    return { counted, pass: (ms: number) => (now += ms) }
  }

  it('lets an address fail so often within the window, then no more until it is over', () => {
    const { counted, pass } = limiter()
    for (let count = 0; count < failuresMax; count++) assert.equal(counted.exceeds('a'), false)
    assert.equal(counted.exceeds('a'), true)
    assert.equal(counted.exceeds('b'), false)
    pass(failureWindowMs - 1)
    assert.equal(counted.exceeds('a'), true)
    pass(1)
    assert.equal(counted.exceeds('a'), false)
  })

  it('forgets the address that it has watched longest when there are too many', () => {
    const { counted } = limiter()
    for (let count = 0; count <= failuresMax; count++) counted.exceeds('first')
    for (let count = 0; count < addressesMax - 1; count++) counted.exceeds(`address ${count}`)
    assert.equal(counted.exceeds('first'), true)
    counted.exceeds('one more')
    assert.equal(counted.exceeds('first'), false)
  })
})
