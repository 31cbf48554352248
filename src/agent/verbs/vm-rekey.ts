// vm.rekey: new passphrases for the disks of a VM that is off.

import { HostletError } from '../../errors.ts'
import { Type } from '../../lib/schema.ts'
import { strict, Uuid, VmName } from '../../protocol/names.ts'
import type { Host } from '../host/host.ts'
import type { VmRecord } from '../host/hypervisor.ts'
import type { DiskToRekey } from '../keys/rekeying.ts'
import { defineVerb, type Operation } from '../operations/verb.ts'
import { planRekey } from '../plans/changing.ts'
import type { VerbDocument } from './document.ts'
import { checkVm, requireVm, subjectOf } from './subject.ts'

export const vmRekey = defineVerb<Host>()({
  name: 'vm.rekey',
  summary: 'Gives the disks of a VM that is off new passphrases, and destroys the old ones.',
  lock: 'vm',
  backups: 'wait',
  changes: true,
  deadlineMs: 600_000,
  afterCrash: 'resume',
  params: Type.Object({ vm: VmName }, strict),
  /** Ids of the keys, which stay the same. */
  result: Type.Object({ vm: VmName, keys: Type.Array(Uuid, { maxItems: 2 }) }, strict),

  async check({ vm }, host, operation) {
    disksOf(await checkVm(vm, host, operation))
  },

  steps: ({ vm }, host) => [
    {
      name: 'note the command',
      apply: async (operation) => {
        const { generation } = subjectOf(operation, vm)
        await host.hypervisor.annotate(vm, { generation }, operation)
      }
    },
    {
      name: 'have the disks open with new passphrases too',
      apply: async (operation) => {
        for (const disk of await current(vm, host, operation)) await host.keys.rekeying.add(disk, operation)
      }
    },
    {
      name: 'take the old passphrases away',
      apply: async (operation) => {
        for (const disk of await current(vm, host, operation)) await host.keys.rekeying.end(disk, operation)
      }
    }
  ],

  plan: planRekey,

  async outcome({ vm }, host, operation) {
    const record = await requireVm(vm, host, operation)
    return { vm, keys: encryptedDisks(record).map(({ id }) => id) }
  }
})

async function current(vm: string, host: Host, operation: Operation): Promise<DiskToRekey[]> {
  return disksOf(await requireVm(vm, host, operation))
}

/** Throws E_CONFLICT while a QEMU has the disks open, E_UNSUPPORTED when they are not encrypted. */
function disksOf(record: VmRecord): DiskToRekey[] {
  const { specification, state } = record
  const { name } = specification
  if (state !== 'stopped' && state !== 'crashed')
    throw new HostletError(
      'E_CONFLICT',
      `VM ${name} is ${state}, and passphrases are changed while it is off. Stop it first: hostlet vm stop ${name}.`,
      { details: { vm: name } }
    )
  const disks = encryptedDisks(record)
  if (disks.length > 0) return disks
  throw new HostletError(
    'E_UNSUPPORTED',
    `the disks of VM ${name} are not encrypted: there is no passphrase to change. Its profile said so when it was made.`,
    { details: { vm: name } }
  )
}

function encryptedDisks({ placement }: VmRecord): DiskToRekey[] {
  const { rootKey, rootVolume, dataKey, dataVolume } = placement
  return [
    ...(rootKey === undefined ? [] : [{ id: rootKey, volume: rootVolume }]),
    ...(dataKey === undefined || dataVolume === null ? [] : [{ id: dataKey, volume: dataVolume }])
  ]
}

export const document: VerbDocument = {
  errors: {
    E_NOT_FOUND: 'the VM is not defined on this host, or a key of its disks is lost',
    E_CONFLICT: "the VM is not off, or the name belongs to another one or to a domain that is not hostlet's",
    E_UNSUPPORTED: 'its disks are not encrypted',
    E_STALE: 'the VM has carried out a newer command',
    E_CORRUPT: 'a disk does not open with the key that is kept for it',
    E_UNAVAILABLE: 'libvirt is away'
  },
  crash:
    'Runs on. At every instant a key that is kept opens the disk: the new one is added before the old one goes, and kept before it is added.',
  remarks: [
    'The passphrase opens the key that the disk is encrypted with, and that one stays: whoever has a copy of the old passphrase and of the old header of the disk can still read it. Restore the VM from a backup to have its disks encrypted anew.'
  ],
  example: { vm: 'web-1' }
}
