// Consoles of the hypervisor in memory, held to the contract.

import { randomUUID } from 'node:crypto'
import { MemoryHypervisor } from '../../src/agent/host/memory-hypervisor.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { describeConsoles } from './console.contract.ts'

describeConsoles('in memory', {
  open: async () => {
    const hypervisor = new MemoryHypervisor({ clock: systemClock })
    hypervisor.open()
    return {
      hypervisor,
      prefix: 'vm',
      network: { name: 'vm-net', bridge: 'vmnet', subnet: '10.90.0.0/24' },
      uid: 1_900_000_000,
      addForeign: async (name) => {
        hypervisor.foreign.push({ name, uuid: randomUUID(), state: 'running' })
      },
      removeForeign: async (name) => {
        hypervisor.foreign.splice(
          hypervisor.foreign.findIndex((domain) => domain.name === name),
          1
        )
      },
      dispose: () => hypervisor.close()
    }
  }
})
