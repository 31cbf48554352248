// backup.export: one disk of a snapshot as a file on the host, for other tools.

import { BackupExportParams, BackupExportResult } from '../../protocol/backup.ts'
import type { Host } from '../host/host.ts'
import { defineVerb } from '../operations/verb.ts'
import type { VerbDocument } from './document.ts'
import { transferMs } from './vm-backup.ts'

export const backupExport = defineVerb<Host>()({
  name: 'backup.export',
  summary: 'Writes one disk of a snapshot into a new file on the host, as qcow2 or raw.',
  lock: 'backup',
  lane: 'transfer',
  changes: false,
  cancellable: true,
  deadlineMs: transferMs,
  afterCrash: 'rollback',
  params: BackupExportParams,
  result: BackupExportResult,
  lockKey: ({ path }) => `export ${path}`,

  async check({ target, path }, host) {
    host.backups.repositories.require(target)
    await host.backups.restorer.checkExport(path)
  },

  steps: ({ target, source, snapshot, disk, format, path }, host) => [
    {
      name: 'write the file',
      apply: async (operation) => {
        const query = { target, source, snapshot }
        const file = { role: disk, path, format, id: operation.id }
        return { result: await host.backups.restorer.writePart(query, file, operation) }
      },
      undo: ({ id }) => host.backups.restorer.removePart({ path, id })
    },
    {
      name: 'give it its name',
      apply: ({ id }) => host.backups.restorer.nameFile({ path, id }),
      final: true,
      undo: ({ id }) => host.backups.restorer.unnameFile({ path, id })
    },
    { name: 'remove its other name', apply: ({ id }) => host.backups.restorer.removePart({ path, id }) }
  ],

  outcome: (_params, _host, { notes }) => Promise.resolve(notes.result as BackupExportResult)
})

export const document: VerbDocument = {
  errors: {
    E_AUTH:
      "the path is below none of the export directories of the host's policy, or there is no policy; the repository refuses the credentials; or no key of the host or its policy opens the backup",
    E_NOT_FOUND:
      "the host's policy names no such repository, there is no such snapshot, it does not hold the disk, or the file's directory does not exist",
    E_CONFLICT: 'the file exists already',
    E_CAPACITY: 'no room for the file',
    E_UNAVAILABLE: 'the repository is away',
    E_CORRUPT:
      'a block of the backup is damaged, or the repository was put back to an older state; no file is left',
    E_INTERRUPTED: 'the agent was stopped meanwhile: ask anew'
  },
  crash:
    'Is not run again, and the answer is E_INTERRUPTED: what was written is removed, also where it had its name by then. The file appears whole or not at all, and it is there exactly when the answer is that it is done.',
  remarks: [
    'The file is written by the agent and belongs to its user. It holds the disk in clear.',
    'The same without agent, scheduler or libvirt: "hostlet backup export --repository URL --key FILE".'
  ],
  example: {
    target: 'offsite',
    source: '0196f2a4-7c1e-7b3a-9d55-1f2e3d4c5b6a',
    snapshot: 'latest',
    disk: 'root',
    format: 'qcow2',
    path: '/var/backups/hostlet/web-1.qcow2'
  }
}
