// What the host's own books say of VMs: commands under way, generations, VMs that it has had. Looking at what is there is judged against it.

import type { Journal } from '../operations/journal.ts'
import type { KnownVm, KnownVms } from './known-vms.ts'

export interface Undertaking {
  readonly verb: string
  readonly vm: string | undefined
  readonly uuid: string | undefined
}

export interface Ledger {
  /** The greatest generation that a command of the VM had; undefined where none is remembered. */
  generationOf(uuid: string): number | undefined
  /** Operations that have not ended. */
  underWay(): readonly Undertaking[]
  knownVms(): readonly KnownVm[]
}

/** Of a host without books: nothing is under way, and nothing can be proven by them. */
export const emptyLedger: Ledger = {
  generationOf: () => undefined,
  underWay: () => [],
  knownVms: () => []
}

export function ledgerOf(
  journal: Pick<Journal, 'generationOf' | 'unfinished'>,
  known: Pick<KnownVms, 'all'>
): Ledger {
  return {
    generationOf: (uuid) => journal.generationOf(uuid),
    knownVms: () => known.all(),
    underWay: () =>
      journal.unfinished().map(({ claims: { verb, subject, arguments: args } }) => ({
        verb,
        vm: subject?.vm ?? (typeof args.vm === 'string' ? args.vm : undefined),
        uuid: subject?.uuid
      }))
  }
}

/** Whether somebody works on a VM now: what is seen of it meanwhile is not how it stays. */
export function isUnderWay(ledger: Ledger, { name, uuid }: KnownVm, except?: string): boolean {
  return ledger
    .underWay()
    .some(
      (each) =>
        each.verb !== except &&
        (each.uuid === undefined ? each.vm === name : each.uuid === uuid || each.vm === name)
    )
}
