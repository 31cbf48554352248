// What the service manager hears: ready, how it is, alive only after a self-check, and that it stops.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { StatusLine, statusIntervalMs } from '../../src/agent/status-line.ts'
import { type NotifyFields, SystemdNotify } from '../../src/lib/systemd-notify.ts'
import { FakeClock, settle } from '../support/fake-clock.ts'

function setUp() {
  const clock = new FakeClock()
  const sent: NotifyFields[] = []
  const notify = new SystemdNotify({
    clock,
    environment: { NOTIFY_SOCKET: '/run/none', WATCHDOG_USEC: '60000000' },
    send: async (fields) => void sent.push(fields)
  })
  const host = { line: 'Scheduler away; 0 VMs', isWell: true }
  const status = new StatusLine({ notify, clock, line: () => host.line, selfCheck: () => host.isWell })
  return { clock, sent, host, status, pings: () => sent.filter(({ WATCHDOG }) => WATCHDOG === '1').length }
}

describe('the status line', () => {
  it('says ready once, then each line that is new', async () => {
    const { clock, sent, host, status } = setUp()
    await status.begin()
    await clock.advance(statusIntervalMs)
    host.line = 'Connected to sched-1; 2 VMs'
    await clock.advance(2 * statusIntervalMs)
    await status.end()
    const words = sent.filter(({ WATCHDOG }) => WATCHDOG === undefined)
    assert.deepEqual(words, [
      { READY: '1', STATUS: 'Scheduler away; 0 VMs' },
      { STATUS: 'Connected to sched-1; 2 VMs' },
      { STOPPING: '1', STATUS: 'Stopping; VMs run on' }
    ])
    assert.equal(clock.pending, 0)
  })

  it('gives a sign of life only while the self-check passes', async () => {
    const { clock, host, status, pings } = setUp()
    await status.begin()
    await settle()
    await clock.advance(30_000)
    const alive = pings()
    host.isWell = false
    await clock.advance(300_000)
    assert.ok(alive >= 1)
    assert.equal(pings(), alive)
    await status.end()
  })
})
