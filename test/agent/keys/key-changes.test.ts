// What changes about the disks and keys of VMs: prepared disks are taken, passphrases and the key of the host replaced.

import assert from 'node:assert/strict'
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { carry, makeBench, succeed } from '../verbs/bench.ts'
import { opens, placementOf, provision, sealedBench, vm, withData } from './sealed-bench.ts'

describe('encrypted disks', { timeout: 170_000 }, () => {
  it('take prepared disks, each once, which are made anew and end with the agent', async () => {
    await using bench = await sealedBench({ preparedDisks: 2 })
    const { blanks } = bench.host.keys
    await blanks.filled()
    assert.equal(blanks.ready, 2)
    const directory = join(bench.host.config.runtimeDirectory, 'disks')
    const prepared = readdirSync(directory)
    assert.equal(prepared.length, 2)
    await provision(bench, withData)
    const { rootKey = '', dataKey = '' } = await placementOf(bench)
    const { disks } = bench.host.keys
    assert.notEqual(await disks.unwrap(rootKey), await disks.unwrap(dataKey))
    assert.deepEqual(
      readdirSync(directory).filter((name) => prepared.includes(name)),
      []
    )
    await blanks.filled()
    assert.equal(blanks.ready, 2)
    // As after a kill: what is there then is of nobody, since its keys were in the memory of the process only.
    writeFileSync(join(directory, 'left.qcow2'), 'left')
    const next = bench.restarted()
    await next.prepare()
    assert.equal(readdirSync(directory).includes('left.qcow2'), false)
  })

  it('open with a new passphrase after a change, under the same key, and are refused it while they run', async () => {
    await using bench = await sealedBench()
    const { host } = bench
    await provision(bench)
    const { rootKey = '' } = await placementOf(bench)
    const before = await host.keys.disks.unwrap(rootKey)
    const refused = await carry(host, 'vm.rekey', { vm: vm.name })
    assert.ok(refused.outcome === 'failed' && refused.error.code === 'E_CONFLICT')
    assert.match(refused.error.message, /hostlet vm stop web-1/)
    await succeed(host, 'vm.stop', { vm: vm.name })
    const { keys } = await succeed(host, 'vm.rekey', { vm: vm.name })
    assert.deepEqual(keys, [rootKey])
    const now = await host.keys.disks.unwrap(rootKey)
    assert.notEqual(now, before)
    assert.equal(await opens(bench, 'root', now), true)
    assert.equal(await opens(bench, 'root', before), false)
    await succeed(host, 'vm.start', { vm: vm.name })
    assert.equal(bench.hypervisor.secrets.get(rootKey), now)
  })

  it('leave libvirt no old passphrase, whenever the agent dies during a change', async () => {
    await using bench = await sealedBench()
    const { host, hypervisor } = bench
    await provision(bench)
    const { rootKey: id = '', rootVolume: volume } = await placementOf(bench)
    await succeed(host, 'vm.stop', { vm: vm.name })
    const { rekeying } = host.keys
    const wait = { signal: AbortSignal.timeout(60_000) }
    await rekeying.add({ id, volume }, wait)
    hypervisor.failNext('removeSecret', new Error('as if the agent had died here'))
    await assert.rejects(rekeying.end({ id, volume }, wait), /died here/)
    assert.equal(hypervisor.secrets.has(id), true)
    await rekeying.end({ id, volume }, wait)
    assert.equal(hypervisor.secrets.has(id), false)
  })

  it('start after the host key was rotated, whose public half the host tells', async () => {
    await using bench = await sealedBench()
    const { host } = bench
    await provision(bench)
    const before = host.keys.publicKey
    let told = 0
    host.keys.onRotated(() => told++)
    const result = await succeed(host, 'host.rotate-key', {})
    assert.equal(result.rewrapped, 1)
    assert.equal(result.before, before?.kid)
    assert.equal(told, 1)
    const { facts } = (await succeed(host, 'host.facts', {})) as { facts: { secretsKey: unknown } }
    assert.deepEqual(facts.secretsKey, host.keys.publicKey)
    const next = bench.restarted()
    await next.prepare()
    await succeed(next, 'vm.stop', { vm: vm.name })
    bench.hypervisor.secrets.clear()
    await succeed(next, 'vm.start', { vm: vm.name })
  })
})

describe('vm.rekey', () => {
  it('says of disks in clear that there is nothing to change', async () => {
    await using bench = await makeBench()
    await bench.host.prepare()
    await provision(bench)
    await succeed(bench.host, 'vm.stop', { vm: vm.name })
    const outcome = await carry(bench.host, 'vm.rekey', { vm: vm.name })
    assert.ok(outcome.outcome === 'failed' && outcome.error.code === 'E_UNSUPPORTED')
  })
})
