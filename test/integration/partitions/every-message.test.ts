// Each message of the protocol, both ways: its connection cut just before it and just after, said twice, out of order, and again on the next connection.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import { systemClock } from '../../../src/lib/clock.ts'
import { agentMessages, schedulerMessages } from '../../../src/protocol/messages.ts'
import { faults, type Side } from './frame-proxy.ts'
import { MessageFleet } from './message-fleet.ts'
import { ofAgent, ofScheduler, type Trigger } from './message-triggers.ts'

/** Until the trigger is tried once more: some messages come only now and then. */
const againMs = 1_000
const patienceMs = 60_000
const nameOf = ({ properties }: { properties: { type: { const: string } } }) => properties.type.const

describe('a message that is disturbed', { timeout: 840_000 }, () => {
  const directory = mkdtempSync('/dev/shm/hostlet-messages-')
  let fleet: MessageFleet

  before(async () => {
    fleet = await MessageFleet.open(directory)
  })
  after(async () => {
    await fleet?.[Symbol.asyncDispose]()
    rmSync(directory, { recursive: true, force: true })
  })

  async function disturb(from: Side, type: string, { bring, after }: Trigger): Promise<void> {
    for (const fault of faults) {
      const over = new AbortController()
      const disturbed = fleet.proxy.disturb(from, type, fault).finally(() => over.abort())
      const deadline = AbortSignal.timeout(patienceMs)
      while (!over.signal.aborted) {
        assert.ok(
          !deadline.aborted,
          `no ${type} of the ${from} came for "${fault}":\n${fleet.lines.slice(-20).join('')}`
        )
        await bring(fleet)
        await systemClock.sleep(againMs, over.signal).catch(() => undefined)
      }
      await disturbed
      await after?.(fleet)
      await fleet.settled()
      await fleet.ended(await fleet.reset())
    }
    await fleet.settled()
  }

  describe('by the agent:', () => {
    for (const [type, trigger] of Object.entries(ofAgent)) it(type, () => disturb('agent', type, trigger))
    it('are all that there are', () => {
      assert.deepEqual(Object.keys(ofAgent).sort(), agentMessages.map(nameOf).sort())
    })
  })

  describe('by the scheduler:', () => {
    for (const [type, trigger] of Object.entries(ofScheduler))
      it(type, () => disturb('scheduler', type, trigger))
    it('are all that there are', () => {
      assert.deepEqual(Object.keys(ofScheduler).sort(), schedulerMessages.map(nameOf).sort())
    })
  })
  it('leaves a host that is well, and books that are whole', async () => {
    await fleet.tearDownSealed()
    await fleet.assertWell()
  })
})
