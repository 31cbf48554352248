// The live table: everything that it must show, in the columns of any terminal.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { renderTop } from '../../src/cli/top-view.ts'
import type { LatestMetrics } from '../../src/protocol/api.ts'
import { gibibyte, hostSample, uuid1, vmSample } from '../scheduler/support/samples.ts'

const mebibyte = 1024 ** 2
const now = 1_000_000_000_000
const rates = {
  diskReadBytesPerSecond: 123 * mebibyte,
  diskWriteBytesPerSecond: 999 * 1024,
  receiveBytesPerSecond: 999 * 1024,
  transmitBytesPerSecond: 123 * mebibyte
}

const host = {
  id: 'b8c1fdc4e1a2',
  hostname: 'kvm-1',
  state: 'connected',
  reason: '',
  enrolledAt: 1,
  certificateExpiresAt: 1,
  verbs: [],
  hypervisor: 'connected',
  operationsRunning: 0,
  operationsWaiting: 0,
  conditions: [],
  vmCount: 1,
  foreignCount: 0
} as const

const vm = {
  name: 'first-light',
  uuid: uuid1,
  host: host.id,
  state: 'running',
  reason: 'booted',
  wanted: 'running',
  generation: 1,
  profile: 'starter',
  cpus: 2,
  memoryBytes: 512 * mebibyte,
  address: '10.119.200.123',
  startedAt: now - 195 * 3_600_000,
  createdAt: 1,
  fresh: true
} as const

type Vm = LatestMetrics['vms'][number]

const busy = vmSample({
  cpuCoresUsed: 1.5,
  memoryResidentBytes: 384 * mebibyte,
  diskAllocationBytes: 80 * mebibyte,
  diskCapacityBytes: 320 * mebibyte,
  ...rates
})

function fleet(...vms: readonly Partial<Vm['vm']>[]): LatestMetrics {
  return {
    now,
    hosts: [
      {
        host: { ...host, verbs: [], conditions: [] },
        at: now,
        sample: hostSample({ ...rates, uptimeSeconds: 345_600 })
      }
    ],
    vms: vms.map((change) => ({ vm: { ...vm, ...change }, at: now, sample: busy }))
  }
}

const render = (latest: LatestMetrics, width?: number) => renderTop(latest, { width, colour: false })

describe('the live table', () => {
  it('shows use and size where there is room', () => {
    assert.deepEqual(render(fleet({})), [
      'NAME           STATE      CPU     MEMORY      DISK  READ/WRITE  NET IN/OUT    UP  ADDRESS',
      'b8c1fdc4e1a2   connected  10%     8G/16G  20G/100G   123M/999K   999K/123M  4d0h  -',
      '  first-light  running    75%  384M/512M  80M/320M   123M/999K   999K/123M  8d3h  10.119.200.123'
    ])
  })

  it('shows every column in 79, which an ordinary terminal has beside its cursor', () => {
    assert.deepEqual(render(fleet({}), 79), [
      'NAME          STATE     CPU MEM DISK  RD/WRITE   NET I/O   UP ADDRESS',
      'b8c1fdc4e1a2  connected 10% 50%  20% 123M/999K 999K/123M 4d0h -',
      '  first-light running   75% 75%  25% 123M/999K 999K/123M 8d3h 10.119.200.123'
    ])
  })

  it('cuts names last, and never a line beyond its width', () => {
    const latest = fleet({
      name: 'a'.repeat(63),
      state: 'suspended',
      fresh: false,
      address: '255.255.255.255'
    })
    for (const width of [200, 120, 100, 80, 79, 60, 40])
      for (const line of render(latest, width)) assert.ok([...line].length <= width, `${width}: ${line}`)
    const [titles = '', , row = ''] = render(latest, 79)
    assert.match(titles, /STATE.*CPU.*MEM.*DISK.*RD\/WRITE.*NET I\/O.*UP.*ADDRESS/)
    assert.match(row, /^ {2}a+… suspended\? .* 255\.255\.255\.255$/)
  })

  it('shows what is not known as such: no figures yet, a start that nobody saw', () => {
    const [, , row] = render({
      ...fleet({ startedAt: undefined } as object),
      vms: [{ vm: { ...vm, startedAt: undefined } as never }]
    })
    assert.match(row ?? '', /^ {2}first-light +running +- +-\/512M +- +- +- +- +10\.119\.200\.123$/)
    const unseen = {
      vm: { ...vm, startedAt: undefined } as never,
      at: now,
      sample: { ...busy, uptimeSeconds: 61 }
    }
    assert.match(render({ ...fleet(), vms: [unseen] })[2] ?? '', / 1m1s +10\./)
  })

  it('shows no use of a VM that is off', () => {
    const [, , row] = render(fleet({ state: 'stopped' }))
    assert.match(row ?? '', /^ {2}first-light +stopped +- +-\/512M +80M\/320M +- +- +- +10\./)
  })

  it('shows no use of what is on a host that is away, and marks the state as the last known', () => {
    const latest = fleet({ fresh: false })
    const away = latest.hosts.map((each) => ({ ...each, host: { ...each.host, state: 'away' as const } }))
    const [, host = '', row = ''] = render({ ...latest, hosts: away })
    assert.match(host, /^b8c1fdc4e1a2 +away +- +-\/16G +20G\/100G +- +- +- +-$/)
    assert.match(row, /^ {2}first-light +running\? +- +-\/512M +80M\/320M +- +- +- +10\./)
  })

  it('says when a host has lost its libvirt', () => {
    const latest = fleet()
    const blind = {
      ...latest,
      hosts: latest.hosts.map((each) => ({ ...each, host: { ...each.host, hypervisor: 'away' as const } }))
    }
    assert.match(render(blind)[1] ?? '', /^b8c1fdc4e1a2 +no libvirt /)
  })

  it('divides by the whole of the host', () => {
    const latest = fleet()
    const sample = hostSample({ memoryTotalBytes: 4 * gibibyte, memoryAvailableBytes: gibibyte })
    const [, row] = render({ ...latest, hosts: latest.hosts.map((each) => ({ ...each, sample })) }, 70)
    assert.match(row ?? '', / 75% /)
  })
})
