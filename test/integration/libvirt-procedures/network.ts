// Procedures of networks and network filters. Both stay for the domain's interface.

import assert from 'node:assert/strict'
import { it } from 'node:test'
import { errorCode } from '../../../src/node-libvirt/protocol/constants/errors.ts'
import {
  networkEventType,
  networkListFlag,
  networkUpdateCommand,
  networkUpdateFlag,
  networkUpdateSection,
  networkXmlFlag
} from '../../../src/node-libvirt/protocol/constants/network.ts'
import { networkEvents } from '../../../src/node-libvirt/protocol/events.ts'
import * as networks from '../../../src/node-libvirt/protocol/network.ts'
import * as nwfilters from '../../../src/node-libvirt/protocol/nwfilter.ts'
import type { Network, Nwfilter } from '../../../src/node-libvirt/protocol/objects.ts'
import type { Bench } from './bench.ts'
import { assertIncludes, bridgeName, ourName, subnet, transientNetworks, virsh } from './workshop.ts'

const xml = `<network><name>${ourName}</name><forward mode='open'/><bridge name='${bridgeName}'/>
  <ip address='${subnet}.1' netmask='255.255.255.0'>
    <dhcp><range start='${subnet}.10' end='${subnet}.20'/></dhcp>
  </ip></network>`

export function networkTests(bench: () => Bench): void {
  let network: Network

  it('defines a network and finds it again', async () => {
    const { exercise } = bench()
    ;({ network } = await exercise.ok(networks.networkDefineXml, { xml }))
    const { xml: described } = await exercise.ok(networks.networkGetXmlDesc, { network, flags: 0 })
    const again = await exercise.ok(networks.networkDefineXmlFlags, { xml: described, flags: 0 })
    assert.deepEqual(again.network, network)
    assert.deepEqual((await exercise.ok(networks.networkLookupByName, { name: ourName })).network, network)
    assert.deepEqual(
      (await exercise.ok(networks.networkLookupByUuid, { uuid: network.uuid })).network,
      network
    )
    assert.deepEqual(await exercise.ok(networks.networkIsPersistent, { network }), { persistent: true })
  })

  it('starts it', async () => {
    const { exercise, recorder } = bench()
    assert.deepEqual(await exercise.ok(networks.networkIsActive, { network }), { active: false })
    await exercise.ok(networks.networkCreate, { network })
    assert.deepEqual(await exercise.ok(networks.networkIsActive, { network }), { active: true })
    assert.deepEqual(await exercise.ok(networks.networkGetBridgeName, { network }), { name: bridgeName })
    await recorder.seen(
      networkEvents.lifecycle,
      (event) => event.network.name === ourName && event.event === networkEventType.started
    )
  })

  it('turns its autostart on and off', async () => {
    const { exercise } = bench()
    for (const autostart of [true, false]) {
      await exercise.ok(networks.networkSetAutostart, { network, autostart })
      assert.deepEqual(await exercise.ok(networks.networkGetAutostart, { network }), { autostart })
    }
  })

  it('adds and removes a reservation, live and in the definition', async () => {
    const { exercise } = bench()
    const host = `<host mac='52:54:00:00:00:99' ip='${subnet}.15'/>`
    const change = {
      network,
      section: networkUpdateSection.ipDhcpHost,
      parentIndex: -1,
      xml: host,
      flags: networkUpdateFlag.live | networkUpdateFlag.config
    }
    await exercise.ok(networks.networkUpdate, { ...change, command: networkUpdateCommand.addLast })
    for (const flags of [0, networkXmlFlag.inactive]) {
      assertIncludes((await exercise.ok(networks.networkGetXmlDesc, { network, flags })).xml, host)
    }
    await exercise.ok(networks.networkUpdate, { ...change, command: networkUpdateCommand.delete })
    assert.ok(!(await virsh('net-dumpxml', ourName)).includes('52:54:00:00:00:99'))
  })

  it('lists it among the others', async () => {
    const { exercise } = bench()
    const filter = { needResults: true, flags: networkListFlag.active | networkListFlag.persistent }
    const { networks: listed, count } = await exercise.ok(networks.connectListAllNetworks, filter)
    assert.equal(listed.length, count)
    assert.ok(listed.some(({ name }) => name === ourName))
    assert.ok((await exercise.ok(networks.connectNumOfNetworks, {})).count >= 1)
    assert.ok((await exercise.ok(networks.connectNumOfDefinedNetworks, {})).count >= 0)
  })

  it('has no leases and no ports without guests', async () => {
    const { exercise } = bench()
    const everyone = { network, mac: null, needResults: true, flags: 0 }
    assert.deepEqual(await exercise.ok(networks.networkGetDhcpLeases, everyone), { leases: [], count: 0 })
    const all = { network, needResults: true, flags: 0 }
    assert.deepEqual(await exercise.ok(networks.networkListAllPorts, all), { ports: [], count: 0 })
  })

  it('makes transient networks, which vanish when they stop', async () => {
    const { exercise } = bench()
    const isolated = (name: string) => `<network><name>${name}</name></network>`
    const first = await exercise.ok(networks.networkCreateXml, { xml: isolated(transientNetworks[0]) })
    const second = await exercise.ok(networks.networkCreateXmlFlags, {
      xml: isolated(transientNetworks[1]),
      flags: 0
    })
    for (const made of [first, second]) {
      assert.deepEqual(await exercise.ok(networks.networkIsPersistent, made), { persistent: false })
      await exercise.ok(networks.networkDestroy, made)
      await exercise.refused(networks.networkLookupByName, { name: made.network.name }, errorCode.noNetwork)
    }
  })
}

