// Where a VM goes: only where it can, and where most is left of what is neither promised nor used.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { HostFacts } from '../../src/protocol/vm.ts'
import { type Candidate, place } from '../../src/scheduler/placement.ts'
import type { HostRecord, HostReport } from '../../src/scheduler/store/store.ts'
import { gibibyte, hostFacts } from './support/samples.ts'

function candidate(
  id: string,
  change: { report?: Partial<HostReport>; host?: Partial<HostRecord> } & Partial<Omit<Candidate, 'host'>> = {}
): Candidate {
  const { report, host, placedBytes = 0, availableBytes } = change
  return {
    placedBytes,
    availableBytes,
    host: {
      id,
      hostname: id,
      enrolledAt: 1,
      certificateExpiresAt: 2,
      revokedAt: undefined,
      certificates: undefined,
      clonedAt: undefined,
      vmCount: 0,
      report: {
        state: 'connected',
        reason: '',
        connection: 'c',
        connectedAt: 1,
        lastSeenAt: 1,
        agentVersion: '1',
        instance: 'i',
        verbs: ['vm.provision'],
        hypervisor: 'connected',
        operationsRunning: 0,
        operationsWaiting: 0,
        conditions: [],
        facts: hostFacts(id, 8 * gibibyte),
        foreignCount: 0,
        clockSkewMs: undefined,
        ...report
      },
      ...host
    }
  }
}

describe('placement', () => {
  it('counts what is promised, and what is used beyond that', () => {
    const promised = candidate('promised', { placedBytes: 7 * gibibyte })
    const used = candidate('used', { availableBytes: 2 * gibibyte })
    const half = candidate('half', { placedBytes: 4 * gibibyte, availableBytes: 6 * gibibyte })
    assert.equal(place({ memoryBytes: gibibyte, verb: 'vm.provision' }, [promised, used, half]).id, 'half')
    assert.equal(place({ memoryBytes: gibibyte, verb: 'vm.provision' }, [promised, used]).id, 'used')
  })

  it('gives nothing to a host that is drained, however much it has left', () => {
    const drained = candidate('drained', { report: { drainingSince: 1 } })
    const small = candidate('small', { placedBytes: 6 * gibibyte })
    assert.equal(place({ memoryBytes: gibibyte, verb: 'vm.provision' }, [drained, small]).id, 'small')
    assert.throws(() => place({ memoryBytes: gibibyte, verb: 'vm.provision' }, [drained]), {
      code: 'E_UNAVAILABLE',
      message: /drained/
    })
  })

  it('asks hosts that tell for whole cores and for what they have for VMs', () => {
    const telling = (id: string, facts: Partial<HostFacts>) =>
      candidate(id, { report: { facts: { ...hostFacts(id, 8 * gibibyte), ...facts } } })
    const cores = (coresFree: number) => ({ coresFree, coresPinnable: 4, profilesPinned: ['premium'] })
    const [few, many] = [
      telling('few', cores(1)),
      telling('many', { ...cores(4), memoryBytes: 4 * gibibyte })
    ]
    const wanted = { memoryBytes: gibibyte, verb: 'vm.provision', cpus: 2 } as const
    assert.equal(place({ ...wanted, profile: 'premium' }, [few, many]).id, 'many')
    assert.equal(place({ ...wanted, profile: 'starter' }, [few, many]).id, 'few')
    assert.throws(() => place({ ...wanted, profile: 'premium' }, [few]), {
      code: 'E_CAPACITY',
      message: /^no host has 2 whole cores left, which profile premium gives to a VM\./
    })
    const old = candidate('old')
    assert.equal(place({ ...wanted, profile: 'premium' }, [few, old]).id, 'old')
    const reserved = telling('reserved', { vmMemoryBytesMax: gibibyte })
    assert.throws(() => place({ ...wanted, memoryBytes: 2 * gibibyte }, [reserved]), { code: 'E_CAPACITY' })
  })

  const unable: readonly [string, Candidate][] = [
    ['is away', candidate('a', { report: { state: 'away' } })],
    ['is revoked', candidate('a', { host: { revokedAt: 5 } })],
    ['never connected', candidate('a', { host: { report: undefined } })],
    ['has told no facts', candidate('a', { report: { facts: undefined } })],
    ['has lost its libvirt', candidate('a', { report: { hypervisor: 'away' } })],
    ['cannot provision', candidate('a', { report: { verbs: [] } })]
  ]
  for (const [why, host] of unable)
    it(`passes over a host that ${why}`, () => {
      assert.throws(() => place({ memoryBytes: 1, verb: 'vm.provision' }, [host]), { code: 'E_UNAVAILABLE' })
      const small = candidate('small', { placedBytes: 7 * gibibyte })
      assert.equal(place({ memoryBytes: 1, verb: 'vm.provision' }, [host, small]).id, 'small')
    })

  it('names the fullest offer when none is enough', () => {
    const hosts = [
      candidate('a', { placedBytes: 6 * gibibyte }),
      candidate('b', { placedBytes: 9 * gibibyte })
    ]
    assert.throws(() => place({ memoryBytes: 4 * gibibyte, verb: 'vm.provision' }, hosts), {
      code: 'E_CAPACITY',
      details: { host: 'a', freeBytes: 2 * gibibyte, neededBytes: 4 * gibibyte }
    })
  })
})
