// The hypervisor on libvirt, held to what is told of everything on a host.

import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { metadataElement } from '../../src/agent/host/metadata.ts'
import { metadataNamespace } from '../../src/agent/host/names.ts'
import { element, renderXml } from '../../src/agent/host/xml.ts'
import { describeInventory } from './inventory.contract.ts'
import { cannotRun, openLibvirtFixture } from './libvirt-fixture.ts'

describeInventory('libvirt', {
  skip: await cannotRun(),
  open: async () => {
    const fixture = await openLibvirtFixture()
    return {
      ...fixture,
      pool: fixture.pool.name,
      plant: async ({ name, uuid, metadata }) => {
        const ours =
          typeof metadata === 'string'
            ? element('hostlet:vm', { 'xmlns:hostlet': metadataNamespace }, metadata)
            : metadataElement(metadata)
        const domain = element(
          'domain',
          { type: 'qemu' },
          element('name', {}, name),
          element('uuid', {}, uuid),
          element('metadata', {}, ours),
          element('memory', {}, '65536'),
          element('os', {}, element('type', { arch: 'x86_64', machine: 'q35' }, 'hvm'))
        )
        const path = join(fixture.directory, 'planted.xml')
        await writeFile(path, renderXml(domain))
        await fixture.virsh('define', path)
      },
      uproot: async (name) => void (await fixture.virsh('undefine', name)),
      setAutostart: async (name) => void (await fixture.virsh('autostart', name)),
      stopPool: async () => void (await fixture.virsh('pool-destroy', fixture.pool.name))
    }
  }
})
