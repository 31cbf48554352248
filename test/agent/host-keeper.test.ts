// Libvirt's comings and goings: waited for, and followed by a look at what should run.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { describe, it } from 'node:test'
import type { Host } from '../../src/agent/host/host.ts'
import type { VmRecord } from '../../src/agent/host/hypervisor.ts'
import { MemoryHypervisor } from '../../src/agent/host/memory-hypervisor.ts'
import { HostKeeper, pruneIntervalMs, reconcileRetryMs } from '../../src/agent/host-keeper.ts'
import { Turns } from '../../src/agent/operations/turns.ts'
import { HostletError } from '../../src/errors.ts'
import { silentLogger } from '../../src/lib/log.ts'
import type { VmSummary } from '../../src/protocol/vm.ts'
import { FakeClock, settle } from '../support/fake-clock.ts'

function setUp() {
  const turns = new Turns()
  const clock = new FakeClock()
  const hypervisor = new MemoryHypervisor({ clock })
  const record = new Map<string, unknown>()
  const bootRecord = {
    read: async (name: string) => record.get(name),
    write: async (name: string, value: unknown) => void record.set(name, value)
  }
  const pruned: ReadonlySet<string>[] = []
  let ready = 0
  const started: string[] = []
  const vms = {
    start: async ({ specification }: VmRecord) => void started.push(specification.name)
  }
  const keeper = new HostKeeper({
    host: { hypervisor, bootRecord, vms, log: silentLogger } as unknown as Host,
    clock,
    log: silentLogger,
    turns,
    journal: { prune: (living) => pruned.push(living) },
    onReady: () => ready++
  })
  keeper.begin()
  return { clock, hypervisor, keeper, pruned, ready: () => ready, turns, record, started }
}

const definition = {
  specification: {
    ...{ name: 'web-1', uuid: '0b54e6f2-6b53-4a3e-9d1c-0123456789ab', profile: 'starter' },
    ...{ cpus: 1, memoryBytes: 64 * 1024 ** 2, rootDiskBytes: 1024 ** 2 },
    image: { url: 'file:///image', sha256: '0'.repeat(64), format: 'raw' }
  },
  placement: {
    ...{ uid: 1_900_000_000, network: 'hl-net', macAddress: '52:54:00:00:00:01', address: '10.90.0.2' },
    ...{ rootVolume: 'web-1-root.qcow2', dataVolume: null }
  },
  generation: 1,
  wanted: 'running',
  seedPath: null
} as const

describe('the host keeper', () => {
  it('looks at each return of libvirt, once', async () => {
    const { hypervisor, keeper, ready } = setUp()
    const states = ['away', 'away', 'connected', 'connected', 'away', 'connected'] as const
    for (const state of states) hypervisor.setStatus(state)
    await settle()
    assert.equal(ready(), 2)
    await keeper[Symbol.asyncDispose]()
  })

  it('is not kept from being ready by an operation that has a VM', async () => {
    const { hypervisor, keeper, ready, turns, record } = setUp()
    hypervisor.open()
    await hypervisor.define(definition, { signal: AbortSignal.timeout(10_000) })
    await turns.hold('web-1', new AbortController().signal)
    hypervisor.setStatus('connected')
    await settle()
    assert.deepEqual([ready(), record.get('vms-started')], [1, true])
    await keeper[Symbol.asyncDispose]()
  })

  it('leaves a VM off that its operation started and its guest switched off', async () => {
    const { hypervisor, keeper, turns, record, started } = setUp()
    const wait = { signal: AbortSignal.timeout(10_000) }
    hypervisor.open()
    await hypervisor.ensureNetwork({ name: 'hl-net', bridge: 'hlnet', subnet: '10.90.0.0/24' }, wait)
    await hypervisor.createVolume({ name: 'web-1-root.qcow2', capacityBytes: 1024 ** 2 }, wait)
    for (const end of ['guest', 'operation'] as const) {
      const specification = { ...definition.specification, name: `web-${end}`, uuid: randomUUID() }
      await hypervisor.define({ ...definition, specification }, wait)
    }
    const turnsOf = await Promise.all(['web-guest', 'web-operation'].map((vm) => turns.hold(vm, wait.signal)))
    hypervisor.setStatus('connected')
    await settle()
    // As right after a boot of the host.
    record.delete('vms-started')
    keeper.reconcile()
    await settle()
    assert.equal((record.get('vms-held') as unknown[]).length, 2)
    await hypervisor.start('web-guest', wait)
    await hypervisor.cutPower('web-guest', wait)
    for (const turn of turnsOf) await turn[Symbol.asyncDispose]()
    await settle()
    assert.deepEqual([started, record.get('vms-held')], [['web-operation'], []])
    await keeper[Symbol.asyncDispose]()
  })

  it('looks again when a look failed though libvirt stayed, and only then knows what was started after the boot', async () => {
    const { clock, hypervisor, keeper, record } = setUp()
    hypervisor.failNext('listVms', new HostletError('E_TIMEOUT', 'no answer came in time'))
    hypervisor.setStatus('connected')
    await settle()
    assert.equal(record.get('vms-started'), undefined)
    await clock.advance(reconcileRetryMs)
    await settle()
    assert.equal(record.get('vms-started'), true)
    await keeper[Symbol.asyncDispose]()
  })

  it('lets who waits for libvirt go on when it is there, and none who gave up', async () => {
    const { hypervisor, keeper } = setUp()
    const patient = keeper.untilReady(new AbortController().signal)
    const controller = new AbortController()
    const quitter = keeper.untilReady(controller.signal)
    controller.abort(new Error('enough'))
    await assert.rejects(quitter, { message: 'enough' })
    await assert.rejects(keeper.untilReady(controller.signal), { message: 'enough' })
    hypervisor.setStatus('connected')
    await patient
    await keeper.untilReady(new AbortController().signal)
    await keeper[Symbol.asyncDispose]()
  })

  it('prunes the journal by what exists, now and then', async () => {
    const { clock, keeper, pruned } = setUp()
    const vms = [{ uuid: 'a' }, { uuid: 'b' }] as VmSummary[]
    keeper.seen(vms)
    keeper.seen(vms)
    assert.deepEqual(pruned, [new Set(['a', 'b'])])
    assert.equal(keeper.vms, 2)
    await clock.advance(pruneIntervalMs)
    keeper.seen([])
    assert.deepEqual(pruned[1], new Set())
    await keeper[Symbol.asyncDispose]()
  })
})
