// host.clean: removes what VMs that are gone left on the host, as far as it is provably hostlet's.

import { HostCleanParams, HostCleanResult, type OrphanItem, orphansMax } from '../../protocol/orphans.ts'
import type { Host } from '../host/host.ts'
import { defineVerb, type Operation } from '../operations/verb.ts'
import type { VerbDocument } from './document.ts'

interface CleanNotes {
  readonly listed?: readonly Pick<OrphanItem, 'kind' | 'name'>[]
  readonly kept?: readonly OrphanItem[]
  readonly wouldGo?: readonly OrphanItem[]
  readonly removed?: readonly OrphanItem[]
  readonly failed?: readonly OrphanItem[]
}

export const hostClean = defineVerb<Host>()({
  name: 'host.clean',
  summary: 'Removes what VMs that are gone left on the host, as far as it is provably hostlet’s.',
  lock: 'host',
  changes: false,
  deadlineMs: 1_800_000,
  afterCrash: 'resume',
  cancellable: true,
  params: HostCleanParams,
  result: HostCleanResult,

  steps: ({ dryRun = false, keep = [] }, host) => [
    {
      name: 'look for leftovers',
      apply: async (operation) => {
        const found = await host.orphans.find({ keep, checkImages: true }, operation)
        const ours = found.filter(({ verdict }) => verdict === 'ours').slice(0, orphansMax)
        const kept = found.filter(({ verdict }) => verdict !== 'ours').slice(0, orphansMax)
        const listed = ours.map(({ kind, name }) => ({ kind, name }))
        return { listed, kept, ...(dryRun && { wouldGo: ours }) }
      }
    },
    {
      name: 'remove what is ours',
      apply: async (operation) => {
        if (dryRun) return
        return { ...(await host.orphans.clean(notesOf(operation).listed ?? [], keep, operation)) }
      }
    }
  ],

  async outcome({ dryRun = false }, _host, operation) {
    const { wouldGo = [], removed = [], failed = [], kept = [] } = notesOf(operation)
    return { dryRun, removed: [...(dryRun ? wouldGo : removed)], kept: [...kept], failed: [...failed] }
  }
})

function notesOf({ notes }: Operation): CleanNotes {
  return notes as CleanNotes
}

export const document: VerbDocument = {
  errors: { E_UNAVAILABLE: 'libvirt is away' },
  crash:
    'Goes on with what was listed before: each is looked at anew, and removed only if it is still provably ours. What was removed before the crash is not in the answer; the log has it.',
  remarks: [
    'What counts as a leftover of each kind, and what proves it, is in `docs/operate-inventory.md`. What cannot be proven is answered under `kept` with the reason, and never removed.',
    '`keep` names VMs that the scheduler knows to be on this host: nothing of theirs is removed, also where libvirt has lost their definition.',
    'A key goes only when no disk is there that it could open: in the run after the one that removed the disk.',
    '`dryRun` removes nothing and answers under `removed` with exactly what would go.'
  ],
  example: { dryRun: true }
}
