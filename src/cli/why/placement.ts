// Why a VM stands on its host, added to what else there is to say of it.

import type { PlacementView } from '../../protocol/placement.ts'
import type { Why } from './facts.ts'

/** Verbs whose operations come with an explanation of their host. */
export const placingVerbs: readonly string[] = ['vm.provision', 'vm.restore']

/** How the host was chosen, and where the whole of it is. */
export function withPlacement(why: Why, placement: PlacementView | undefined, operation: string): Why {
  if (placement === undefined) return why
  return {
    ...why,
    findings: [...why.findings, { text: placementText(placement) }],
    next: [...why.next, `hostlet op placement ${operation}   why that host, with the scores of all`]
  }
}

function placementText({ host, named, hosts, refusedBy, refused }: PlacementView): string {
  if (named) {
    const against = refused[0] === undefined ? '' : `, although ${refused[0].why}`
    return `host ${host ?? ''} was named by who asked${against}`
  }
  if (hosts === 1) return `host ${host ?? ''} was chosen: there was no other`
  const counts = refusedBy.map(({ text }) => text).join(', ')
  const taking = hosts - refusedBy.reduce((sum, one) => sum + one.hosts, 0)
  return `host ${host ?? ''} was chosen as the best of ${taking} that took it, of ${hosts} hosts${counts === '' ? '' : `: ${counts}`}`
}
