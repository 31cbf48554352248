// The hypervisor in memory, held to what is told of everything on a host.

import { MemoryHypervisor } from '../../src/agent/host/memory-hypervisor.ts'
import { memoryPool } from '../../src/agent/host/memory-inventory.ts'
import { metadataElement } from '../../src/agent/host/metadata.ts'
import { element, renderXml } from '../../src/agent/host/xml.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { describeInventory } from './inventory.contract.ts'

describeInventory('in memory', {
  open: async () => {
    const hypervisor = new MemoryHypervisor({ clock: systemClock })
    hypervisor.open()
    const { planted } = hypervisor.inventory
    return {
      hypervisor,
      prefix: 'vm',
      network: { name: 'vm-net', bridge: 'vmnet', subnet: '10.90.0.0/24' },
      uid: 1_900_000_000,
      pool: memoryPool,
      plant: async ({ name, uuid, metadata }) => {
        const written = typeof metadata === 'string' ? element('vm', {}, metadata) : metadataElement(metadata)
        planted.push({ name, uuid, metadata: renderXml(written) })
      },
      uproot: async (name) => {
        planted.splice(
          planted.findIndex((domain) => domain.name === name),
          1
        )
      },
      setAutostart: async (name) => hypervisor.tamper(name, { autostart: true }),
      stopPool: async () => {
        hypervisor.inventory.poolIsStopped = true
      },
      dispose: () => hypervisor.close()
    }
  }
})
