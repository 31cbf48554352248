// vm.audit: whether what is promised about a VM's isolation is so now, item by item.

import { Type } from '../../lib/schema.ts'
import { VmAudit } from '../../protocol/audit.ts'
import { strict, VmName } from '../../protocol/names.ts'
import { answer, gather } from '../audit/audit.ts'
import type { Host } from '../host/host.ts'
import { defineVerb } from '../operations/verb.ts'
import type { VerbDocument } from './document.ts'
import { requireVm } from './subject.ts'

export const vmAudit = defineVerb<Host>()({
  name: 'vm.audit',
  summary: 'Looks whether what is promised about the isolation of a VM is so, item by item.',
  lock: 'none',
  looks: true,
  changes: false,
  deadlineMs: 60_000,
  afterCrash: 'resume',
  params: Type.Object({ vm: VmName }, strict),
  result: VmAudit,
  steps: () => [],
  async outcome({ vm }, host, operation) {
    const facts = await gather(await requireVm(vm, host, operation), host, operation)
    return { vm, at: host.clock.now(), items: answer(facts) }
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
    'It looks at the machine as libvirt runs it, at what the kernel says of its QEMU, and at the rules that the kernel has; not at what the agent once asked for.',
    '`yes` was seen to be so. `no` was seen not to be. `unknown` could not be looked at, and `why` says what was in the way: a VM that is off has no process.',
    'What a profile does not ask for, such as encryption, is answered with `no` all the same.'
  ],
  example: { vm: 'web-1' }
}
