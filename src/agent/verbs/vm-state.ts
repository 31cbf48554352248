// vm.state: what one VM is doing now.

import { Type } from '../../lib/schema.ts'
import { strict, VmName } from '../../protocol/names.ts'
import { VmSummary } from '../../protocol/vm.ts'
import type { Host } from '../host/host.ts'
import { defineVerb } from '../operations/verb.ts'
import type { VerbDocument } from './document.ts'
import { requireVm } from './subject.ts'

export const vmState = defineVerb<Host>()({
  name: 'vm.state',
  summary: 'Tells the state of one VM as libvirt sees it now.',
  lock: 'none',
  looks: true,
  changes: false,
  deadlineMs: 30_000,
  afterCrash: 'resume',
  params: Type.Object({ vm: VmName }, strict),
  result: Type.Object({ vm: VmSummary }, strict),
  steps: () => [],
  async outcome({ vm }, host, operation) {
    return { vm: host.vms.summary(await requireVm(vm, host, operation)) }
  }
})

export const document: VerbDocument = {
  errors: {
    E_NOT_FOUND: 'the VM is not defined on this host',
    E_CONFLICT: "the name belongs to a domain that is not hostlet's",
    E_UNAVAILABLE: 'libvirt is away'
  },
  crash: 'Changes nothing and is not journaled: ask again.',
  example: { vm: 'web-1' }
}
