// Addresses, users and MACs for new VMs, and the arithmetic of subnets behind them.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { macAddressOf } from '../../../src/agent/host/names.ts'
import { requireSameNetwork, reservationsIn, reservationXml } from '../../../src/agent/host/network-xml.ts'
import { addressNumber, addressText, lowestFreeAddress, parseSubnet } from '../../../src/agent/host/subnet.ts'
import { profileOf } from '../../../src/agent/profiles.ts'
import { carry, makeBench, succeed } from '../verbs/bench.ts'

describe('subnets', () => {
  it('keep the first address for the host and the last for broadcast', () => {
    const subnet = parseSubnet('10.83.16.0/29')
    assert.equal(subnet.gateway, '10.83.16.1')
    const taken = new Set<string>()
    for (let address = lowestFreeAddress(subnet, taken); address; address = lowestFreeAddress(subnet, taken))
      taken.add(address)
    assert.deepEqual([...taken], ['10.83.16.2', '10.83.16.3', '10.83.16.4', '10.83.16.5', '10.83.16.6'])
  })

  it('are read from any address in them, up to the highest', () => {
    assert.equal(parseSubnet('10.83.7.9/20').gateway, '10.83.0.1')
    assert.equal(parseSubnet('255.255.255.0/24').gateway, '255.255.255.1')
    assert.equal(addressText(addressNumber('192.168.254.3') ?? 0), '192.168.254.3')
  })

  it('are refused when they are none', () => {
    for (const text of [
      '',
      '10.0.0.0',
      '10.0.0.0/30',
      '10.0.0.0/7',
      '10.0.0.256/24',
      '10.0.0/24',
      '::/64',
      '10.0.0.0/24 '
    ])
      assert.throws(() => parseSubnet(text), { code: 'E_BAD_REQUEST' }, text)
  })
})

describe('MAC addresses', () => {
  it('follow from the UUID, are locally administered and unicast', () => {
    const mac = macAddressOf('0b54e6f2-6b53-4a3e-9d1c-0123456789ab')
    assert.match(mac, /^52(:[0-9a-f]{2}){5}$/)
    assert.equal(mac, macAddressOf('0b54e6f2-6b53-4a3e-9d1c-0123456789ab'))
    assert.notEqual(mac, macAddressOf('0b54e6f2-6b53-4a3e-9d1c-0123456789ac'))
    assert.notEqual(mac, macAddressOf('0b54e6f2-6b53-4a3e-9d1c-0123456789ab', 1))
  })
})

describe('networks that exist', () => {
  const wanted = { name: 'n', bridge: 'b', subnet: '10.90.0.0/24' }
  const xml = (inner: string) => `<network><name>n</name>${inner}</network>`

  it('are taken when they are as the configuration says, however libvirt writes it', () => {
    for (const mask of ["prefix='24'", "netmask='255.255.255.0'"])
      requireSameNetwork(
        xml(`<forward mode='open'/><bridge name='b'/><ip address='10.90.0.1' ${mask}/>`),
        wanted
      )
  })

  it('are refused when they differ in anything that separates tenants', () => {
    const cases = [
      "<forward mode='nat'/><bridge name='b'/><ip address='10.90.0.1' prefix='24'/>",
      "<bridge name='b'/><ip address='10.90.0.1' prefix='24'/>",
      "<forward mode='open'/><bridge name='c'/><ip address='10.90.0.1' prefix='24'/>",
      "<forward mode='open'/><bridge name='b'/><ip address='10.91.0.1' prefix='24'/>",
      "<forward mode='open'/><bridge name='b'/><ip address='10.90.0.1' prefix='16'/>",
      "<forward mode='open'/><bridge name='b'/><ip address='10.90.0.1' netmask='255.255.0.0'/>",
      "<forward mode='open'/><bridge name='b'/>"
    ]
    for (const each of cases)
      assert.throws(() => requireSameNetwork(xml(each), wanted), { code: 'E_CONFLICT' }, each)
  })

  it('tell their reservations, by MAC in small letters', () => {
    const host = reservationXml({ macAddress: '52:AA:00:00:00:01', address: '10.90.0.2', vm: 'web-1' })
    const found = reservationsIn(
      xml(`<ip address='10.90.0.1'><dhcp>${host}<host name='no-mac' ip='10.90.0.9'/></dhcp></ip>`)
    )
    assert.deepEqual(found, [{ macAddress: '52:aa:00:00:00:01', address: '10.90.0.2', name: 'web-1' }])
    assert.deepEqual(reservationsIn(xml('')), [])
  })
})

describe('placement', () => {
  it('says when a network is full, and gives what is freed to the next', async () => {
    await using bench = await makeBench({
      config: {
        profiles: {
          starter: profileOf({ network: 'hl-net', bridge: 'b', subnet: '10.90.0.0/29', encryption: false })
        }
      }
    })
    const vm = (index: number) => ({
      name: `vm-${index}`,
      uuid: `0b54e6f2-6b53-4a3e-9d1c-00000000000${index}`
    })
    for (let index = 0; index < 5; index++)
      await succeed(bench.host, 'vm.provision', { specification: bench.specification(vm(index)) })
    const sixth = await carry(bench.host, 'vm.provision', { specification: bench.specification(vm(6)) })
    assert.equal(sixth.outcome === 'failed' && sixth.error.code, 'E_CAPACITY')
    const { name, uuid } = vm(2)
    const freed = (await bench.hypervisor.findVm(name, { signal: AbortSignal.timeout(1_000) }))?.placement
    const subject = { vm: name, uuid, generation: 1_000_000 }
    await succeed(bench.host, 'vm.teardown', { vm: name }, { subject })
    bench.hypervisor.forgetLeases()
    const value = await succeed(bench.host, 'vm.provision', { specification: bench.specification(vm(7)) })
    assert.equal(value.address, freed?.address)
  })
})
