// Events of VMs: in order, with the state that the VM is in, bounded in what they ask of libvirt.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { DomainEvent, VmRecord } from '../../../src/agent/host/hypervisor.ts'
import {
  gatherMs,
  stateDeadlineMs,
  VmEvents,
  waitingEventsMax
} from '../../../src/agent/session/vm-events.ts'
import { HostletError } from '../../../src/errors.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import type { VmEvent } from '../../../src/protocol/messages.ts'
import { FakeClock, settle } from '../../support/fake-clock.ts'

const event = (changes: Partial<DomainEvent> = {}): DomainEvent => ({
  name: 'web-1',
  uuid: '0b54e6f2-6b53-4a3e-9d1c-0123456789ab',
  kind: 'started',
  detail: 'booted',
  run: 1,
  at: 1,
  ...changes
})

function setUp(findVm: (signal: AbortSignal) => Promise<VmRecord | undefined>) {
  const clock = new FakeClock()
  const posted: VmEvent[] = []
  const looksAnew: number[] = []
  let looks = 0
  const events = new VmEvents({
    clock,
    log: silentLogger,
    hypervisor: {
      findVm: (_name, { signal }) => {
        looks++
        return findVm(signal)
      }
    },
    post: (message) => posted.push(message),
    lookAnew: () => looksAnew.push(clock.monotonic())
  })
  return { clock, posted, events, looks: () => looks, looksAnew }
}
const record = (state: VmRecord['state']) => ({ state }) as VmRecord

describe('VM events', () => {
  it('bring one look at all VMs soon after, for many of them, and none once the agent stops', async () => {
    const { events, clock, looksAnew } = setUp(async () => record('stopped'))
    events.take(event({ kind: 'stopped' }))
    await clock.advance(gatherMs / 2)
    events.take(event({ kind: 'stopped', name: 'web-2' }))
    assert.deepEqual(looksAnew, [])
    await clock.advance(gatherMs)
    assert.deepEqual(looksAnew, [gatherMs])
    events.take(event())
    events[Symbol.dispose]()
    await clock.advance(10 * gatherMs)
    assert.deepEqual(looksAnew, [gatherMs])
  })

  it('carry the state that the VM is in, not the one that it passed through', async () => {
    const { events, posted } = setUp(async () => record('paused'))
    events.take(event())
    await settle()
    assert.deepEqual(posted, [
      {
        type: 'event',
        at: 1,
        vm: 'web-1',
        uuid: event().uuid,
        kind: 'started',
        state: 'paused',
        detail: 'booted'
      }
    ])
  })

  it('carry the state that they imply where libvirt cannot say, or does not in time', async () => {
    const { events, posted, clock } = setUp(
      (signal) =>
        new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    )
    events.take(event({ kind: 'crashed' }))
    await settle()
    await clock.advance(stateDeadlineMs)
    assert.equal(posted[0]?.state, 'crashed')
    const away = setUp(() => Promise.reject(new HostletError('E_UNAVAILABLE', 'away')))
    away.events.take(event({ kind: 'shutdown' }))
    await settle()
    assert.equal(away.posted[0]?.state, 'stopping')
  })

  it('of a VM that is gone ask nobody', async () => {
    const { events, posted, looks } = setUp(async () => record('running'))
    events.take(event({ kind: 'undefined' }))
    await settle()
    assert.deepEqual([posted[0]?.state, looks()], ['stopped', 0])
  })

  it('arrive in order, and in a flood without a look at each', async () => {
    const { events, posted, looks } = setUp(async () => record('running'))
    const count = waitingEventsMax + 100
    for (let at = 0; at < count; at++) events.take(event({ at }))
    while (posted.length < count) await settle()
    assert.deepEqual(
      posted.map(({ at }) => at),
      Array.from({ length: count }, (_, at) => at)
    )
    assert.equal(looks(), waitingEventsMax)
  })
})
