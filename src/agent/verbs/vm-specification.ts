// vm.specification: what was asked for of a VM, as its host keeps it.

import { Type } from '../../lib/schema.ts'
import { strict, VmName } from '../../protocol/names.ts'
import { VmSpecificationResult } from '../../protocol/plan.ts'
import type { Host } from '../host/host.ts'
import { defineVerb } from '../operations/verb.ts'
import type { VerbDocument } from './document.ts'
import { requireVm } from './subject.ts'

export const vmSpecification = defineVerb<Host>()({
  name: 'vm.specification',
  summary:
    'Tells what was asked for of a VM, as its host keeps it: sizes, image, network, schedule of backups.',
  lock: 'none',
  looks: true,
  changes: false,
  deadlineMs: 30_000,
  afterCrash: 'resume',
  params: Type.Object({ vm: VmName }, strict),
  result: VmSpecificationResult,
  steps: () => [],
  async outcome({ vm }, host, operation) {
    const record = await requireVm(vm, host, operation)
    const { specification, backupSchedule = null } = record
    return { vm: host.vms.summary(record), specification, backupSchedule }
  }
})

export const document: VerbDocument = {
  errors: {
    E_NOT_FOUND: 'the VM is not defined on this host',
    E_CONFLICT: "the name belongs to a domain that is not hostlet's",
    E_UNAVAILABLE: 'libvirt is away'
  },
  crash: 'Changes nothing and is not journaled: ask again.',
  remarks: [
    'It is the truth: the scheduler does not know all of a VM that was found on its host, restored, or changed while its records were lost.',
    'User data is not part of it: no host keeps any.'
  ],
  example: { vm: 'web-1' }
}
