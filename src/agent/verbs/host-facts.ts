// host.facts: what the host is and what it has left.

import { Type } from '../../lib/schema.ts'
import { strict } from '../../protocol/names.ts'
import { HostFacts } from '../../protocol/vm.ts'
import type { Host } from '../host/host.ts'
import { defineVerb } from '../operations/verb.ts'
import type { VerbDocument } from './document.ts'

export const hostFacts = defineVerb<Host>()({
  name: 'host.facts',
  summary: 'Tells what the host is: versions, processors, memory, room for disks, accelerator.',
  lock: 'none',
  looks: true,
  changes: false,
  deadlineMs: 60_000,
  afterCrash: 'resume',
  params: Type.Object({}, strict),
  result: Type.Object({ facts: HostFacts }, strict),
  steps: () => [],
  async outcome(_params, host, operation) {
    return { facts: await host.facts.read(operation) }
  }
})

export const document: VerbDocument = {
  errors: { E_UNAVAILABLE: 'libvirt is away' },
  crash: 'Changes nothing and is not journaled: ask again.',
  remarks: [
    '`accelerator` is what VMs really get: `kvm` only after a machine has run in it on this host since it booted.'
  ],
  example: {}
}
