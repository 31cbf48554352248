// A VM that was off and stands paused for its backup: off to whoever stops it, started by whoever starts it.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { scratchVolumeName } from '../../../src/agent/host/names.ts'
import { privateWorkPrefix } from '../../../src/agent/host/scratch.ts'
import { type Bench, makeBench, succeed } from '../verbs/bench.ts'

const vm = { name: 'web-1', uuid: '0b54e6f2-6b53-4a3e-9d1c-000000000001' }
const wait = () => ({ signal: AbortSignal.timeout(30_000) })
const request = { snapshot: 's1', roles: ['root'], checkpoint: 'c1', since: null } as const

describe('a VM that stands paused for its backup', () => {
  it('is off already to a stop, whose backup goes on', async () => {
    await using bench = await stoppedVm()
    const job = await bench.hypervisor.beginBackup(vm.name, request, wait())
    const { forced } = await bench.host.vms.stop(vm.name, { ...wait(), graceMs: 60_000 })
    assert.equal(forced, false)
    assert.equal(job.signal.aborted, false)
    assert.equal((await bench.hypervisor.findVm(vm.name, wait()))?.state, 'paused')
    await job.end({ ...wait(), keepCheckpoint: true })
    assert.equal((await bench.hypervisor.findVm(vm.name, wait()))?.state, 'stopped')
  })

  it('runs from a start on, while its backup goes on', async () => {
    await using bench = await stoppedVm()
    const job = await bench.hypervisor.beginBackup(vm.name, request, wait())
    await succeed(
      bench.host,
      'vm.start',
      { vm: vm.name },
      { subject: { vm: vm.name, uuid: vm.uuid, generation: 9 } }
    )
    assert.equal(job.signal.aborted, false)
    await job.end({ ...wait(), keepCheckpoint: true })
    assert.equal((await bench.hypervisor.findVm(vm.name, wait()))?.state, 'running')
  })

  it('has no time at which it started', async () => {
    await using bench = await stoppedVm()
    await bench.hypervisor.beginBackup(vm.name, request, wait())
    const [summary] = await bench.host.vms.list(wait())
    assert.equal(summary?.state, 'paused')
    assert.equal(summary?.startedAt, undefined)
  })
})

describe('scratch files', () => {
  it('are lost when their VM is gone or has no job, and ours as far as the VM is known', async () => {
    await using bench = await stoppedVm()
    const { hypervisor } = bench
    const gone = { name: 'gone', uuid: '0b54e6f2-6b53-4a3e-9d1c-000000000009' }
    const scratch = { token: '0123456789abcdef', role: 'root' }
    for (const owner of [vm, gone])
      await hypervisor.createVolume(
        { name: scratchVolumeName(owner, scratch), capacityBytes: 1024 ** 2 },
        wait()
      )
    const found = await bench.host.orphans.find({}, wait())
    assert.deepEqual(
      found.map(({ kind, name, verdict }) => [kind, name, verdict]),
      [
        ['scratch', scratchVolumeName(vm, scratch), 'ours'],
        ['scratch', scratchVolumeName(gone, scratch), 'maybe']
      ]
    )
  })
})

describe('a host that is prepared', () => {
  it('removes keys of scratch files that a killed agent was making', async () => {
    await using bench = await makeBench()
    const { runtimeDirectory } = bench.host.config
    const left = join(runtimeDirectory, `${privateWorkPrefix}abc`)
    await mkdir(left, { recursive: true })
    await writeFile(join(left, 'key'), 'secret')
    await bench.host.prepare()
    assert.equal(existsSync(left), false)
  })
})

async function stoppedVm(): Promise<Bench> {
  const bench = await makeBench()
  await bench.host.prepare()
  await succeed(bench.host, 'vm.provision', { specification: bench.specification(vm) })
  await bench.hypervisor.annotate(vm.name, { wanted: 'stopped' }, wait())
  await bench.hypervisor.cutPower(vm.name, wait())
  return bench
}
