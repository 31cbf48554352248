// Following an operation while the scheduler goes away and comes back, or does not.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Session } from '../../src/cli/client-command.ts'
import { awayMs, follow } from '../../src/cli/follow.ts'
import { HostletError } from '../../src/errors.ts'
import type { OperationView } from '../../src/protocol/api.ts'

const operation: OperationView = {
  id: '018f3c9e-7b1a-7def-8000-0123456789ab',
  verb: 'vm.provision',
  host: 'kvm-1',
  vm: 'web-1',
  state: 'running',
  createdAt: 0,
  expiresAt: 1,
  next: ''
}
const away = () => new HostletError('E_UNAVAILABLE', 'no scheduler listens.')

/** A session whose scheduler gives these answers in turn, the last one for ever; its clock runs by sleeping. */
function sessionOf(answers: readonly (OperationView | HostletError)[]) {
  let at = 0
  let nowMs = 0
  const shown: unknown[] = []
  const session = {
    cli: {
      clock: {
        monotonic: () => nowMs,
        sleep: async (ms: number) => {
          nowMs += ms
        }
      },
      note: () => undefined,
      show: (value: unknown) => shown.push(value)
    },
    client: {
      ask: async () => {
        const answer = answers[Math.min(at++, answers.length - 1)]
        if (answer instanceof HostletError) throw answer
        return { operation: answer }
      }
    },
    signal: new AbortController().signal
  }
  return { session: session as unknown as Session, shown, waitedMs: () => nowMs }
}

const options = { wait: true, done: () => 'done' }

describe('following an operation', () => {
  it('goes on over a restart of the scheduler', async () => {
    const { session, shown } = sessionOf([away(), away(), { ...operation, state: 'done' }])
    await follow(session, operation, options)
    assert.deepEqual(shown, [{ operation: { ...operation, state: 'done' } }])
  })

  it('ends, once the scheduler stays away, with a code that says to look and with the operation', async () => {
    const { session, waitedMs } = sessionOf([away()])
    await assert.rejects(follow(session, operation, options), (error: HostletError) => {
      assert.equal(error.advice, 'look')
      assert.equal(error.details.operation, operation.id)
      assert.match(error.message, /hostlet op wait 018f3c9e/)
      return true
    })
    assert.ok(waitedMs() >= awayMs)
  })

  it('ends at once with what no waiting mends', async () => {
    const { session, waitedMs } = sessionOf([new HostletError('E_AUTH', 'the key is not known')])
    await assert.rejects(follow(session, operation, options), { code: 'E_AUTH' })
    assert.equal(waitedMs(), 0)
  })
})
