// Backups of the hypervisor on libvirt, held to the contract on this machine's own libvirtd and QEMU.

import { describeBackups } from './backup.contract.ts'
import { cannotRun, emptySeed, openLibvirtFixture } from './libvirt-fixture.ts'

describeBackups('libvirt', {
  skip: await cannotRun(),
  open: async () => {
    const fixture = await openLibvirtFixture()
    return {
      ...fixture,
      seedFile: (uuid) => emptySeed(fixture.directory, uuid),
      addForeign: async () => undefined,
      removeForeign: async () => undefined
    }
  }
})
