// Hosts that do not take a VM, and how many of them each reason keeps.

import type { PlacementView } from '../../protocol/placement.ts'
import type { Candidate, Wanted } from './candidate.ts'
import { type Filter, filters } from './filters.ts'

export interface Refused {
  readonly candidate: Candidate
  readonly filter: Filter
  readonly why: string
}

export function countsOf(refused: readonly Refused[], wanted: Wanted): PlacementView['refusedBy'] {
  return filters.flatMap(({ id, text }) => {
    const hosts = refused.filter(({ filter }) => filter.id === id).length
    if (hosts === 0) return []
    const how = typeof text === 'string' ? text : text(wanted)
    return [{ filter: id, hosts, text: `${hosts} ${hosts === 1 ? 'is' : 'are'} ${how}` }]
  })
}
