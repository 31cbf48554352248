// Drift of a VM: seen twice before it is told, put right by an operation where that may be, left to a person where not.

import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { DriftWatch, repairsMax, roundMs, settleMs } from '../../../src/agent/drift/watch.ts'
import type { Undertaking } from '../../../src/agent/inventory/ledger.ts'
import type { LocalRequest } from '../../../src/agent/operations/local.ts'
import { HostletError } from '../../../src/errors.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import type { VmEvent } from '../../../src/protocol/messages.ts'
import { FakeClock, settle } from '../../support/fake-clock.ts'
import { type Bench, carry, makeBench, succeed } from '../verbs/bench.ts'

const vm = { name: 'web-1', uuid: '0b54e6f2-6b53-4a3e-9d1c-000000000001' }
const addDisk = (xml: string) =>
  xml.replace(
    '</devices>',
    "<disk type='file' device='disk'><source file='/tmp/x'/><target dev='vdc'/></disk></devices>"
  )

describe('drift', () => {
  let bench: Bench
  let clock: FakeClock
  let watch: DriftWatch
  let events: VmEvent[]
  let underWay: Undertaking[]
  let repairs: LocalRequest[]
  /** What the agent's own repair does, beside being asked for. */
  let onRepair: () => Promise<void>

  beforeEach(async () => {
    clock = new FakeClock()
    underWay = []
    events = []
    repairs = []
    const ledger = { generationOf: () => 1_000, underWay: () => underWay, knownVms: () => [] }
    bench = await makeBench({ ledger })
    await bench.host.prepare()
    await succeed(bench.host, 'vm.provision', { specification: bench.specification(vm) })
    onRepair = async () => void (await repair({ scope: 'self' }))
    watch = new DriftWatch({
      host: { ...bench.host, clock },
      readiness: { isReady: () => true },
      operations: {
        begin: async (request) => {
          repairs.push(request)
          await onRepair()
          const ended = Promise.resolve({ outcome: 'done' } as never)
          return { id: '1', verb: request.verb, subject: request.subject, arguments: {}, ended }
        }
      },
      clock,
      log: silentLogger,
      post: (event) => events.push(event),
      onChanged: () => undefined
    })
    watch.begin()
    await pass(settleMs * 3)
  })
  afterEach(async () => {
    await watch[Symbol.asyncDispose]()
    await bench[Symbol.asyncDispose]()
  })

  it('is none of a VM as it was made', () => {
    assert.equal(watch.of(vm.uuid), undefined)
    assert.deepEqual([events, repairs, watch.health()], [[], [], []])
  })

  it('of disks is told with what to do, and never put right', async () => {
    await change({ devices: addDisk })
    await pass(settleMs * 4)
    const [item] = watch.of(vm.uuid) ?? []
    assert.deepEqual([item?.id, item?.severity, item?.repair], ['disks', 'critical', 'operator'])
    assert.match(item?.actual ?? '', /vdc x/)
    assert.doesNotMatch(item?.recorded ?? '', /vdc/)
    assert.deepEqual(repairs, [])
    assert.deepEqual(kinds(), ['drifted'])
    const result = await repair({})
    assert.deepEqual((result.repaired as unknown[]).length, 0)
    assert.deepEqual(
      (result.remaining as { id: string }[]).map(({ id }) => id),
      ['disks']
    )
    bench.hypervisor.tamper(vm.name, { devices: undefined })
    watch.note({ ...vm, kind: 'defined' })
    await pass(settleMs * 2)
    assert.equal(watch.of(vm.uuid), undefined)
    assert.deepEqual(kinds(), ['drifted', 'repaired'])
  })

  it('that is gone at the second look is not told', async () => {
    await change({ devices: addDisk })
    await pass(settleMs + 1_000)
    bench.hypervisor.tamper(vm.name, { devices: undefined })
    await pass(settleMs * 4)
    assert.deepEqual([events, watch.of(vm.uuid)], [[], undefined])
  })

  it('is not looked for while somebody works on the VM', async () => {
    underWay.push({ verb: 'vm.reimage', vm: vm.name, uuid: vm.uuid })
    await change({ devices: addDisk })
    await pass(settleMs * 12)
    assert.deepEqual([events, watch.of(vm.uuid)], [[], undefined])
    underWay.length = 0
    await pass(settleMs * 12)
    assert.deepEqual(kinds(), ['drifted'])
  })

  it('of an autostart is put right by an operation of the agent', async () => {
    await change({ autostart: true })
    await pass(settleMs * 6)
    assert.deepEqual(
      repairs.map(({ verb, subject, arguments: args }) => [verb, subject.vm, args]),
      [['vm.repair', vm.name, { vm: vm.name, scope: 'self' }]]
    )
    assert.equal((await bench.hypervisor.examine(vm.name, wait())).autostart, false)
    assert.deepEqual(kinds(), ['drifted', 'repaired'])
    assert.equal(watch.of(vm.uuid), undefined)
  })

  it('that comes back again and again is not fought with', async () => {
    onRepair = async () => undefined
    await change({ autostart: true })
    for (let look = 0; look < repairsMax + 3; look++) {
      watch.note({ ...vm, kind: 'defined' })
      await pass(settleMs * 2)
    }
    assert.equal(repairs.length, repairsMax)
    const [item] = watch.of(vm.uuid) ?? []
    assert.deepEqual([item?.id, item?.repair], ['autostart', 'ask'])
    assert.match(item?.next ?? '', /came back 3 times within an hour/)
  })

  it('of memory waits for somebody who asks', async () => {
    await change({ definition: (xml) => xml.replace(/(<memory[^>]*>)\d+/, '$1134217728') })
    await pass(settleMs * 4)
    assert.deepEqual(
      watch.of(vm.uuid)?.map(({ id, repair }) => [id, repair]),
      [['memory', 'ask']]
    )
    assert.deepEqual(repairs, [])
    const dry = await repair({ dryRun: true })
    assert.deepEqual(
      (dry.repaired as { id: string }[]).map(({ id }) => id),
      ['memory']
    )
    assert.equal(watch.of(vm.uuid)?.length, 1)
    const done = await repair({})
    assert.deepEqual(
      (done.repaired as { id: string }[]).map(({ id }) => id),
      ['memory']
    )
    assert.deepEqual(done.remaining, [])
    const { definition } = await bench.hypervisor.examine(vm.name, wait())
    assert.equal(definition?.memoryBytes, bench.specification(vm).memoryBytes)
  })

  it('of a definition that is gone is critical, and asked for writes it anew with the newest generation', async () => {
    await change({ transient: true })
    await pass(settleMs * 4)
    assert.deepEqual(
      watch.of(vm.uuid)?.map(({ id, severity }) => [id, severity]),
      [['definition', 'critical']]
    )
    await repair({})
    assert.notEqual((await bench.hypervisor.examine(vm.name, wait())).definition, null)
    const record = await bench.hypervisor.findVm(vm.name, wait())
    assert.deepEqual([record?.generation, record?.wanted, record?.state], [1_000, 'running', 'running'])
  })

  it('of a VM that went off by itself is told; nothing is started', async () => {
    bench.hypervisor.shutDownGuest(vm.name)
    watch.note({ ...vm, kind: 'stopped' })
    await pass(settleMs * 4)
    const [item] = watch.of(vm.uuid) ?? []
    assert.deepEqual([item?.id, item?.recorded], ['power', 'running'])
    assert.equal((await bench.hypervisor.findVm(vm.name, wait()))?.state, 'stopped')
  })

  it('of one VM is found though another does not answer', async () => {
    const other = { name: 'web-0', uuid: '0b54e6f2-6b53-4a3e-9d1c-000000000009' }
    await succeed(bench.host, 'vm.provision', { specification: bench.specification(other) })
    bench.hypervisor.inventory.poolIsStopped = true
    await change({ devices: addDisk })
    for (let look = 0; look < 2; look++) {
      bench.hypervisor.failNext('examine', new HostletError('E_TIMEOUT', 'its QEMU does not answer'))
      await pass(roundMs)
    }
    await pass(settleMs * 2)
    assert.deepEqual(
      watch.health().map(({ vm: name }) => name),
      [vm.name]
    )
    assert.equal(bench.hypervisor.inventory.poolIsStopped, false)
  })

  it('refuses a repair of a VM that is not there', async () => {
    const outcome = await carry(bench.host, 'vm.repair', { vm: 'web-9' })
    assert.equal(outcome.outcome === 'failed' && outcome.error.code, 'E_NOT_FOUND')
  })

  async function change(tampering: Parameters<Bench['hypervisor']['tamper']>[1]): Promise<void> {
    bench.hypervisor.tamper(vm.name, tampering)
    watch.note({ ...vm, kind: 'defined' })
  }

  async function repair(args: Record<string, unknown>) {
    return await succeed(
      bench.host,
      'vm.repair',
      { vm: vm.name, ...args },
      { subject: { vm: vm.name, uuid: vm.uuid, generation: 1_000 } }
    )
  }

  /** In small steps: each look reads files and the hypervisor in between. */
  async function pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= settleMs / 2) {
      await clock.advance(Math.min(left, settleMs / 2))
      for (let turn = 0; turn < 12; turn++) await settle()
    }
  }

  function kinds(): string[] {
    return events.map(({ kind }) => kind)
  }
})

function wait() {
  return { signal: AbortSignal.timeout(30_000) }
}