export function filterTests(bench: () => Bench): void {
  let nwfilter: Nwfilter
  const filterXml = `<filter name='${ourName}'><rule action='accept' direction='inout'/></filter>`

  it('defines a filter and finds it again', async () => {
    const { exercise } = bench()
    ;({ nwfilter } = await exercise.ok(nwfilters.nwfilterDefineXml, { xml: filterXml }))
    const { uuid } = nwfilter
    assert.deepEqual(
      (await exercise.ok(nwfilters.nwfilterLookupByName, { name: ourName })).nwfilter,
      nwfilter
    )
    assert.deepEqual((await exercise.ok(nwfilters.nwfilterLookupByUuid, { uuid })).nwfilter, nwfilter)
    const { xml: described } = await exercise.ok(nwfilters.nwfilterGetXmlDesc, { nwfilter, flags: 0 })
    const again = await exercise.ok(nwfilters.nwfilterDefineXmlFlags, { xml: described, flags: 0 })
    assert.deepEqual(again.nwfilter, nwfilter)
  })

  it('lists it', async () => {
    const { exercise } = bench()
    const { nwfilters: listed, count } = await exercise.ok(nwfilters.connectListAllNwfilters, {
      needResults: true,
      flags: 0
    })
    assert.equal(listed.length, count)
    assert.ok(listed.some(({ name }) => name === ourName))
    assert.ok((await exercise.ok(nwfilters.connectNumOfNwfilters, {})).count >= 1)
  })
}

/** After the domain is gone. */
export function networkEndTests(bench: () => Bench): void {
  it('stops and forgets the network and the filter', async () => {
    const { exercise } = bench()
    const { network } = await exercise.ok(networks.networkLookupByName, { name: ourName })
    await exercise.ok(networks.networkDestroy, { network })
    await exercise.ok(networks.networkUndefine, { network })
    await exercise.refused(networks.networkLookupByUuid, { uuid: network.uuid }, errorCode.noNetwork)
    const { nwfilter } = await exercise.ok(nwfilters.nwfilterLookupByName, { name: ourName })
    await exercise.ok(nwfilters.nwfilterUndefine, { nwfilter })
    await exercise.refused(nwfilters.nwfilterLookupByName, { name: ourName }, errorCode.noNwfilter)
  })
}
