// Backups of the hypervisor in memory, held to the contract.

import { MemoryHypervisor } from '../../src/agent/host/memory-hypervisor.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { describeBackups } from './backup.contract.ts'

describeBackups('in memory', {
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
      fill: async (vm, role, { offset, length, byte }) =>
        hypervisor.backups.disk(vm, role).write(offset, Buffer.alloc(length, byte)),
      dispose: () => hypervisor.close()
    }
  }
})
