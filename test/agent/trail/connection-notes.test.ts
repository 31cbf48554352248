// Which ends of a connection are refusals, and that each reason is told once.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ConnectionNotes } from '../../../src/agent/trail/connection-notes.ts'
import { HostletError } from '../../../src/errors.ts'
import { closeCodes } from '../../../src/protocol/messages.ts'

describe('notes of refused connections', () => {
  it('tell each reason once until the scheduler has the host again, and nothing of one that is away', () => {
    const told: [string, unknown][] = []
    const ends: number[] = []
    const notes = new ConnectionNotes({ record: (kind, fields) => told.push([kind, fields?.message]) })
    const { closed } = notes.watched('wss://sched-1:7443/v1/agent', {
      opened: () => undefined,
      message: () => undefined,
      bytes: () => undefined,
      pong: () => undefined,
      closed: ({ code }) => ends.push(code)
    })
    const end = (code: number, reason: string, error?: HostletError) => closed({ code, reason, error })
    end(1006, '', new HostletError('E_UNAVAILABLE', 'nobody answers'))
    end(closeCodes.stopping, 'the scheduler is stopping')
    assert.deepEqual(told, [])
    for (let count = 0; count < 3; count++) end(closeCodes.auth, 'the host was revoked')
    end(1006, '', new HostletError('E_AUTH', 'another CA'))
    notes.online()
    end(closeCodes.auth, 'the host was revoked')
    assert.deepEqual(told, [
      ['connection.refused', 'the host was revoked'],
      ['connection.refused', 'another CA'],
      ['connection.refused', 'the host was revoked']
    ])
    assert.equal(ends.length, 7)
  })
})
