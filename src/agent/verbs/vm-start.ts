// vm.start: switches a VM on, with its network.

import { Type } from '../../lib/schema.ts'
import { Ipv4, strict, VmName } from '../../protocol/names.ts'
import { VmSummary } from '../../protocol/vm.ts'
import type { Host } from '../host/host.ts'
import { defineVerb } from '../operations/verb.ts'
import { planStart } from '../plans/changing.ts'
import type { VerbDocument } from './document.ts'
import { checkVm, requireVm, subjectOf } from './subject.ts'

export const vmStart = defineVerb<Host>()({
  name: 'vm.start',
  summary: 'Switches a VM on and has it run from now on, also after a boot of the host.',
  lock: 'vm',
  changes: true,
  deadlineMs: 300_000,
  afterCrash: 'resume',
  params: Type.Object({ vm: VmName }, strict),
  result: Type.Object({ vm: VmSummary, address: Ipv4 }, strict),

  async check({ vm }, host, operation) {
    await checkVm(vm, host, operation)
  },

  steps: ({ vm }, host) => [
    {
      name: 'have it run',
      apply: async (operation) => {
        const { wanted } = await requireVm(vm, host, operation)
        const { generation } = subjectOf(operation, vm)
        await host.hypervisor.annotate(vm, { generation, wanted: 'running' }, operation)
        // After a crash between the two the note of the first time is lost, and the VM counts as running before.
        return { wantedBefore: wanted }
      },
      undo: async (operation) => {
        if (operation.notes.wantedBefore !== 'stopped') return
        await host.hypervisor.annotate(vm, { wanted: 'stopped' }, operation)
      }
    },
    {
      name: 'start',
      apply: async (operation) => {
        await host.vms.start(await requireVm(vm, host, operation), operation)
      }
    }
  ],

  plan: planStart,

  async outcome({ vm }, host, operation) {
    const record = await requireVm(vm, host, operation)
    return { vm: host.vms.summary(record), address: record.placement.address }
  }
})

export const document: VerbDocument = {
  errors: {
    E_NOT_FOUND: 'the VM is not defined on this host, or the key of one of its disks is lost',
    E_CONFLICT: "the name belongs to another VM or to a domain that is not hostlet's",
    E_STALE: 'the VM has carried out a newer command',
    E_CAPACITY: 'the host has no memory left for it',
    E_UNAVAILABLE: 'libvirt is away, or the network rules cannot be applied'
  },
  crash: 'Runs on; a VM that runs already is left alone.',
  remarks: ['No effect on a VM that runs. The answer does not wait for the guest: ask for its port to know.'],
  example: { vm: 'web-1' }
}
