// Encrypted disks of the hypervisor on libvirt, held to the contract.

import { cannotRun, emptySeed, openLibvirtFixture } from './libvirt-fixture.ts'
import { describeSealed } from './sealed.contract.ts'

describeSealed('libvirt', {
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
