// Parsers of /proc: kernel texts in, figures out; broken texts are absent figures, never errors.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  parseDiskstats,
  parseLoadavg,
  parseMeminfo,
  parseNetDev,
  parsePressure,
  parseProcessStat,
  parseStat,
  parseUptime
} from '../../../src/agent/metrics/proc.ts'

describe('parsers of /proc', () => {
  it('counts idle and wait as rest, and guest time only once', () => {
    const text = 'cpu  100 20 30 400 50 6 7 8 90 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n'
    assert.deepEqual(parseStat(text), { idle: 450, steal: 8, total: 100 + 20 + 30 + 400 + 50 + 6 + 7 + 8 })
  })

  it('reads memory in bytes, with swap in use', () => {
    const text =
      'MemTotal: 1000 kB\nMemFree: 10 kB\nMemAvailable: 600 kB\nSwapTotal: 50 kB\nSwapFree: 20 kB\nActive(anon): 3 kB\n'
    assert.deepEqual(parseMeminfo(text), {
      totalBytes: 1_024_000,
      availableBytes: 614_400,
      swapUsedBytes: 30_720
    })
  })

  it('reads load, uptime and pressure', () => {
    assert.equal(parseLoadavg('0.52 0.40 0.30 2/345 6789\n'), 0.52)
    assert.equal(parseUptime('1280.72 2364.25\n'), 1280.72)
    const pressure =
      'some avg10=1.50 avg60=0.70 avg300=0.10 total=1\nfull avg10=9.00 avg60=0 avg300=0 total=0\n'
    assert.equal(parsePressure(pressure), 0.015)
  })

  it('tells received from sent bytes, also where the name touches the figure', () => {
    const text =
      'Inter-|   Receive\n face |bytes    packets\n  eth0:236 2 0 0 0 0 0 0 379 3 0 0 0 0 0 0\n    lo: 5 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n'
    assert.deepEqual(parseNetDev(text).get('eth0'), { readBytes: 236, writtenBytes: 379 })
    assert.deepEqual([...parseNetDev(text).keys()], ['eth0', 'lo'])
  })

  it('reads disks in bytes, also from kernels without the discard columns', () => {
    const text = ' 254       0 vda 5 2 10 3 4 2 20 1 0 1 2\n 254       1 vda1 1 1 2 1 1 1 4 1 0 1 2 0 0 0 0\n'
    assert.deepEqual(parseDiskstats(text).get('vda'), { readBytes: 5_120, writtenBytes: 10_240 })
    assert.deepEqual(parseDiskstats(text).get('vda1'), { readBytes: 1_024, writtenBytes: 2_048 })
  })

  it('finds a process by its fields even when its name imitates them', () => {
    const text =
      '42 (qemu) S 1 (x) S 1 42 42 0 -1 4194304 100 0 0 0 70 30 0 0 20 0 5 0 12345 900000 2048 0 0 0\n'
    assert.deepEqual(parseProcessStat(text), { cpuTicks: 100, startTicks: 12_345, residentPages: 2_048 })
  })

  it('takes broken and empty texts for absent figures', () => {
    for (const broken of [
      '',
      '\n',
      'cpu',
      'intr 5',
      'MemTotal: x kB',
      'some avg10=',
      'a:b:c',
      ') (',
      '   '
    ]) {
      assert.equal(parseStat(broken), undefined)
      assert.equal(parseMeminfo(broken), undefined)
      assert.equal(parsePressure(broken), undefined)
      assert.equal(parseProcessStat(broken), undefined)
      assert.equal(parseNetDev(broken).size, 0)
      assert.equal(parseDiskstats(broken).size, 0)
    }
    assert.equal(parseLoadavg(''), undefined)
  })
})
