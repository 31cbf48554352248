// What is said where no host takes a VM: how many hosts each reason keeps, which came nearest, and what to do.

import { HostletError } from '../../errors.ts'
import { freeMemory } from './candidate.ts'
import { gibibytes } from './filters.ts'
import type { Asked } from './place.ts'
import { countsOf, type Refused } from './refused.ts'

/** E_UNAVAILABLE where no host can be asked at all; E_CAPACITY where some can, and lack what is wanted. */
export function noPlace({ wanted }: Asked, refused: readonly Refused[]): HostletError {
  if (refused.length === 0)
    return new HostletError('E_UNAVAILABLE', 'no host has joined yet. Add one with "hostlet host token".')
  const counts = countsOf(refused, wanted)
    .map(({ text }) => text)
    .join(', ')
  const lacking = refused.filter(({ filter }) => !unable.has(filter.id))
  const hosts = `${refused.length} host${refused.length === 1 ? '' : 's'}`
  if (lacking.length === 0)
    return new HostletError(
      'E_UNAVAILABLE',
      `no host can be asked for a VM: of ${hosts}, ${counts}. See "hostlet host ls", add one with "hostlet host token", or name a host with --host.`
    )
  const nearest = nearestOf(lacking)
  return new HostletError(
    'E_CAPACITY',
    `no host takes a VM with ${wanted.cpus} vCPU${wanted.cpus === 1 ? '' : 's'}, ${gibibytes(wanted.memoryBytes, Math.ceil)} of memory and ${gibibytes(wanted.diskBytes, Math.ceil)} of disks: of ${hosts}, ${counts}. ${nearest.candidate.host.id} comes nearest: ${nearest.why}. See "hostlet host candidates", make room with "hostlet vm rm" (disks of VMs that are kept go with --now), ask for less, or name a host with --host to try it anyway.`,
    {
      details: {
        host: nearest.candidate.host.id,
        filter: nearest.filter.id,
        freeBytes: freeMemory(nearest.candidate),
        neededBytes: wanted.memoryBytes
      }
    }
  )
}

/** Filters of what no smaller VM would change. */
const unable: ReadonlySet<string> = new Set([
  'revoked',
  'connected',
  'draining',
  'hypervisor',
  'verb',
  'condition'
])

/** The one that the latest filter refused, and of those the one with most memory left. */
function nearestOf(lacking: readonly Refused[]): Refused {
  const room = lacking.filter(({ filter }) => filter.isRoom)
  const [first, ...rest] = room.length > 0 ? room : lacking
  return rest.reduce(
    (best, other) => (freeMemory(other.candidate) > freeMemory(best.candidate) ? other : best),
    first as Refused
  )
}
