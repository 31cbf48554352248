// Hosts as candidates, for the tests of placement.

import type { HostFacts } from '../../../src/protocol/vm.ts'
import type { Candidate, PlacementSettings, Wanted } from '../../../src/scheduler/placement/candidate.ts'
import { defaultWeights } from '../../../src/scheduler/placement/scores.ts'
import type { HostRecord, HostReport } from '../../../src/scheduler/store/store.ts'
import { gibibyte, hostFacts } from '../support/samples.ts'

export const settings: PlacementSettings = {
  diskOvercommit: 4,
  diskReserveRatio: 0.05,
  weights: defaultWeights
}

export function wanted(change: Partial<Wanted> = {}): Wanted {
  return { verb: 'vm.provision', cpus: 1, memoryBytes: gibibyte, diskBytes: 4 * gibibyte, ...change }
}

export type CandidateChange = {
  report?: Partial<HostReport>
  host?: Partial<HostRecord>
  facts?: Partial<HostFacts>
  placed?: Partial<Candidate['placed']>
} & Partial<Omit<Candidate, 'host' | 'placed'>>

/** 8 processors, 8 GiB of memory, a pool of 100 GiB. */
export function candidate(id: string, change: CandidateChange = {}): Candidate {
  const { report, host, facts, placed, ...rest } = change
  return {
    placed: { memoryBytes: 0, cpus: 0, diskBytes: 0, ...placed },
    availableBytes: undefined,
    poolAvailableBytes: undefined,
    groupMembers: 0,
    ...rest,
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
        facts: { ...hostFacts(id, 8 * gibibyte), ...facts },
        foreignCount: 0,
        clockSkewMs: undefined,
        ...report
      },
      ...host
    }
  }
}
