// Room for restored disks: what is known of the pool decides, and what is not known is not taken for none.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { requireRoom } from '../../../src/agent/backups/restore-plan.ts'
import type { HypervisorFacts } from '../../../src/agent/host/hypervisor.ts'

const disks = [{ role: 'root', sizeBytes: 8_000, allocatedBytes: 5_000 } as const]

function room(poolCapacityBytes: number, poolAvailableBytes: number): Promise<void> {
  const facts = { poolCapacityBytes, poolAvailableBytes } as HypervisorFacts
  return requireRoom(
    disks,
    { hypervisor: { facts: async () => facts } },
    { signal: AbortSignal.timeout(1_000) }
  )
}

describe('the room that restored disks need', () => {
  it('is there, or it is not', async () => {
    await room(100_000, 5_000)
    await assert.rejects(room(100_000, 4_999), { code: 'E_CAPACITY', message: /4999 bytes left.*need 5000/ })
  })

  it('is not known as long as the pool has not answered', async () => {
    await assert.rejects(room(0, 0), { code: 'E_UNAVAILABLE', message: /not known/ })
  })
})
