// backup.verify: whether a snapshot is whole, and boots.

import { BackupVerifyParams, BackupVerifyResult } from '../../protocol/backup.ts'
import { bootSteps } from '../backups/boot-trial.ts'
import type { Looked } from '../backups/maintenance.ts'
import type { Host } from '../host/host.ts'
import { defineVerb, type Step } from '../operations/verb.ts'
import type { VerbDocument } from './document.ts'
import { transferMs } from './vm-backup.ts'

export const backupVerify = defineVerb<Host>()({
  name: 'backup.verify',
  summary: 'Reads a snapshot back, block by block, and says what is wrong with it; boots it where asked to.',
  lock: 'backup',
  lane: 'transfer',
  changes: false,
  cancellable: true,
  deadlineMs: transferMs,
  afterCrash: 'resume',
  params: BackupVerifyParams,
  result: BackupVerifyResult,
  lockKey: ({ source }) => `verify ${source}`,

  async check({ target }, host) {
    host.backups.repositories.require(target)
  },

  steps: (params, host) => [
    {
      name: 'read everything back',
      apply: async (operation) => {
        const looked = await host.backups.maintenance.verify(params, operation)
        return { looked, snapshot: looked.snapshot }
      }
    },
    ...(params.boot === true ? bootSteps(params, host).map(unlessBad) : [])
  ],

  outcome: (_params, _host, { notes }) => {
    const { verification, ...rest } = notes.looked as Looked
    const fault = verification.fault ?? (notes.bootFault as string | undefined)
    return Promise.resolve({
      ...rest,
      verification: {
        ...verification,
        booted: notes.booted === true && notes.bootFault === undefined,
        ...(fault !== undefined && { outcome: 'bad', fault })
      }
    })
  }
})

/** What is damaged is not booted. */
function unlessBad(step: Step): Step {
  return {
    ...step,
    apply: async (operation) => {
      const { verification } = operation.notes.looked as Looked
      return verification.outcome === 'good' ? ((await step.apply(operation)) ?? undefined) : undefined
    }
  }
}

export const document: VerbDocument = {
  errors: {
    E_AUTH:
      'the host has no policy of backups, the repository refuses the credentials, or no key of the host or its policy opens the backup',
    E_NOT_FOUND: "the host's policy names no such repository, or there is no such snapshot",
    E_CORRUPT:
      'the repository was put back to an older state, so that there is nothing to be called the latest; damage of a snapshot itself is an answer and no error',
    E_CAPACITY: 'no room or memory for the throw-away machine',
    E_UNAVAILABLE: 'libvirt or the repository is away',
    E_CANCELLED: 'it was cancelled; the throw-away machine is removed'
  },
  crash:
    'Runs on; everything is read again when that was under way. The throw-away machine is removed in any case.',
  remarks: [
    'Every block is fetched, authenticated, and held against its address in the tree. Each fault is named with its object, and with the place in the disk that is lost.',
    '`boot` restores the snapshot into a machine of a random name without a network card and waits until the agent of its guest (qemu-guest-agent) shows. It is listed nowhere, and removed whatever comes of it.',
    '`freshness` says whether the repository still has the newest snapshot that host or scheduler know of.'
  ],
  example: {
    target: 'offsite',
    source: '0196f2a4-7c1e-7b3a-9d55-1f2e3d4c5b6a',
    snapshot: 'latest',
    boot: true
  }
}
