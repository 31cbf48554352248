// Reservations of which a libvirtd that was killed has changed one half only: in the definition, or in the network that runs.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { cannotRun, type LibvirtFixture, openLibvirtFixture } from '../contract/libvirt-fixture.ts'

const wait = () => ({ signal: AbortSignal.timeout(60_000) })

describe('a reservation that libvirt has by half', { skip: await cannotRun(), timeout: 240_000 }, () => {
  let fixture: LibvirtFixture
  let lease: { macAddress: string; address: string }

  before(async () => {
    fixture = await openLibvirtFixture()
    await fixture.hypervisor.ensureNetwork(fixture.network, wait())
    const address = fixture.network.subnet.replace('.0/24', '.77')
    lease = { macAddress: '52:54:00:00:00:77', address }
  })
  after(() => fixture?.dispose())

  const name = () => fixture.network.name
  const add = () => fixture.hypervisor.addReservation(name(), { ...lease, vm: 'web-1' }, wait())
  const remove = () => fixture.hypervisor.removeReservation(name(), lease.macAddress, wait())
  /** As a libvirtd does that is killed before it comes to the other half. */
  const lose = (half: string) => {
    const host = `<host mac='${lease.macAddress}' ip='${lease.address}'/>`
    return fixture.virsh('net-update', name(), 'delete', 'ip-dhcp-host', host, half)
  }
  const halves = async () => {
    const has = async (...flags: string[]) =>
      (await fixture.virsh('net-dumpxml', name(), ...flags)).includes(lease.macAddress)
    return { live: await has(), config: await has('--inactive') }
  }

  for (const half of ['--live', '--config']) {
    it(`is made whole by adding it again (lost: ${half})`, async () => {
      await add()
      await lose(half)
      await add()
      assert.deepEqual(await halves(), { live: true, config: true })
      await remove()
      assert.deepEqual(await halves(), { live: false, config: false })
    })

    it(`is listed, refused to others, and removed (lost: ${half})`, async () => {
      await add()
      await lose(half)
      assert.deepEqual(await fixture.hypervisor.listReservations(name(), wait()), [lease])
      const other = { macAddress: '52:54:00:00:00:78', address: lease.address, vm: 'web-2' }
      await assert.rejects(fixture.hypervisor.addReservation(name(), other, wait()), { code: 'E_CONFLICT' })
      await remove()
      assert.deepEqual(await halves(), { live: false, config: false })
    })
  }
})
