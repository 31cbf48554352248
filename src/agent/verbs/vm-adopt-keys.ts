// vm.adopt-keys: keys of disks come back to a host that has lost them.

import { VmAdoptKeysParams, VmAdoptKeysResult } from '../../protocol/keys.ts'
import type { Host } from '../host/host.ts'
import { defineVerb } from '../operations/verb.ts'
import type { VerbDocument } from './document.ts'
import { checkVm, requireVm, subjectOf } from './subject.ts'

export const vmAdoptKeys = defineVerb<Host>()({
  name: 'vm.adopt-keys',
  summary: "Gives a host keys of a VM's disks that it has lost; each is tried on its disk before it is kept.",
  lock: 'vm',
  backups: 'wait',
  changes: true,
  deadlineMs: 300_000,
  afterCrash: 'resume',
  params: VmAdoptKeysParams,
  result: VmAdoptKeysResult,

  async check({ vm }, host, operation) {
    await checkVm(vm, host, operation)
  },

  steps: ({ vm, keys }, host) => [
    {
      name: 'note the command',
      apply: async (operation) => {
        const { generation } = subjectOf(operation, vm)
        await host.hypervisor.annotate(vm, { generation }, operation)
      }
    },
    {
      name: 'try the keys on the disks and keep them',
      apply: async (operation) => {
        const { adopted, missing } = await host.keys.adoption.adopt(
          await requireVm(vm, host, operation),
          keys,
          operation
        )
        return { adopted: [...adopted], missing: [...missing] }
      }
    }
  ],

  outcome: ({ vm }, _host, { notes }) =>
    Promise.resolve({ vm, adopted: notes.adopted as string[], missing: notes.missing as string[] })
})

export const document: VerbDocument = {
  errors: {
    E_NOT_FOUND: 'the VM is not defined on this host',
    E_CONFLICT: "the name belongs to another VM or to a domain that is not hostlet's",
    E_STALE: 'the VM has carried out a newer command',
    E_AUTH: 'a key is wrapped for another key than this host has now: ask again',
    E_BAD_REQUEST: 'none of the keys opens a disk of the VM; nothing was kept',
    E_CORRUPT: 'a wrapped key was changed on its way, or the header of a disk is damaged',
    E_UNAVAILABLE: 'libvirt is away; with `keys: scheduler` also when the scheduler does not take the keys'
  },
  crash: 'Runs on: the keys are tried and kept again.',
  remarks: [
    'Each key is a JWE (ECDH-ES+A256KW, A256GCM) for `secretsKey` of the host’s facts; its content is the passphrase. Several with one id are tried in turn.',
    'Ids are those that the metadata of the VM names. A passphrase is proven on the LUKS header of its disk inside the agent: it is in no file, argument, log or journal.',
    'Also while the VM runs, which notices nothing.',
    'An operator asks for it with `hostlet vm recover-keys`, which opens what the scheduler keeps with a recovery key.'
  ],
  example: {
    vm: 'web-1',
    keys: [
      {
        id: '9f1c3f5e-4d0a-4b8e-8a51-0f6a2f3b7c11',
        jwe: 'eyJhbGciOiJFQ0RILUVTK0EyNTZLVyJ9.a2V5.aXY.Y2lwaGVydGV4dA.dGFn'
      }
    ]
  }
}
