// vm.undelete: has a VM back that was torn down and is still kept.

import { VmUndeleteParams, VmUndeleteResult } from '../../protocol/lifecycle.ts'
import type { Host } from '../host/host.ts'
import { requireRetained, undeleteSteps } from '../lifecycle/retain.ts'
import { defineVerb } from '../operations/verb.ts'
import { planUndelete } from '../plans/changing.ts'
import type { VerbDocument } from './document.ts'
import { refuseStale, requireVm, subjectOf } from './subject.ts'

export const vmUndelete = defineVerb<Host>()({
  name: 'vm.undelete',
  summary: 'Has a VM back that was torn down and is still kept: as it was, and running if it was to run.',
  lock: 'vm',
  changes: true,
  deadlineMs: 300_000,
  afterCrash: 'resume',
  params: VmUndeleteParams,
  result: VmUndeleteResult,

  async check({ vm }, host, operation) {
    const { generation } = subjectOf(operation, vm)
    const record = await requireVm(vm, host, operation)
    refuseStale(record, generation)
    requireRetained(record, host.clock.now())
  },

  steps: ({ vm }, host) => undeleteSteps(vm, host),

  plan: planUndelete,

  async outcome({ vm }, host, operation) {
    return { vm: host.vms.summary(await requireVm(vm, host, operation)) }
  }
})

export const document: VerbDocument = {
  errors: {
    E_NOT_FOUND: 'the VM is not defined on this host, was erased, or its time is over and it is being erased',
    E_CONFLICT:
      "the VM was not torn down, or the name belongs to another VM or to a domain that is not hostlet's",
    E_STALE: 'the VM has carried out a newer command',
    E_CAPACITY: 'it is kept no longer to be erased, but the host has no memory left to start it',
    E_UNAVAILABLE: 'libvirt is away'
  },
  crash: 'Runs on.',
  remarks: [
    'Disks, keys, name, address and backup schedule are those that it had. It runs where it was wanted to run before the teardown, and is off otherwise.',
    'Once it is a VM again it stays one, also when it cannot be started: start it when the reason is gone.',
    'The answer does not wait for the guest: ask for its port to know.'
  ],
  example: { vm: 'web-1' }
}
