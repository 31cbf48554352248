// VMs with encrypted disks on the hypervisor in memory: keys before disks, before starts, after libvirt's return, and gone at the end.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { describe, it } from 'node:test'
import { promisify } from 'node:util'
import { profileOf } from '../../../src/agent/profiles.ts'
import { asHostletError } from '../../../src/errors.ts'
import type { VmSpecification } from '../../../src/protocol/vm.ts'
import { type Bench, type BenchOptions, carry, makeBench, succeed } from '../verbs/bench.ts'

const run = promisify(execFile)
const vm = { name: 'web-1', uuid: '0b54e6f2-6b53-4a3e-9d1c-0123456789ab' }
const withData = { dataDiskBytes: 2 * 1024 ** 2 }
const wait = () => ({ signal: AbortSignal.timeout(120_000) })

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

async function sealedBench(config: BenchOptions['config'] = {}): Promise<Bench> {
  const network = { network: 'hl-net', bridge: 'hlnet', subnet: '10.90.0.0/24' }
  const bench = await makeBench({ config: { profiles: { starter: profileOf(network) }, ...config } })
  await bench.host.prepare()
  return bench
}

async function provision(bench: Bench, changes: Partial<VmSpecification> = {}): Promise<void> {
  await succeed(bench.host, 'vm.provision', { specification: bench.specification({ ...vm, ...changes }) })
}

async function placementOf({ hypervisor }: Bench) {
  const record = await hypervisor.findVm(vm.name, wait())
  assert.ok(record)
  return record.placement
}

function keyFiles({ host }: Bench): string[] {
  return readdirSync(join(host.config.stateDirectory, 'keys'))
}

/** Asked of QEMU, of the bytes that were stored. */
async function opens(bench: Bench, role: 'root' | 'data', passphrase: string): Promise<boolean> {
  const { rootVolume, dataVolume } = await placementOf(bench)
  const content = await bench.hypervisor.readVolume((role === 'root' ? rootVolume : dataVolume) ?? '', wait())
  const [path, key] = [join(bench.directory, 'opened.qcow2'), join(bench.directory, 'opened.key')]
  writeFileSync(path, await buffer(content))
  writeFileSync(key, passphrase)
  const image = {
    driver: 'qcow2',
    backing: null,
    file: { driver: 'file', filename: path },
    encrypt: { format: 'luks', 'key-secret': 'k' }
  }
  return await run('qemu-io', [
    '-r',
    '--object',
    `secret,id=k,file=${key}`,
    `json:${JSON.stringify(image)}`,
    '-c',
    'quit'
  ]).then(
    () => true,
    () => false
  )
}

async function until(holds: () => boolean): Promise<void> {
  const { signal } = wait()
  while (!holds()) {
    signal.throwIfAborted()
    await new Promise((resolve) => setImmediate(resolve))
  }
}
