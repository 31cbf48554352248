// What speaks for one host rather than another: each score from 0 to 1, times its weight.

import {
  type Candidate,
  freeDisk,
  freeMemory,
  labelOf,
  type PlacementSettings,
  placeOf
} from './candidate.ts'
import type { Terms } from './filters.ts'

/** The best of the hosts that take the VM, which the others are measured by. */
export interface Best {
  readonly memoryBytes: number
  readonly diskBytes: number
}

export interface Score {
  readonly id: string
  readonly weight: number
  of(candidate: Candidate, terms: Terms, best: Best): number
}

/** vCPUs that share a processor before a host counts as full. */
const vcpusPerProcessor = 4

export const scores: readonly Score[] = [
  {
    id: 'memory',
    weight: 1,
    of: (candidate, _terms, best) => share(freeMemory(candidate), best.memoryBytes)
  },
  {
    id: 'disk',
    weight: 0.5,
    of: (candidate, { settings }, best) => share(freeDisk(candidate, settings), best.diskBytes)
  },
  {
    id: 'cpus',
    weight: 0.5,
    of: ({ host, placed }) =>
      1 - Math.min(1, share(placed.cpus, (host.report?.facts?.cpus ?? 0) * vcpusPerProcessor))
  },
  {
    id: 'quiet',
    weight: 0.25,
    of: ({ host }) => 1 / (1 + (host.report?.operationsRunning ?? 0) + (host.report?.operationsWaiting ?? 0))
  },
  {
    id: 'prefer',
    weight: 4,
    of: ({ host }, { wanted: { prefer = {} } }) => {
      const wanted = Object.entries(prefer)
      return share(wanted.filter(([key, value]) => labelOf(host, key) === value).length, wanted.length)
    }
  },
  {
    id: 'spread',
    weight: 4,
    of: ({ host }, { wanted: { group, spreadBy }, places }) => {
      if (group === undefined) return 0
      const place = placeOf(host, spreadBy)
      return place === undefined ? 0 : 1 / (1 + (places.get(place) ?? 0))
    }
  }
]

export const defaultWeights: Readonly<Record<string, number>> = Object.fromEntries(
  scores.map(({ id, weight }) => [id, weight])
)

export function bestOf(candidates: readonly Candidate[], settings: PlacementSettings): Best {
  return {
    memoryBytes: Math.max(0, ...candidates.map(freeMemory)),
    diskBytes: Math.max(0, ...candidates.map((candidate) => freeDisk(candidate, settings)))
  }
}

function share(part: number, whole: number): number {
  return whole <= 0 ? 0 : part / whole
}
