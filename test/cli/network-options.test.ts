// Options of a VM's network: as they are written, as they are understood, as they are shown.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { describeEgress, describeMapping, networkOf } from '../../src/cli/network-options.ts'

describe('options of a network', () => {
  it('say nothing where nothing is asked for', () => {
    assert.equal(networkOf({ dns: true }), undefined)
  })

  it('publish ports, and show them as they were written', () => {
    const written = ['20080:80', '20053:53/udp', '20022:22@203.0.113.0/24,198.51.100.7']
    const ports = networkOf({ dns: true, publish: written })?.ports ?? []
    assert.deepEqual(ports[1], { transport: 'udp', hostPort: 20_053, vmPort: 53 })
    assert.deepEqual(ports[2]?.sources, ['203.0.113.0/24', '198.51.100.7'])
    assert.deepEqual(ports.map(describeMapping), written)
  })

  it('take an egress by its mode, or as a list', () => {
    assert.deepEqual(networkOf({ dns: false, egress: 'none' }), { egress: { mode: 'none' }, dns: false })
    const egressTo = ['tcp:203.0.113.0/24:443,8443', 'udp:198.51.100.7']
    const egress = networkOf({ dns: true, egressTo })?.egress
    assert.deepEqual(egress?.allow?.[0], {
      transport: 'tcp',
      addresses: ['203.0.113.0/24'],
      ports: [443, 8_443]
    })
    assert.equal(egress && describeEgress(egress), egressTo.join(' '))
  })

  it('take rates with units', () => {
    assert.deepEqual(networkOf({ dns: true, receiveLimit: '1MiB', transmitLimit: '64KiB' }), {
      receiveBytesPerSecondMax: 1_048_576,
      transmitBytesPerSecondMax: 65_536
    })
  })

  for (const wrong of [
    { publish: ['80'] },
    { publish: ['20000:80/sctp'] },
    { publish: ['20000:99999'] },
    { egress: 'list' },
    { egress: 'some' },
    { egress: 'web', egressTo: ['tcp:203.0.113.7'] },
    { egressTo: ['203.0.113.7'] }
  ])
    it(`refuse ${JSON.stringify(wrong)}`, () => {
      assert.throws(() => networkOf({ dns: true, ...wrong }), { code: 'E_BAD_REQUEST' })
    })
})
