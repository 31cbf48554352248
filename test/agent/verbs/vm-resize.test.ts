// vm.resize: what changes at once, what waits, what is refused, and that a failure leaves the VM as it was.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { HostletError } from '../../../src/errors.ts'
import { type Bench, begin, carry, makeBench, succeed } from './bench.ts'

const mebibyte = 1024 ** 2

async function benchWithVm(changes = {}): Promise<Bench> {
  const bench = await makeBench()
  await succeed(bench.host, 'vm.provision', {
    specification: bench.specification({ dataDiskBytes: mebibyte, ...changes })
  })
  return bench
}

async function found({ hypervisor }: Bench) {
  const record = await hypervisor.findVm('web-1', { signal: AbortSignal.timeout(10_000) })
  return record ?? assert.fail('the VM is gone')
}

async function failsWith(bench: Bench, args: Record<string, unknown>, code: string): Promise<string> {
  const outcome = await carry(bench.host, 'vm.resize', { vm: 'web-1', ...args })
  assert.equal(outcome.outcome === 'failed' && outcome.error.code, code, JSON.stringify(outcome))
  return outcome.outcome === 'failed' ? outcome.error.message : ''
}

describe('vm.resize', () => {
  it('says of each change of a VM that runs whether it is live, and keeps all of them', async () => {
    await using bench = await benchWithVm()
    const asked = {
      cpus: 2,
      memoryBytes: 512 * mebibyte,
      rootDiskBytes: 4 * mebibyte,
      dataDiskBytes: 2 * mebibyte,
      cpuLimitPercent: 150,
      diskLimits: { operationsPerSecondMax: 200 }
    }
    const { vm, sizes, changes } = await succeed(bench.host, 'vm.resize', { vm: 'web-1', ...asked })
    assert.equal((vm as { cpus: number }).cpus, 2)
    const { cpuLimitPercent: _limit, diskLimits, ...plain } = asked
    assert.deepEqual(sizes, plain)
    assert.deepEqual(changes, [
      { what: 'cpus', applied: 'next start' },
      { what: 'memoryBytes', applied: 'next start' },
      { what: 'rootDiskBytes', applied: 'live' },
      { what: 'dataDiskBytes', applied: 'live' },
      { what: 'cpuLimitPercent', applied: 'live' },
      { what: 'diskLimits', applied: 'live' }
    ])
    const { specification, placement, state } = await found(bench)
    for (const [key, value] of Object.entries(asked))
      assert.deepEqual(specification[key as keyof typeof specification], value, key)
    assert.deepEqual(placement.resources?.diskLimits, diskLimits)
    assert.equal(state, 'running')
    const volumes = await bench.hypervisor.listVolumes({ signal: AbortSignal.timeout(10_000) })
    const root = volumes.find(({ name }) => name === placement.rootVolume)
    assert.equal(root?.capacityBytes, 4 * mebibyte)
  })

  it('says of a VM that is off that all of it comes with its start', async () => {
    await using bench = await benchWithVm()
    await succeed(bench.host, 'vm.stop', { vm: 'web-1', force: true })
    const { changes } = await succeed(bench.host, 'vm.resize', {
      vm: 'web-1',
      cpuLimitPercent: 50,
      rootDiskBytes: 2 * mebibyte
    })
    assert.deepEqual(changes, [
      { what: 'cpuLimitPercent', applied: 'next start' },
      { what: 'rootDiskBytes', applied: 'next start' }
    ])
    await succeed(bench.host, 'vm.resize', { vm: 'web-1', cpuLimitPercent: null })
    assert.equal((await found(bench)).specification.cpuLimitPercent, undefined)
  })

  it('refuses what shrinks a disk, adds one, changes nothing, or is no size', async () => {
    await using bench = await benchWithVm({ dataDiskBytes: undefined })
    const before = await found(bench)
    assert.match(await failsWith(bench, { rootDiskBytes: 1024 ** 2 - 512 }, 'E_BAD_REQUEST'), /rootDiskBytes/)
    await succeed(bench.host, 'vm.resize', { vm: 'web-1', rootDiskBytes: 2 * mebibyte })
    assert.match(await failsWith(bench, { rootDiskBytes: mebibyte }, 'E_BAD_REQUEST'), /disks only grow/)
    assert.match(await failsWith(bench, { dataDiskBytes: mebibyte }, 'E_BAD_REQUEST'), /has no data disk/)
    await failsWith(bench, {}, 'E_BAD_REQUEST')
    await failsWith(bench, { cpus: 0 }, 'E_BAD_REQUEST')
    await failsWith(bench, { memoryBytes: mebibyte + 1 }, 'E_BAD_REQUEST')
    assert.equal((await found(bench)).specification.cpus, before.specification.cpus)
  })

  it('is refused with numbers where the host has not so much', async () => {
    await using bench = await benchWithVm()
    const message = await failsWith(bench, { memoryBytes: 8 * 1024 ** 4 }, 'E_CAPACITY')
    assert.match(message, /VM web-1 needs 8388608 MiB of memory, the host has \d+ MiB left/)
    assert.equal((await found(bench)).specification.memoryBytes, 256 * mebibyte)
  })

  it('puts sizes and limits back when a disk cannot grow', async () => {
    await using bench = await benchWithVm({ cpuLimitPercent: 75 })
    const before = await found(bench)
    bench.hypervisor.failNext('growDisk', new HostletError('E_LIBVIRT', 'no'))
    const change = { cpus: 2, cpuLimitPercent: 150, diskLimits: { operationsPerSecondMax: 50 } }
    await failsWith(bench, { ...change, dataDiskBytes: 2 * mebibyte }, 'E_LIBVIRT')
    const after = await found(bench)
    const { diskLimits, ...specification } = after.specification
    assert.deepEqual(specification, before.specification)
    assert.deepEqual(diskLimits ?? {}, {})
    assert.deepEqual(after.placement, before.placement)
  })

  it('says what to do where an encrypted disk grows only in a VM that runs', async () => {
    await using bench = await benchWithVm()
    await succeed(bench.host, 'vm.stop', { vm: 'web-1', force: true })
    bench.hypervisor.failNext('growDisk', new HostletError('E_UNSUPPORTED', 'no'))
    const message = await failsWith(bench, { dataDiskBytes: 2 * mebibyte }, 'E_UNSUPPORTED')
    assert.match(message, /encrypted, .* Start the VM, then ask again\.$/)
  })

  it('ends as asked when the agent is killed in any of its steps', async () => {
    for (let at = 0; at < 3; at++) {
      await using bench = await benchWithVm()
      const args = { vm: 'web-1', cpus: 2, dataDiskBytes: 2 * mebibyte }
      const killed = new AbortController()
      const run = begin(bench.host, 'vm.resize', args, { signal: killed.signal })
      const { checkpoint } = run.journal
      let steps = 0
      run.journal.checkpoint = (...saved) => {
        checkpoint.apply(run.journal, saved)
        if (steps++ === at) killed.abort(new Error('killed'))
      }
      await run.outcome
      const resumed = begin(bench.restarted(), 'vm.resize', args, { from: run.journal })
      const outcome = await resumed.outcome
      assert.equal(outcome.outcome, 'done', JSON.stringify(outcome))
      const { specification } = await found(bench)
      assert.equal(specification.cpus, 2)
      assert.equal(specification.dataDiskBytes, 2 * mebibyte)
    }
  })
})
