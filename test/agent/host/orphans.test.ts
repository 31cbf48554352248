// What VMs that are gone left behind is told at a connect, with names, once; what is somebody's is not.

import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { describe, it } from 'node:test'
import { MemoryNft } from '../../../src/agent/firewall/memory-nft.ts'
import { createHost } from '../../../src/agent/host/host.ts'
import { type LogFields, silentLogger } from '../../../src/lib/log.ts'
import { settle } from '../../support/fake-clock.ts'
import { type Bench, makeBench, succeed } from '../verbs/bench.ts'

const vm = { name: 'web-1', uuid: '0b54e6f2-6b53-4a3e-9d1c-000000000001' }
const gone = { name: 'gone', uuid: '0b54e6f2-6b53-4a3e-9d1c-000000000009' }
const mac = '52:00:00:00:00:09'
const wait = () => ({ signal: AbortSignal.timeout(30_000) })

describe('what VMs that do not exist left', () => {
  it('is told by name at a connect, once, and again when it is another', async () => {
    await using bench = await withVm()
    await leave(bench)
    await using stack = new AsyncDisposableStack()
    const warnings = await watched(bench, stack)
    await reconnect(bench)
    await reconnect(bench)
    const volumes = ['gone.0b54e6f2.root.qcow2']
    const reservations = [`${mac} 10.90.0.99`]
    assert.deepEqual(warnings, [{ count: 3, volumes, reservations, networks: [], seeds: [gone.uuid] }])
    await bench.hypervisor.removeReservation('hl-net', mac, wait())
    await reconnect(bench)
    assert.deepEqual(warnings[1], { count: 2, volumes, reservations: [], networks: [], seeds: [gone.uuid] })
    assert.equal(
      (await bench.hypervisor.listVolumes(wait())).filter(({ name }) => name === volumes[0]).length,
      1
    )
  })

  it('is nothing of a VM, a base image, or a domain that is listed as foreign', async () => {
    await using bench = await withVm()
    await leave(bench)
    await bench.hypervisor.removeReservation('hl-net', mac, wait())
    bench.hypervisor.foreign.push({ ...gone, state: 'stopped' })
    await using stack = new AsyncDisposableStack()
    const warnings = await watched(bench, stack)
    const before = bench.hypervisor.calls.filter((call) => call === 'listVolumes').length
    await reconnect(bench)
    assert.equal(bench.hypervisor.calls.filter((call) => call === 'listVolumes').length, before + 1)
    assert.deepEqual(warnings, [])
  })
})

async function withVm(): Promise<Bench> {
  const bench = await makeBench()
  await bench.host.prepare()
  await succeed(bench.host, 'vm.provision', { specification: bench.specification(vm) })
  return bench
}

/** A disk, a reservation and a seed of a VM without a definition. */
async function leave({ hypervisor, host }: Bench): Promise<void> {
  await hypervisor.createVolume({ name: 'gone.0b54e6f2.root.qcow2', capacityBytes: 1024 ** 2 }, wait())
  await hypervisor.addReservation('hl-net', { macAddress: mac, address: '10.90.0.99', vm: gone.name }, wait())
  await writeFile(host.seeds.path(gone.uuid), 'seed')
}

/** The warnings of a new agent on the same hypervisor. */
async function watched(bench: Bench, stack: AsyncDisposableStack): Promise<LogFields[]> {
  const warnings: LogFields[] = []
  const { hypervisor } = bench
  const { config, clock, bootRecord } = bench.host
  await bench.host.close()
  const log = { ...silentLogger, warn: (fields: LogFields) => void warnings.push(fields) }
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
  return warnings
}

async function reconnect({ hypervisor }: Bench): Promise<void> {
  hypervisor.setStatus('away')
  const looks = hypervisor.calls.filter((call) => call === 'listForeign').length
  hypervisor.setStatus('connected')
  // Two looks at the VMs; what follows the second is told in the same turn.
  while (hypervisor.calls.filter((call) => call === 'listForeign').length < looks + 2) await settle()
  await settle()
}
