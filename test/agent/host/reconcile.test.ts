// What runs after the host booted, and what stays off.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { BootRecord } from '../../../src/agent/host/boot-record.ts'
import { reconcile } from '../../../src/agent/host/reconcile.ts'
import { HostletError } from '../../../src/errors.ts'
import { type Bench, makeBench, succeed } from '../verbs/bench.ts'

const wait = () => ({ signal: AbortSignal.timeout(30_000) })

describe('reconcile', () => {
  it('starts after a host boot what should run, and only that', async () => {
    await using bench = await withTwo()
    await succeed(bench.host, 'vm.stop', { vm: 'web-2' }, subjectOf(bench, 2))
    bench.hypervisor.bootHost()
    const result = await reconcile(bootedHost(bench, 'boot-2'), wait())
    assert.deepEqual(result, { afterBoot: true, started: ['web-1'], failed: [] })
    assert.equal(await stateOf(bench, 'web-1'), 'running')
    assert.equal(await stateOf(bench, 'web-2'), 'stopped')
  })

  it('leaves a VM off that a command stopped while others were being started', async () => {
    await using bench = await withTwo()
    bench.hypervisor.bootHost()
    const { hypervisor } = bench
    // Both are started at once: the one whose turn comes second is stopped just then.
    const start = bench.host.vms.start.bind(bench.host.vms)
    const findVm = hypervisor.findVm.bind(hypervisor)
    let looks = 0
    const slow = {
      ...bootedHost(bench, 'boot-2'),
      hypervisor: Object.assign(Object.create(hypervisor), {
        listVms: hypervisor.listVms,
        findVm: async (name: string, signals: { signal: AbortSignal }) => {
          if (looks++ === 0) await hypervisor.annotate('web-2', { wanted: 'stopped' }, signals)
          return findVm(name, signals)
        }
      }),
      vms: Object.assign(Object.create(bench.host.vms), { start })
    }
    const result = await reconcile(slow, wait())
    assert.deepEqual(result, { afterBoot: true, started: ['web-1'], failed: [] })
    assert.equal(await stateOf(bench, 'web-2'), 'stopped')
  })

  it('leaves a VM off whose guest powered itself off since the boot', async () => {
    await using bench = await withTwo()
    await reconcile(bench.host, wait())
    bench.hypervisor.shutDownGuest('web-1')
    const result = await reconcile(bench.host, wait())
    assert.deepEqual(result, { afterBoot: false, started: [], failed: [] })
    assert.equal(await stateOf(bench, 'web-1'), 'stopped')
  })

  it('starts the others when one cannot be started, and tells which', async () => {
    await using bench = await withTwo()
    bench.hypervisor.bootHost()
    bench.hypervisor.failNext('start', new HostletError('E_LIBVIRT', 'its disk is gone'))
    const host = bootedHost(bench, 'boot-2')
    const result = await reconcile(host, wait())
    assert.equal(result.started.length, 1)
    assert.deepEqual(
      result.failed.map(({ error }) => error.code),
      ['E_LIBVIRT']
    )
    assert.equal((await reconcile(host, wait())).afterBoot, false)
  })

  it('goes on at the next connect when libvirt went away in the middle', async () => {
    await using bench = await withTwo()
    bench.hypervisor.bootHost()
    bench.hypervisor.failNext('start', new HostletError('E_UNAVAILABLE', 'libvirt is away'))
    const host = bootedHost(bench, 'boot-2')
    assert.equal((await reconcile(host, wait())).failed.length, 1)
    assert.equal((await reconcile(host, wait())).started.length, 1)
    assert.equal(await stateOf(bench, 'web-1'), 'running')
    assert.equal(await stateOf(bench, 'web-2'), 'running')
  })

  it('starts no VM a second time whose guest powered itself off while libvirt was away', async () => {
    await using bench = await withTwo()
    bench.hypervisor.bootHost()
    bench.hypervisor.failNext('start', new HostletError('E_UNAVAILABLE', 'libvirt is away'))
    const host = bootedHost(bench, 'boot-2')
    const { started } = await reconcile(host, wait())
    const [first = '', second = ''] = started.includes('web-1') ? ['web-1', 'web-2'] : ['web-2', 'web-1']
    bench.hypervisor.shutDownGuest(first)
    assert.deepEqual((await reconcile(host, wait())).started, [second])
    assert.equal(await stateOf(bench, first), 'stopped')
  })
})

async function withTwo(): Promise<Bench> {
  const bench = await makeBench()
  await bench.host.prepare()
  for (const index of [1, 2])
    await succeed(bench.host, 'vm.provision', { specification: bench.specification(named(index)) })
  return bench
}

function named(index: number) {
  return { name: `web-${index}`, uuid: `0b54e6f2-6b53-4a3e-9d1c-00000000000${index}` }
}

function subjectOf(_bench: Bench, index: number) {
  const { name: vm, uuid } = named(index)
  return { subject: { vm, uuid, generation: 1_000_000 } }
}

function bootedHost(bench: Bench, bootId: string) {
  const bootRecord = new BootRecord({ directory: bench.host.config.runtimeDirectory, bootId })
  return { ...bench.host, bootRecord }
}

async function stateOf(bench: Bench, name: string): Promise<string | undefined> {
  return (await bench.hypervisor.findVm(name, wait()))?.state
}
