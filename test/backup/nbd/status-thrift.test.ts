/** When asking which bytes are zeros is given up, and when it is not. */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { StatusThrift } from '../../../src/backup/nbd/status-thrift.ts'

const gibibyte = 1024 ** 3

describe('thrift in questions of status', () => {
  it('asks about more at once as long as answers are quick, and about less when they are slow', () => {
    const thrift = new StatusThrift()
    const ranges = Array.from({ length: 8 }, () => {
      thrift.answered({ tookMs: 1, zeroBytes: 0 })
      return thrift.rangeBytes
    })
    assert.deepEqual(ranges.slice(-3), [2 * gibibyte, 2 * gibibyte, 2 * gibibyte])
    thrift.answered({ tookMs: 300, zeroBytes: gibibyte })
    assert.equal(thrift.rangeBytes, gibibyte)
    assert.equal(thrift.unaskedBytes, 0)
  })

  it('goes on asking slowly where that saves more than it costs', () => {
    const thrift = new StatusThrift()
    for (let turn = 0; turn < 100; turn++) thrift.answered({ tookMs: 900, zeroBytes: gibibyte })
    assert.equal(thrift.unaskedBytes, 0)
  })

  it('leaves ever more unasked where answers cost and save nothing, and returns to asking when one saves', () => {
    const thrift = new StatusThrift()
    const skips: number[] = []
    for (let turn = 0; turn < 12; turn++) {
      thrift.answered({ tookMs: 400, zeroBytes: 0 })
      skips.push(thrift.unaskedBytes / gibibyte)
      thrift.passed(thrift.unaskedBytes)
      assert.equal(thrift.unaskedBytes, 0)
    }
    assert.deepEqual(skips, [0, 1, 2, 4, 8, 16, 32, 64, 64, 64, 64, 64])
    thrift.answered({ tookMs: 1, zeroBytes: 100 * gibibyte })
    assert.equal(thrift.unaskedBytes, 0)
    thrift.answered({ tookMs: 400, zeroBytes: 0 })
    assert.equal(thrift.unaskedBytes, 0)
  })
})
