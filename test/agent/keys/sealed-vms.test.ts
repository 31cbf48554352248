// VMs with encrypted disks on the hypervisor in memory: keys before disks, before starts, after libvirt's return, and gone at the end.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { asHostletError } from '../../../src/errors.ts'
import { carry, succeed } from '../verbs/bench.ts'
import {
  keyFiles,
  opens,
  placementOf,
  provision,
  sealedBench,
  until,
  vm,
  wait,
  withData
} from './sealed-bench.ts'

describe('VMs with encrypted disks', { timeout: 170_000 }, () => {
  it('have a key a disk, which libvirt is told before the start, and lose them at teardown', async () => {
    await using bench = await sealedBench()
    const { host, hypervisor } = bench
    await provision(bench, withData)
    const { rootKey, dataKey } = await placementOf(bench)
    assert.ok(rootKey && dataKey && rootKey !== dataKey)
    assert.equal(hypervisor.secrets.get(rootKey), await host.keys.disks.unwrap(rootKey))
    assert.equal(await opens(bench, 'root', await host.keys.disks.unwrap(rootKey)), true)
    assert.equal(await opens(bench, 'root', await host.keys.disks.unwrap(dataKey)), false)
    const { removed } = (await succeed(host, 'vm.teardown', { vm: vm.name })) as { removed: string[] }
    assert.deepEqual(
      removed.filter((each) => each.startsWith('key ')).sort(),
      [`key ${dataKey}`, `key ${rootKey}`].sort()
    )
    assert.deepEqual(keyFiles(bench), [])
    assert.equal(hypervisor.secrets.size, 0)
    assert.deepEqual(await bench.leftovers(), [])
  })

  it('lose their keys too where their definition is gone', async () => {
    await using bench = await sealedBench()
    await provision(bench)
    await bench.hypervisor.cutPower(vm.name, wait())
    await bench.hypervisor.undefine(vm.name, wait())
    await succeed(bench.host, 'vm.teardown', { vm: vm.name })
    assert.deepEqual(keyFiles(bench), [])
    assert.deepEqual(await bench.leftovers(), [])
  })

  it('have their keys told again when libvirt comes back, and before a start in any case', async () => {
    await using bench = await sealedBench()
    const { hypervisor } = bench
    await provision(bench, withData)
    const { rootKey = '', dataKey = '' } = await placementOf(bench)
    hypervisor.setStatus('away')
    hypervisor.secrets.clear()
    hypervisor.setStatus('connected')
    await until(() => hypervisor.secrets.has(rootKey) && hypervisor.secrets.has(dataKey))
    await succeed(bench.host, 'vm.stop', { vm: vm.name })
    hypervisor.secrets.clear()
    await succeed(bench.host, 'vm.start', { vm: vm.name })
    assert.equal((await hypervisor.findVm(vm.name, wait()))?.state, 'running')
  })

  it('do not start without a key, which is said plainly', async () => {
    await using bench = await sealedBench()
    await provision(bench)
    await succeed(bench.host, 'vm.stop', { vm: vm.name })
    const { rootKey = '' } = await placementOf(bench)
    bench.host.keys.disks.destroy(rootKey)
    bench.hypervisor.secrets.clear()
    const outcome = await carry(bench.host, 'vm.start', { vm: vm.name })
    assert.ok(outcome.outcome === 'failed' && outcome.error.code === 'E_NOT_FOUND')
    assert.match(outcome.error.message, new RegExp(`key ${rootKey} .*restore the VM from a backup`))
  })

  it('leave nothing when a provision fails at any call about their disks and keys', async () => {
    for (const method of ['storeDisk', 'defineSecret', 'start'] as const) {
      await using bench = await sealedBench()
      bench.hypervisor.failNext(method, asHostletError(new Error('no')))
      const outcome = await carry(bench.host, 'vm.provision', { specification: bench.specification(vm) })
      assert.equal(outcome.outcome, 'failed', method)
      assert.deepEqual(await bench.leftovers(), [], method)
      assert.deepEqual(keyFiles(bench), [], method)
    }
  })
})
