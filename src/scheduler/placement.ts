// Where a new VM goes, decided from what is known of all hosts: the connected one with most free memory.

import { HostletError } from '../errors.ts'
import type { HostRecord } from './store/store.ts'

export interface Candidate {
  readonly host: HostRecord
  /** Memory of the VMs that are placed there, running or not. */
  readonly placedBytes: number
  /** What the host itself said was left, in its newest sample. */
  readonly availableBytes: number | undefined
}

export interface Wanted {
  readonly memoryBytes: number
  /** For hosts that tell how many whole cores they have left, and for which profiles. */
  readonly cpus?: number
  readonly profile?: string
  /** The verb that puts it there. */
  readonly verb: 'vm.provision' | 'vm.restore'
}

/** Throws E_UNAVAILABLE when no host can be asked, E_CAPACITY when none has so much memory left. */
export function place(wanted: Wanted, candidates: readonly Candidate[]): HostRecord {
  const { memoryBytes, verb } = wanted
  const askable = candidates.filter(({ host }) => canTake(host, verb))
  const able = askable.filter(({ host }) => hasCores(host, wanted))
  if (able.length === 0 && askable.length > 0) throw noCores(wanted)
  const best = able.toSorted((left, right) => freeBytes(right) - freeBytes(left))[0]
  if (best === undefined)
    throw new HostletError(
      'E_UNAVAILABLE',
      'no host is connected that could take a VM (one that is drained takes none). See "hostlet host ls", add one with "hostlet host token", or name a host.'
    )
  if (freeBytes(best) >= memoryBytes) return best.host
  throw new HostletError(
    'E_CAPACITY',
    `no host has ${gibibytes(memoryBytes)} of memory left: ${best.host.id} has most, ${gibibytes(freeBytes(best))}. Free some with "hostlet vm rm", or name a host to try it anyway.`,
    { details: { host: best.host.id, freeBytes: freeBytes(best), neededBytes: memoryBytes } }
  )
}

function canTake({ revokedAt, report }: HostRecord, verb: string): boolean {
  if (revokedAt !== undefined || report?.state !== 'connected' || report.facts === undefined) return false
  if (report.drainingSince !== undefined) return false
  return report.hypervisor !== 'away' && report.verbs.includes(verb)
}

/** True of an agent too old to tell: it judges by itself. */
function hasCores({ report }: HostRecord, { cpus = 0, profile = '' }: Wanted): boolean {
  const { coresFree, profilesPinned } = report?.facts ?? {}
  return coresFree === undefined || profilesPinned?.includes(profile) !== true || coresFree >= cpus
}

function noCores({ cpus = 0, profile = '' }: Wanted): HostletError {
  return new HostletError(
    'E_CAPACITY',
    `no host has ${cpus} whole cores left, which profile ${profile} gives to a VM. Free some with "hostlet vm rm" (stopped VMs keep theirs), ask for fewer vCPUs, or name a host to try it anyway.`,
    { details: { cpus, profile } }
  )
}

/** The smaller of what is not promised to VMs yet and what is not used now. */
function freeBytes({ host, placedBytes, availableBytes }: Candidate): number {
  const facts = host.report?.facts
  const unpromised = (facts?.vmMemoryBytesMax ?? facts?.memoryBytes ?? 0) - placedBytes
  return Math.max(0, Math.min(unpromised, availableBytes ?? unpromised))
}

function gibibytes(bytes: number): string {
  return `${(bytes / 1024 ** 3).toFixed(1)} GiB`
}
