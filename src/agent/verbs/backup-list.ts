// backup.list: what a repository holds.

import { BackupListParams, BackupListResult } from '../../protocol/backup.ts'
import type { Host } from '../host/host.ts'
import { defineVerb } from '../operations/verb.ts'
import type { VerbDocument } from './document.ts'

export const backupList = defineVerb<Host>()({
  name: 'backup.list',
  summary: 'Lists the snapshots in a repository, of one VM or of all.',
  lock: 'none',
  looks: true,
  changes: false,
  deadlineMs: 600_000,
  afterCrash: 'resume',
  params: BackupListParams,
  result: BackupListResult,
  steps: () => [],
  outcome: ({ target, source }, host, operation) => host.backups.catalog.list({ target, source }, operation)
})

export const document: VerbDocument = {
  errors: {
    E_AUTH: 'the host has no policy of backups, or the repository refuses the credentials',
    E_NOT_FOUND: "the host's policy names no such repository, or there is no repository there",
    E_UNAVAILABLE: 'the repository is away'
  },
  crash: 'Changes nothing and is not journaled: ask again.',
  remarks: [
    'Manifests are read, opened and checked: who signed them has to be a host of the fleet. What fails is in `damaged` with its reason.',
    '`locked` are VMs whose backups are wrapped for keys that this host does not have.'
  ],
  example: { target: 'offsite' }
}
