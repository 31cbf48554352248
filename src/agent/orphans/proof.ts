// The judgement that all kinds of leftovers share: proven ours, and nothing that may need it.

import type { OrphanItem } from '../../protocol/orphans.ts'
import type { KnownVm } from '../inventory/known-vms.ts'
import { ageMsMin, type OrphanFacts } from './facts.ts'

export interface Suspect extends Pick<OrphanItem, 'kind' | 'name'> {
  /** Undefined where nobody knows. */
  readonly changedAt: number | undefined
  /** Of a file that others may stand on: its path and its name. */
  readonly paths: readonly string[]
  /** What proves it ours; undefined: nothing does. */
  readonly proof: string | undefined
  /** What may need it; undefined: nothing is known to. */
  readonly doubt: string | undefined
}

const charactersMax = 512

export function judged(facts: OrphanFacts, suspect: Suspect): OrphanItem {
  const { kind, name, proof } = suspect
  const doubt = suspect.doubt ?? doubtOf(facts, suspect)
  const verdict = proof !== undefined && doubt === undefined ? 'ours' : 'maybe'
  const why = doubt ?? proof ?? 'nothing proves that hostlet made it'
  return { kind, name: name.slice(0, charactersMax), verdict, why: why.slice(0, charactersMax) }
}

function doubtOf(facts: OrphanFacts, { paths, changedAt }: Suspect): string | undefined {
  if (paths.some((path) => facts.usedFiles.has(path))) return 'a domain or another volume uses it'
  if (paths.length > 0 && facts.chainFault !== undefined) return facts.chainFault
  if (changedAt === undefined) return 'its age is not known'
  const minutes = Math.floor((facts.now - changedAt) / 60_000)
  // Also of a time to come: the clock was set.
  return facts.now - changedAt < ageMsMin ? `it changed ${minutes} minutes ago` : undefined
}

/** An operation of the VM, or one of which nobody knows whose it is. */
export function workOn({ underWay }: OrphanFacts, vm: Partial<KnownVm>): string | undefined {
  const found = underWay.find(
    (each) =>
      (each.uuid !== undefined && each.uuid === vm.uuid) || (each.vm !== undefined && each.vm === vm.name)
  )
  return found && `${found.verb} of its VM is under way`
}
