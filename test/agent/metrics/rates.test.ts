// Rates: growth over monotonic time, and nothing where a counter was reset.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { DomainCounters } from '../../../src/agent/host/hypervisor.ts'
import type { HostCounters } from '../../../src/agent/metrics/host-reader.ts'
import { hostSample, rate, vmSample } from '../../../src/agent/metrics/rates.ts'
import { HostSample, VmSample } from '../../../src/protocol/metrics.ts'
import { compile } from '../../../src/protocol/validate.ts'

const uuid = '00000000-0000-4000-8000-000000000001'
const pool = { poolCapacityBytes: 100, poolAvailableBytes: 40 }

function host(change: Partial<HostCounters>): HostCounters {
  return {
    cpu: { idle: 0, steal: 0, total: 0 },
    memory: { totalBytes: 4, availableBytes: 2, swapUsedBytes: 0 },
    loadAverage1m: 0,
    uptimeSeconds: 1,
    cpuPressureRatio: undefined,
    memoryPressureRatio: undefined,
    ioPressureRatio: undefined,
    interfaces: new Map(),
    disks: new Map(),
    ...change
  }
}

function domain(change: Partial<DomainCounters>): DomainCounters {
  return { name: 'web-1', uuid, state: 'running', ...change }
}

describe('rates', () => {
  it('are growth per second', () => {
    assert.equal(rate(100, 400, 2_000), 150)
    assert.equal(rate(100, 100, 2_000), 0)
  })

  it('are absent without predecessor, without time, and after a reset', () => {
    assert.equal(rate(undefined, 400, 2_000), undefined)
    assert.equal(rate(100, undefined, 2_000), undefined)
    assert.equal(rate(100, 400, 0), undefined)
    assert.equal(rate(400, 100, 2_000), undefined)
  })
})

describe('host sample', () => {
  it('splits time into used, stolen and idle', () => {
    const sample = hostSample(
      { atMs: 0, counters: host({ cpu: { idle: 100, steal: 10, total: 200 } }) },
      { atMs: 1_000, counters: host({ cpu: { idle: 150, steal: 20, total: 300 } }) },
      pool
    )
    assert.equal(sample.cpuUsedRatio, 0.4)
    assert.equal(sample.cpuStealRatio, 0.1)
  })

  it('tells totals since boot: busy time of all CPUs, bytes of all disks', () => {
    const disks = new Map([
      ['vda', { readBytes: 100, writtenBytes: 10 }],
      ['vdb', { readBytes: 1, writtenBytes: 2 }]
    ])
    const reading = { atMs: 0, counters: host({ cpu: { idle: 1_000, steal: 200, total: 3_700 }, disks }) }
    const sample = hostSample(reading, reading, pool)
    assert.equal(sample.cpuSecondsTotal, 25)
    assert.equal(sample.diskReadBytesTotal, 101)
    assert.equal(sample.diskWriteBytesTotal, 12)
  })

  it('leaves out devices that came or were reset in between, and sums the others', () => {
    const sample = hostSample(
      {
        atMs: 0,
        counters: host({
          interfaces: new Map([
            ['a', { readBytes: 100, writtenBytes: 5 }],
            ['b', { readBytes: 900, writtenBytes: 900 }]
          ])
        })
      },
      {
        atMs: 2_000,
        counters: host({
          interfaces: new Map([
            ['a', { readBytes: 300, writtenBytes: 25 }],
            ['b', { readBytes: 7, writtenBytes: 7 }],
            ['c', { readBytes: 1_000, writtenBytes: 1_000 }]
          ])
        })
      },
      pool
    )
    assert.equal(sample.receiveBytesPerSecond, 100)
    assert.equal(sample.transmitBytesPerSecond, 10)
    assert.equal(sample.receiveBytesTotal, 1_307)
  })

  it('fits its schema whatever the counters do', () => {
    const check = compile(HostSample, 'sample')
    const figure = fc.nat(2 ** 40)
    const counters = fc.record({ idle: figure, steal: figure, total: figure, bytes: figure })
    fc.assert(
      fc.property(counters, counters, fc.integer({ min: -5, max: 50_000 }), (before, after, elapsedMs) => {
        const [first, second] = [before, after].map(({ bytes, ...cpu }) =>
          host({ cpu, disks: new Map([['sda', { readBytes: bytes, writtenBytes: bytes }]]) })
        )
        assert.ok(first !== undefined && second !== undefined)
        const sample = hostSample({ atMs: 0, counters: first }, { atMs: elapsedMs, counters: second }, pool)
        check(sample)
        assert.ok(sample.cpuUsedRatio <= 1)
      })
    )
  })
})

describe('VM sample', () => {
  it('has totals but no rates at first', () => {
    const sample = vmSample(undefined, {
      atMs: 5,
      counters: domain({ cpuNanoseconds: 2e9, receiveBytes: 7 })
    })
    assert.deepEqual(sample, { ...domain({}), cpuSecondsTotal: 2, receiveBytesTotal: 7 })
  })

  it('gives cores in use and bytes a second afterwards', () => {
    const sample = vmSample(
      { atMs: 0, counters: domain({ cpuNanoseconds: 1e9, diskReadBytes: 0, diskReads: 10 }) },
      { atMs: 2_000, counters: domain({ cpuNanoseconds: 4e9, diskReadBytes: 4_096, diskReads: 20 }) }
    )
    assert.equal(sample.cpuCoresUsed, 1.5)
    assert.equal(sample.diskReadBytesPerSecond, 2_048)
    assert.equal(sample.diskReadsPerSecond, 5)
    compile(VmSample, 'sample')(sample)
  })

  it('gives no rate at all across a restart, even of counters that are higher by now', () => {
    const sample = vmSample(
      { atMs: 0, counters: domain({ cpuNanoseconds: 4e9, receiveBytes: 10 }) },
      { atMs: 2_000, counters: domain({ cpuNanoseconds: 1e9, receiveBytes: 5_000 }) }
    )
    assert.equal(sample.cpuCoresUsed, undefined)
    assert.equal(sample.receiveBytesPerSecond, undefined)
    assert.equal(sample.receiveBytesTotal, 5_000)
  })
})
