// vm.backup: the disks of a VM at one instant, into a repository, while it runs.

import { randomUUID } from 'node:crypto'
import { VmBackupParams, VmBackupResult } from '../../protocol/backup.ts'
import { rolesOf } from '../backups/runner.ts'
import type { Host } from '../host/host.ts'
import { refuseRetained } from '../host/retained.ts'
import { defineVerb, type Operation } from '../operations/verb.ts'
import { planBackupOf } from '../plans/looking.ts'
import type { VerbDocument } from './document.ts'
import { requireVm } from './subject.ts'

/** A first backup of a large disk over a slow line takes this long. */
export const transferMs = 24 * 3_600_000

export const vmBackup = defineVerb<Host>()({
  name: 'vm.backup',
  summary: 'Backs a VM up, running or not: what changed since the last backup, encrypted, into a repository.',
  lock: 'backup',
  lane: 'transfer',
  changes: false,
  cancellable: true,
  deadlineMs: transferMs,
  afterCrash: 'resume',
  params: VmBackupParams,
  result: VmBackupResult,
  lockKey: ({ vm }) => vm,

  async check({ vm, target, disks }, host, operation) {
    host.backups.repositories.require(target)
    rolesOf(refuseRetained(await requireVm(vm, host, operation)), { disks })
  },

  steps: ({ vm, target, disks, quiesce, mode, limits }, host) => [
    {
      // Before anything is begun: after a crash a manifest that was written is recognised by it.
      name: 'choose an id',
      apply: async () => ({ snapshot: randomUUID() })
    },
    {
      name: 'back up',
      apply: async (operation) => {
        const record = await requireVm(vm, host, operation)
        const order = {
          target,
          snapshot: snapshotOf(operation),
          disks,
          quiesce: quiesce ?? 'none',
          mode: mode ?? 'auto',
          bytesPerSecond: limits?.bytesPerSecond
        } as const
        return { result: await host.backups.runner.run(record, order, operation) }
      },
      // A snapshot that exists is no cancelled backup.
      final: true,
      undo: async (operation) => {
        const { snapshot } = operation.notes
        if (typeof snapshot !== 'string') return
        await host.backups.runner.undo(vm, { target, snapshot }, operation)
      }
    }
  ],

  plan: planBackupOf,

  outcome: (_params, _host, { notes }) => Promise.resolve(notes.result as VmBackupResult)
})

function snapshotOf({ notes }: Operation): string {
  return String(notes.snapshot)
}

export const document: VerbDocument = {
  errors: {
    E_BAD_REQUEST: 'the VM has no disk that is asked for',
    E_AUTH:
      "the host has no policy of backups, or one that others than root can write; the repository refuses the credentials; or no key of the host or its policy opens the VM's earlier backups",
    E_NOT_FOUND:
      "the VM is not defined on this host, the host's policy names no such repository, or a repository that was used before is empty, as when a mount is missing",
    E_CONFLICT:
      "the name belongs to a domain that is not hostlet's, or the repository's place holds something else",
    E_BUSY:
      'the backups of the VM are being written or pruned by somebody else, for longer than it was worth waiting',
    E_CAPACITY: 'no room for what the guest overwrites meanwhile, or the repository is full',
    E_UNAVAILABLE: 'libvirt or the repository is away, or the VM stopped meanwhile',
    E_TIMEOUT: 'it took longer than its deadline',
    E_CANCELLED: 'it was cancelled',
    E_CORRUPT: 'the repository gives other bytes than were stored'
  },
  crash:
    'Is done anew from the beginning under the same id, after what was left of it has been removed: the job, its files, its checkpoint. When its manifest had been written already it is only finished.',
  remarks: [
    'The VM is not changed: it may be started, stopped and removed meanwhile. A VM that was off stands paused meanwhile, and is off again afterwards.',
    '`kind` in the record is `incremental` where the checkpoint of the last backup holds: then only what changed is read. `fallback`: everything was read and compared with the last backup; `reason` says why. `full`: everything was read, and nothing compared.',
    'A backup that fails leaves the checkpoint of the last good one in place: the next one is incremental all the same. Checkpoints are kept apart for each repository.',
    '`freeze` asks the guest agent to bring file systems to rest for a moment. Where that fails the backup is taken all the same, as after a power cut: `consistency` and `freezeFault` say so.',
    'CD and seed are never part of it. Who can open it says the policy of the host, not the command.'
  ],
  example: { vm: 'web-1', target: 'offsite', quiesce: 'freeze' }
}
