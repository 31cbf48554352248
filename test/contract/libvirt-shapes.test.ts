// The hypervisor on libvirt, held to the contract of shapes on this machine's own libvirtd and QEMU.

import { cannotRun, emptySeed, openLibvirtFixture } from './libvirt-fixture.ts'
import { describeShapes } from './shape.contract.ts'

describeShapes('libvirt', {
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
