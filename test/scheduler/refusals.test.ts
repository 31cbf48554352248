// What a refusal means, for every code and every state that the command may be in.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type ErrorCode, errorCodes } from '../../src/errors.ts'
import { operationStates } from '../../src/protocol/api.ts'
import { afterRefusal, askedWaitMsMax, retryBaseMs, retryCapMs } from '../../src/scheduler/refusals.ts'
import type { CommandRecord } from '../../src/scheduler/store/store.ts'

const codes = Object.keys(errorCodes) as ErrorCode[]

function decide(code: ErrorCode, change: Partial<CommandRecord> = {}, random = () => 0.5) {
  const record = { verb: 'vm.provision', host: 'kvm-1', vm: 'web-1', state: 'sent', refusals: 0, ...change }
  return afterRefusal(record as CommandRecord, { code, message: 'x' }, random)
}

const kinds = (state: CommandRecord['state']) =>
  codes.flatMap((code) => (decide(code, { state }).kind === 'retry' ? [code] : []))

describe('after a refusal', () => {
  it('a command that its host has not taken is tried again for the codes that are worth it, and no other', () => {
    const worthIt = codes.filter((code) => errorCodes[code].advice === 'retry')
    assert.deepEqual(worthIt, ['E_BUSY', 'E_UNAVAILABLE', 'E_CAPACITY'])
    assert.deepEqual(kinds('sent'), worthIt)
    assert.deepEqual(kinds('waiting'), worthIt)
  })

  it('a command that was taken or has ended is never tried again', () => {
    for (const state of operationStates.filter((each) => each !== 'sent' && each !== 'waiting'))
      assert.deepEqual(kinds(state), [], state)
  })

  it('a command that lacks approvals is held, and one that was taken is not', () => {
    const refusal = { code: 'E_AUTH', message: 'x', details: { reason: 'approval' } } as const
    const after = (state: CommandRecord['state']) =>
      afterRefusal({ verb: 'vm.teardown', host: 'kvm-1', state, refusals: 0 } as CommandRecord, refusal)
    assert.deepEqual([after('sent'), after('waiting')], [{ kind: 'hold' }, { kind: 'hold' }])
    assert.deepEqual(after('failed'), { kind: 'none' })
    assert.equal(after('running').kind, 'end')
    assert.equal(decide('E_AUTH').kind, 'end')
  })

  it('a command that has ended is left alone', () => {
    for (const state of ['done', 'failed', 'expired'] as const)
      for (const code of codes) assert.deepEqual(decide(code, { state }), { kind: 'none' })
  })

  it('the record of a VM goes with a provision that never began, not with one that was taken', () => {
    assert.deepEqual(decide('E_CONFLICT'), {
      kind: 'end',
      error: { code: 'E_CONFLICT', message: 'x' },
      consequence: 'forget-unless-reported'
    })
    const taken = decide('E_CONFLICT', { state: 'running' })
    assert.ok(taken.kind === 'end')
    assert.deepEqual([taken.error.code, taken.consequence], ['E_INTERRUPTED', 'none'])
  })

  it('the waits double up to their cap, and half of each is left to chance', () => {
    const delays = (random: number) =>
      [0, 1, 2, 3, 4, 5, 100].map((refusals) => {
        const decision = decide('E_BUSY', { refusals }, () => random)
        return decision.kind === 'retry' ? decision.delayMs : undefined
      })
    const bounds = [1, 2, 4, 8, 16].map((times) => times * retryBaseMs)
    assert.deepEqual(
      delays(0),
      [...bounds, retryCapMs, retryCapMs].map((bound) => bound / 2)
    )
    assert.deepEqual(delays(0.999_999), [...bounds, retryCapMs, retryCapMs])
  })

  it('a host that says when to come again is asked then, and not before; what is no time counts for nothing', () => {
    const delay = (retryAfterMs: string | number | null, random: number) => {
      const record = { verb: 'vm.start', host: 'kvm-1', vm: 'web-1', state: 'sent', refusals: 0 }
      const refusal = { code: 'E_BUSY', message: 'x', details: { retryAfterMs } } as const
      const decision = afterRefusal(record as CommandRecord, refusal, () => random)
      return decision.kind === 'retry' ? decision.delayMs : undefined
    }
    assert.deepEqual([delay(20_000, 0), delay(20_000, 1)], [20_000, 30_000])
    assert.equal(delay(86_400_000, 0), askedWaitMsMax)
    assert.equal(delay(1, 0), retryBaseMs / 2)
    for (const nonsense of ['soon', null, -5, 0]) assert.equal(delay(nonsense, 1), retryBaseMs)
  })
})
