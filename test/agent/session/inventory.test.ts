// The inventory: one look at a time, another when something changed meanwhile, none that hangs the agent.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  InventoryReporter,
  inventoryDeadlineMs,
  inventoryRetryMs
} from '../../../src/agent/session/inventory.ts'
import { HostletError } from '../../../src/errors.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import type { AgentMessageOf } from '../../../src/protocol/messages.ts'
import type { HostFacts } from '../../../src/protocol/vm.ts'
import { FakeClock, settle } from '../../support/fake-clock.ts'

function setUp(vms: (signal: AbortSignal) => Promise<[]>) {
  const clock = new FakeClock()
  const posted: AgentMessageOf<'inventory'>[] = []
  let looks = 0
  const libvirt = { isThere: true }
  const reporter = new InventoryReporter({
    clock,
    log: silentLogger,
    isReady: () => libvirt.isThere,
    sources: {
      facts: async () => ({}) as HostFacts,
      vms: ({ signal }) => {
        looks++
        return vms(signal)
      },
      foreign: async () => []
    },
    post: (message) => posted.push(message)
  })
  return { clock, posted, reporter, libvirt, looks: () => looks }
}
const untilAborted = (signal: AbortSignal) =>
  new Promise<[]>((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))

describe('the inventory', () => {
  it('looks once more, and no more than that, for all that asked during a look', async () => {
    const gate = Promise.withResolvers<[]>()
    const { reporter, posted, looks } = setUp(() => gate.promise)
    for (let asked = 0; asked < 5; asked++) void reporter.refresh()
    gate.resolve([])
    await settle()
    assert.deepEqual([looks(), posted.length], [2, 2])
  })

  it('gives a look up that takes too long, and can look again', async () => {
    let hang = true
    const { reporter, posted, clock } = setUp((signal) => (hang ? untilAborted(signal) : Promise.resolve([])))
    const look = reporter.refresh()
    await clock.advance(inventoryDeadlineMs)
    await look
    assert.equal(posted.length, 0)
    hang = false
    await reporter.refresh()
    assert.equal(posted.length, 1)
  })

  it('posts nothing half when a part cannot be read', async () => {
    const { reporter, posted } = setUp(() => Promise.reject(new HostletError('E_UNAVAILABLE', 'away')))
    await reporter.refresh()
    assert.deepEqual(posted, [])
  })

  it('looks again soon after a look that failed, unless libvirt is away', async () => {
    let fails = true
    const { reporter, posted, clock, looks, libvirt } = setUp(() =>
      fails ? Promise.reject(new HostletError('E_TIMEOUT', 'listVms got no answer')) : Promise.resolve([])
    )
    await reporter.refresh()
    await clock.advance(inventoryRetryMs)
    assert.deepEqual([looks(), posted.length], [2, 0])
    libvirt.isThere = false
    await clock.advance(10 * inventoryRetryMs)
    assert.equal(looks(), 2)
    libvirt.isThere = true
    await reporter.refresh()
    fails = false
    await clock.advance(inventoryRetryMs)
    assert.equal(posted.length, 1)
    await clock.advance(10 * inventoryRetryMs)
    assert.equal(posted.length, 1)
  })

  it('ends with the agent', async () => {
    const { reporter, posted } = setUp(untilAborted)
    const look = reporter.refresh()
    await reporter[Symbol.asyncDispose]()
    await look
    assert.deepEqual(posted, [])
  })
})
