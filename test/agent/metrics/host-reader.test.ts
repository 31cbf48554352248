// The host's counters as read from a made-up root and from this machine's own /proc.

import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import { after, describe, it } from 'node:test'
import { MachineFactsReader } from '../../../src/agent/metrics/host-facts.ts'
import { readHostCounters } from '../../../src/agent/metrics/host-reader.ts'
import { hostSample } from '../../../src/agent/metrics/rates.ts'
import { HostSample } from '../../../src/protocol/metrics.ts'
import { compile } from '../../../src/protocol/validate.ts'

const directory = mkdtempSync('/tmp/hostlet-reader-')
after(() => rmSync(directory, { recursive: true }))

function madeUp(name: string, files: Record<string, string>): string {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, name, path)), { recursive: true })
    writeFileSync(join(directory, name, path), text)
  }
  return join(directory, name)
}

const netDev = ['eth0', 'br0', 'vnet3', 'lo'].map((name) => `${name}: 10 1 0 0 0 0 0 0 20 1`).join('\n')

describe('reading the host', () => {
  it('counts only devices with hardware below them', () => {
    const root = madeUp('host', {
      'proc/net/dev': netDev,
      'proc/diskstats': '8 0 sda 1 0 2 0 1 0 4 0\n8 1 sda1 1 0 2 0 1 0 4 0\n253 0 dm-0 1 0 2 0 1 0 4 0\n',
      'sys/class/net/eth0/device': '',
      'sys/class/net/br0/address': '',
      'sys/block/sda/device': ''
    })
    const counters = readHostCounters(root)
    assert.deepEqual([...counters.interfaces.keys()], ['eth0'])
    assert.deepEqual([...counters.disks.keys()], ['sda'])
  })

  it('counts all but the loopback where no device has hardware', () => {
    const counters = readHostCounters(madeUp('container', { 'proc/net/dev': netDev }))
    assert.deepEqual([...counters.interfaces.keys()], ['eth0', 'br0', 'vnet3'])
  })

  it('gives a valid sample on a root without any of the files', () => {
    const reading = { atMs: 1, counters: readHostCounters(join(directory, 'nothing')) }
    const sample = hostSample(reading, reading, { poolCapacityBytes: 0, poolAvailableBytes: 0 })
    assert.equal(compile(HostSample, 'sample')(sample).memoryTotalBytes, 0)
    assert.equal('cpuPressureRatio' in sample, false)
  })

  it('agrees with this machine', () => {
    const counters = readHostCounters()
    assert.equal(counters.memory.totalBytes, totalmem())
    assert.ok(counters.memory.availableBytes > 0 && counters.memory.availableBytes <= totalmem())
    assert.ok(counters.cpu.total > counters.cpu.idle)
    assert.ok(counters.uptimeSeconds > 0)
    assert.ok(counters.interfaces.size > 0)
  })
})

describe('facts of the machine', () => {
  it('are detected once and agree with this machine', async () => {
    const facts = await new MachineFactsReader().read({ signal: AbortSignal.timeout(30_000) })
    const name = /^NAME="?([^"\n]*)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? ''
    assert.ok(facts.operatingSystem.startsWith(name.split(' ')[0] ?? '?'), facts.operatingSystem)
    assert.equal(facts.cpus, cpus().length)
    assert.ok(facts.cpuModel.length > 0)
    assert.ok(facts.bootedAt < Date.now() && facts.bootedAt > 0)
  })

  it('fall back to the kernel’s words when detection fails, and try again', async () => {
    let tries = 0
    const reader = new MachineFactsReader({
      detect: async () => {
        tries += 1
        if (tries === 1) throw new Error('no such program')
        return { cpuModel: 'Model T', operatingSystem: 'Tin 1' }
      }
    })
    const { signal } = new AbortController()
    assert.match((await reader.read({ signal })).operatingSystem, /^Linux \d/)
    assert.equal((await reader.read({ signal })).cpuModel, 'Model T')
    await reader.read({ signal })
    assert.equal(tries, 2)
  })
})
