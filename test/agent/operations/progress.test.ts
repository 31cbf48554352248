// Progress as messages: what the wire's schema takes, and no more often than a person can follow.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { describe, it } from 'node:test'
import { progressIntervalMs, progressMessage } from '../../../src/agent/operations/progress.ts'
import { type AgentMessage, Progress } from '../../../src/protocol/messages.ts'
import { compile } from '../../../src/protocol/validate.ts'
import { FakeClock } from '../../support/fake-clock.ts'

const step = { step: 'back up', stepIndex: 1, steps: 2 }

describe('progress', () => {
  it('carries the bytes of a transfer, as whole numbers that are not negative', () => {
    const sent: AgentMessage[] = []
    const clock = new FakeClock()
    const report = progressMessage(randomUUID(), { clock, emit: (message) => sent.push(message) })
    report({
      ...step,
      transfer: {
        doneBytes: 10.4,
        totalBytes: 100,
        bytesPerSecond: Number.NaN,
        remainingMs: Number.POSITIVE_INFINITY
      }
    })
    const message = compile(Progress, 'progress')(sent[0])
    assert.deepEqual(message.transfer, { doneBytes: 10, totalBytes: 100, bytesPerSecond: 0 })
  })

  it('of one step is sent once in a while', async () => {
    const sent: AgentMessage[] = []
    const clock = new FakeClock()
    const report = progressMessage(randomUUID(), { clock, emit: (message) => sent.push(message) })
    for (let at = 0; at < 3 * progressIntervalMs; at += progressIntervalMs / 10) {
      report({ ...step, ratio: at / 3 / progressIntervalMs })
      await clock.advance(progressIntervalMs / 10)
    }
    assert.equal(sent.length, 3)
    report({ ...step, stepIndex: 0 })
    assert.equal(sent.length, 4)
  })
})
