// Ids of log lines: what they are made of.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { eventId } from '../../src/lib/log-events.ts'

describe('the id of a log line', () => {
  it('is its sentence in lowercase, joined by hyphens', () => {
    assert.equal(eventId('command refused'), 'command-refused')
    assert.equal(eventId('VM started after host boot'), 'vm-started-after-host-boot')
  })

  it('ends at the first colon or comma, and has no article and no genitive', () => {
    assert.equal(eventId('scheduler away, trying again'), 'scheduler-away')
    assert.equal(eventId('the clock was set: backups are planned anew'), 'clock-was-set')
    assert.equal(eventId("QEMU's log could not be removed"), 'qemu-log-could-not-be-removed')
  })

  it('is the same each time', () => {
    assert.equal(eventId('operation done'), eventId('operation done'))
  })
})
