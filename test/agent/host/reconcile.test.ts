// What runs after the host booted, and what stays off.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { BootRecord } from '../../../src/agent/host/boot-record.ts'
import { HeldStarts } from '../../../src/agent/host/held-starts.ts'
import { reconcile } from '../../../src/agent/host/reconcile.ts'
import { Turns } from '../../../src/agent/operations/turns.ts'
import { HostletError } from '../../../src/errors.ts'
import { systemClock } from '../../../src/lib/clock.ts'
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

describe('a VM that an operation started before libvirt first told which there are', () => {
  it('stays off once its guest powered itself off, also where the agent was started anew in between', async () => {
    await using bench = await withTwo()
    bench.hypervisor.bootHost()
    const first = booted(bench)
    await bench.hypervisor.start('web-1', wait())
    await first.held.ended()
    const second = booted(bench)
    await second.held.resume()
    bench.hypervisor.shutDownGuest('web-1')
    const { started } = await reconcile(second.host, wait(), second.held)
    assert.deepEqual(started, ['web-2'])
    assert.equal(await stateOf(bench, 'web-1'), 'stopped')
  })

  it('is started once its power was cut by the host, which took that start back', async () => {
    await using bench = await withTwo()
    bench.hypervisor.bootHost()
    const { host, held } = booted(bench)
    await bench.hypervisor.start('web-1', wait())
    await bench.hypervisor.cutPower('web-1', wait())
    const { started } = await reconcile(host, wait(), held)
    assert.deepEqual([...started].sort(), ['web-1', 'web-2'])
  })
})

describe('a VM that an operation has when the host boots', () => {
  it('keeps no other waiting, nor the record that VMs were started, and is started once the operation ends', async () => {
    await using bench = await withTwo()
    bench.hypervisor.bootHost()
    const { host, turns, held } = booted(bench)
    const operation = await turns.hold('web-1', new AbortController().signal)
    const result = await reconcile(host, wait(), held)
    assert.deepEqual(result, { afterBoot: true, started: ['web-2'], failed: [] })
    assert.equal((await reconcile(host, wait(), held)).afterBoot, false)
    assert.deepEqual([await stateOf(bench, 'web-1'), await stateOf(bench, 'web-2')], ['stopped', 'running'])
    await operation[Symbol.asyncDispose]()
    await held.ended()
    assert.equal(await stateOf(bench, 'web-1'), 'running')
  })

  it('is looked at as the operation leaves it, also where it was on before', async () => {
    await using bench = await withTwo()
    bench.hypervisor.bootHost()
    const { host, turns, held } = booted(bench)
    const operations = await Promise.all(
      ['web-1', 'web-2'].map((vm) => turns.hold(vm, new AbortController().signal))
    )
    for (const name of ['web-1', 'web-2']) await bench.hypervisor.start(name, wait())
    await reconcile(host, wait(), held)
    for (const name of ['web-1', 'web-2']) bench.hypervisor.shutDownGuest(name)
    await bench.hypervisor.annotate('web-2', { wanted: 'stopped' }, wait())
    for (const operation of operations) await operation[Symbol.asyncDispose]()
    await held.ended()
    assert.deepEqual([await stateOf(bench, 'web-1'), await stateOf(bench, 'web-2')], ['running', 'stopped'])
  })

  it('is started by the next agent when this one ends before the operation, and then never again', async () => {
    await using bench = await withTwo()
    bench.hypervisor.bootHost()
    const first = booted(bench)
    await first.turns.hold('web-1', new AbortController().signal)
    await reconcile(first.host, wait(), first.held)
    first.stop.abort(new Error('the agent stops'))
    await first.held.ended()
    const second = booted(bench)
    await second.held.resume()
    await second.held.ended()
    assert.equal(await stateOf(bench, 'web-1'), 'running')
    bench.hypervisor.shutDownGuest('web-1')
    const third = booted(bench)
    await third.held.resume()
    await third.held.ended()
    assert.equal(await stateOf(bench, 'web-1'), 'stopped')
  })

  it('is tried again at the next connect when libvirt went away meanwhile, and told until then', async () => {
    await using bench = await withTwo()
    bench.hypervisor.bootHost()
    const { host, turns, held } = booted(bench)
    const operation = await turns.hold('web-1', new AbortController().signal)
    await reconcile(host, wait(), held)
    bench.hypervisor.failNext('start', new HostletError('E_UNAVAILABLE', 'libvirt is away'))
    await operation[Symbol.asyncDispose]()
    await held.ended()
    assert.deepEqual(
      held.failed.map(({ vm, error }) => [vm, error.code]),
      [['web-1', 'E_UNAVAILABLE']]
    )
    await held.resume()
    await held.ended()
    assert.deepEqual([held.failed, await stateOf(bench, 'web-1')], [[], 'running'])
  })
})

describe('the record of VMs that were started since the host booted', () => {
  it('keeps what an earlier agent wrote, also where a VM starts before it was read', async () => {
    await using bench = await withTwo()
    bench.hypervisor.bootHost()
    const { host, held } = booted(bench)
    await host.bootRecord.write('vms-begun', ['earlier'])
    await bench.hypervisor.start('web-1', wait())
    await held.resume()
    await held.ended()
    assert.deepEqual(await host.bootRecord.read('vms-begun'), [named(1).uuid, 'earlier'])
  })
})

/** An agent that starts after the host's second boot. */
function booted(bench: Bench) {
  const host = bootedHost(bench, 'boot-2')
  const turns = new Turns()
  const stop = new AbortController()
  const held = new HeldStarts({
    host,
    turns,
    clock: systemClock,
    stop: stop.signal,
    onLooked: () => undefined
  })
  return { host, turns, held, stop }
}

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
