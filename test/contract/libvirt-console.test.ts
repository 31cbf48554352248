// Consoles on libvirt, held to the contract on this machine's own libvirtd and QEMU.

import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describeConsoles } from './console.contract.ts'
import { cannotRun, openLibvirtFixture } from './libvirt-fixture.ts'

describeConsoles('libvirt', {
  skip: await cannotRun(),
  open: async () => {
    const fixture = await openLibvirtFixture()
    return {
      ...fixture,
      addForeign: async (name) => {
        const path = join(fixture.directory, 'foreign.xml')
        const os = "<os><type arch='x86_64' machine='q35'>hvm</type></os>"
        const xml = `<domain type='qemu'><name>${name}</name><uuid>${randomUUID()}</uuid><memory>65536</memory>${os}</domain>`
        await writeFile(path, xml)
        await fixture.virsh('define', path)
      },
      removeForeign: async (name) => {
        await fixture.virsh('undefine', name)
      }
    }
  }
})
