// A VM's uptime: right after the agent was restarted, and never that of an earlier run.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { MemoryNft } from '../../../src/agent/firewall/memory-nft.ts'
import { BootRecord } from '../../../src/agent/host/boot-record.ts'
import { createHost, type Host } from '../../../src/agent/host/host.ts'
import { type Bench, makeBench, succeed } from '../verbs/bench.ts'

const vm = { name: 'web-1', uuid: '0b54e6f2-6b53-4a3e-9d1c-000000000001' }
const wait = () => ({ signal: AbortSignal.timeout(30_000) })

describe('the start of a VM', () => {
  it('is known to the next agent', async () => {
    await using bench = await withVm()
    const before = await startedAt(bench.host)
    assert.equal(typeof before, 'number')
    await bench.host.close()
    await using stack = new AsyncDisposableStack()
    assert.equal(await startedAt(await nextAgent(bench, stack)), before)
  })

  it('is not told of a run that began while no agent looked', async () => {
    await using bench = await withVm()
    await bench.host.close()
    // The record of the first run, as the next agent finds it.
    const record = bench.host.bootRecord
    const kept = await record.read('vm-starts')
    assert.ok(typeof kept === 'object' && kept !== null && vm.uuid in kept)
    bench.hypervisor.shutDownGuest(vm.name)
    await bench.hypervisor.start(vm.name, wait())
    await bench.host.close()
    await record.write('vm-starts', kept)
    await using stack = new AsyncDisposableStack()
    assert.equal(await startedAt(await nextAgent(bench, stack)), undefined)
  })

  it('is forgotten when the host boots', async () => {
    await using bench = await withVm()
    await bench.host.close()
    await using stack = new AsyncDisposableStack()
    assert.equal(await startedAt(await nextAgent(bench, stack, 'another-boot')), undefined)
  })

  it('is forgotten with a VM that is gone when the next agent looks', async () => {
    await using bench = await withVm()
    await bench.host.close()
    const record = bench.host.bootRecord
    const gone = '0b54e6f2-6b53-4a3e-9d1c-000000000009'
    await record.write('vm-starts', { [gone]: { run: 1, startedAt: 1 }, odd: 'what nobody wrote' })
    await using stack = new AsyncDisposableStack()
    const host = await nextAgent(bench, stack)
    assert.equal(await startedAt(host), undefined)
    await host.close()
    assert.deepEqual(await record.read('vm-starts'), {})
  })
})

async function withVm(): Promise<Bench> {
  const bench = await makeBench()
  await bench.host.prepare()
  await succeed(bench.host, 'vm.provision', { specification: bench.specification(vm) })
  return bench
}

/** Another agent on the same hypervisor and directories. */
async function nextAgent(bench: Bench, stack: AsyncDisposableStack, bootId = 'boot-1'): Promise<Host> {
  const { config, clock, log } = bench.host
  const directory = config.runtimeDirectory
  const bootRecord = new BootRecord({ directory, bootId })
  const { hypervisor } = bench
  const host = createHost({
    config,
    hypervisor,
    hostId: 'host-1',
    agentVersion: '0',
    clock,
    log,
    bootRecord,
    nft: new MemoryNft()
  })
  stack.defer(() => host.close())
  await host.prepare()
  return host
}

async function startedAt(host: Host): Promise<number | undefined> {
  const [summary] = await host.vms.list(wait())
  assert.equal(summary?.state, 'running')
  return summary?.startedAt
}
