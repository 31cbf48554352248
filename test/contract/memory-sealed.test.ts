// Encrypted disks of the hypervisor in memory, held to the contract.

import { MemoryHypervisor } from '../../src/agent/host/memory-hypervisor.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { describeSealed } from './sealed.contract.ts'

describeSealed('in memory', {
  open: async () => {
    const hypervisor = new MemoryHypervisor({ clock: systemClock })
    hypervisor.open()
    return {
      hypervisor,
      prefix: 'vm',
      network: { name: 'vm-net', bridge: 'vmnet', subnet: '10.90.0.0/24' },
      uid: 1_900_000_000,
      seedFile: async (uuid) => `/memory/${uuid}.iso`,
      addForeign: async () => undefined,
      removeForeign: async () => undefined,
      dispose: () => hypervisor.close()
    }
  }
})
