// vm.list: every VM on the host, ours and foreign.

import { Type } from '../../lib/schema.ts'
import { strict } from '../../protocol/names.ts'
import { ForeignDomain, VmSummary } from '../../protocol/vm.ts'
import type { Host } from '../host/host.ts'
import { defineVerb } from '../operations/verb.ts'
import type { VerbDocument } from './document.ts'

/** libvirt lists no more domains than this. */
const vmsMax = 16_384

export const vmList = defineVerb<Host>()({
  name: 'vm.list',
  summary: "Lists the VMs of hostlet on the host, and the domains that are not hostlet's.",
  lock: 'none',
  looks: true,
  changes: false,
  deadlineMs: 60_000,
  afterCrash: 'resume',
  params: Type.Object({}, strict),
  result: Type.Object(
    {
      vms: Type.Array(VmSummary, { maxItems: vmsMax }),
      foreign: Type.Array(ForeignDomain, { maxItems: vmsMax })
    },
    strict
  ),
  steps: () => [],
  async outcome(_params, host, operation) {
    const [vms, foreign] = await Promise.all([
      host.vms.list(operation),
      host.hypervisor.listForeign(operation)
    ])
    return { vms, foreign: [...foreign] }
  }
})

export const document: VerbDocument = {
  errors: { E_UNAVAILABLE: 'libvirt is away' },
  crash: 'Changes nothing and is not journaled: ask again.',
  remarks: ['Foreign domains are listed so that an operator sees them. They are never touched.'],
  example: {}
}
