// backup.prune: removes snapshots that no rule keeps, and the data that only they needed.

import { BackupPruneParams, PruneResult } from '../../protocol/backup.ts'
import type { Host } from '../host/host.ts'
import { defineVerb } from '../operations/verb.ts'
import type { VerbDocument } from './document.ts'
import { transferMs } from './vm-backup.ts'

export const backupPrune = defineVerb<Host>()({
  name: 'backup.prune',
  summary: 'Removes the snapshots of a VM that no rule keeps, and the data that nothing needs any more.',
  lock: 'backup',
  lane: 'transfer',
  changes: false,
  cancellable: true,
  deadlineMs: transferMs,
  afterCrash: 'resume',
  params: BackupPruneParams,
  result: PruneResult,

  async check({ target }, host) {
    host.backups.repositories.require(target)
  },

  steps: ({ target, source, keep, dryRun }, host) => [
    {
      name: 'prune',
      apply: async (operation) => {
        const order = { target, source, keep, dryRun: dryRun === true }
        return { result: await host.backups.maintenance.prune(order, operation) }
      },
      final: true
    }
  ],

  outcome: (_params, _host, { notes }) => Promise.resolve(notes.result as PruneResult)
})

export const document: VerbDocument = {
  errors: {
    E_AUTH:
      "the host has no policy of backups, the repository refuses the credentials, or no key of the host or its policy opens the VM's backups",
    E_NOT_FOUND: "the host's policy names no such repository, or there is no repository there",
    E_BUSY: 'the backups of the VM are being written by somebody else, for longer than it was worth waiting',
    E_UNAVAILABLE: 'the repository is away',
    E_CANCELLED: 'it was cancelled; what was removed stays removed',
    E_CORRUPT:
      'what a snapshot needs cannot be told, since its tree is damaged: nothing of the data was removed'
  },
  crash:
    'Is run again: what was removed is gone, the rest follows. Every snapshot that is listed stays whole.',
  remarks: [
    'A rule keeps the newest of each of so many hours, days, weeks, months or years; `last` the newest ones. What several rules keep counts once.',
    'What a kept snapshot or a running backup needs is never removed, whoever made it.',
    '`dryRun` only says what would go.'
  ],
  example: {
    target: 'offsite',
    source: '0196f2a4-7c1e-7b3a-9d55-1f2e3d4c5b6a',
    keep: { daily: 7, weekly: 4, monthly: 12 }
  }
}
