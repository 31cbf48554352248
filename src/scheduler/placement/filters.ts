// What keeps a host from taking a VM: one entry a reason, asked in this order; the first that refuses is told.

import type { Labels } from '../../protocol/placement.ts'
import {
  type Candidate,
  forbidding,
  freeDisk,
  freeMemory,
  labelOf,
  type PlacementSettings,
  placeOf,
  type Wanted
} from './candidate.ts'

/** Most labels that a sentence names. */
const labelsToldMax = 8

export interface Terms {
  readonly wanted: Wanted
  readonly settings: PlacementSettings
  /** VMs of the group by place. */
  readonly places: ReadonlyMap<string, number>
}

export interface Filter {
  readonly id: string
  /** Of how many hosts, in the sentence that counts them: "3 are away". */
  readonly text: string | ((wanted: Wanted) => string)
  /** Whether it is about room, which VMs that go make. */
  readonly isRoom?: true
  /** Why the host does not take it. */
  refuse(candidate: Candidate, terms: Terms): string | undefined
}

export const filters: readonly Filter[] = [
  {
    id: 'revoked',
    text: 'revoked',
    refuse: ({ host }) => (host.revokedAt === undefined ? undefined : 'it is revoked')
  },
  {
    id: 'connected',
    text: 'away or never seen',
    refuse: ({ host: { report } }) => {
      if (report === undefined) return 'it has never connected'
      if (report.state !== 'connected') return `it is away: ${report.reason}`
      return report.facts === undefined ? 'it has told nothing of itself yet' : undefined
    }
  },
  {
    id: 'draining',
    text: 'drained',
    refuse: ({ host }) =>
      host.report?.drainingSince === undefined ? undefined : 'it is drained, and takes no new work'
  },
  {
    id: 'hypervisor',
    text: 'without libvirt',
    refuse: ({ host }) => (host.report?.hypervisor === 'away' ? 'its libvirt is away' : undefined)
  },
  {
    id: 'verb',
    text: 'with an agent that is too old',
    refuse: ({ host }, { wanted: { verb } }) =>
      host.report?.verbs.includes(verb) === true ? undefined : `its agent does not know ${verb}`
  },
  {
    id: 'condition',
    text: 'in a critical condition',
    refuse: ({ host }) => {
      const condition = forbidding(host)
      return condition && `it has the condition ${condition.id}: ${condition.message}`
    }
  },
  {
    id: 'labels',
    text: ({ require = {} }) => `without ${labelsText(require)}`,
    refuse: ({ host }, { wanted: { require = {} } }) => {
      const lacking = Object.entries(require).find(([key, value]) => labelOf(host, key) !== value)
      if (lacking === undefined) return undefined
      const [key, value] = lacking
      const there = labelOf(host, key)
      return `it has ${there === undefined ? `no label ${key}` : `${key}=${there}`}, not ${key}=${value}`
    }
  },
  {
    id: 'profile',
    text: 'without the profile',
    refuse: ({ host }, { wanted: { profile } }) => {
      const offered = host.report?.facts?.profiles
      if (offered === undefined || profile === undefined || offered.includes(profile)) return undefined
      return `it has no profile ${profile}, only ${offered.join(', ')}`
    }
  },
  {
    id: 'apart',
    text: 'with a VM of the group',
    refuse: ({ host }, { wanted: { group, spreadBy, apart }, places }) => {
      if (group === undefined || apart !== true) return undefined
      const place = placeOf(host, spreadBy)
      if (place === undefined) return `it has no label ${spreadBy}, which VMs of group ${group} are spread by`
      return (places.get(place) ?? 0) === 0
        ? undefined
        : `a VM of group ${group} is on ${spreadBy ?? 'host'} ${place}`
    }
  },
  {
    id: 'cpus',
    text: 'with too few processors',
    isRoom: true,
    refuse: ({ host }, { wanted: { cpus } }) => {
      const there = host.report?.facts?.cpus ?? 0
      return there >= cpus ? undefined : `it has ${there} processors, the VM wants ${cpus} vCPUs`
    }
  },
  {
    id: 'cores',
    text: 'with too few whole cores left',
    isRoom: true,
    refuse: ({ host }, { wanted: { cpus, profile = '' } }) => {
      const { coresFree, profilesPinned } = host.report?.facts ?? {}
      if (coresFree === undefined || profilesPinned?.includes(profile) !== true || coresFree >= cpus)
        return undefined
      return `it has ${coresFree} whole cores left, profile ${profile} gives ${cpus} to this VM`
    }
  },
  {
    id: 'memory',
    text: 'with too little memory left',
    isRoom: true,
    refuse: (candidate, { wanted: { memoryBytes } }) => {
      const free = freeMemory(candidate)
      return free >= memoryBytes
        ? undefined
        : `it has ${gibibytes(free)} of memory left, the VM wants ${gibibytes(memoryBytes, Math.ceil)}`
    }
  },
  {
    id: 'disk',
    text: 'with too little room for disks left',
    isRoom: true,
    refuse: (candidate, { wanted: { diskBytes }, settings }) => {
      const capacity = candidate.host.report?.facts?.poolCapacityBytes ?? 0
      // A pool that has not told its size yet is not a pool without room.
      if (capacity === 0) return undefined
      const reserve = capacity * settings.diskReserveRatio
      const available =
        candidate.poolAvailableBytes ?? candidate.host.report?.facts?.poolAvailableBytes ?? capacity
      if (available < reserve)
        return `its pool has ${gibibytes(available)} left, of which ${gibibytes(reserve)} are kept`
      const free = freeDisk(candidate, settings)
      return free >= diskBytes
        ? undefined
        : `its pool takes ${gibibytes(free)} more of disks (${settings.diskOvercommit} times its size), the VM wants ${gibibytes(diskBytes, Math.ceil)}`
    }
  }
]

/** What is there is rounded down, what is wanted up: a little too little does not look like enough. */
export function gibibytes(bytes: number, round: (value: number) => number = Math.floor): string {
  return `${(round((bytes / 1024 ** 3) * 10) / 10).toFixed(1)} GiB`
}

/** `the label zone=b`; `all of the labels disk=ssd, zone=b`. Cut where they would be too many for a sentence. */
function labelsText(labels: Labels): string {
  const all = Object.entries(labels).map(([key, value]) => `${key}=${value}`)
  const told = all.slice(0, labelsToldMax).join(', ')
  return all.length === 1
    ? `the label ${told}`
    : `all of the labels ${told}${all.length > labelsToldMax ? ', …' : ''}`
}
