// The host's cores and memory, shared out over the life of VMs and of the agent.

import assert from 'node:assert/strict'
import { randomInt, randomUUID } from 'node:crypto'
import { describe, it } from 'node:test'
import type { Host } from '../../../src/agent/host/host.ts'
import type { VmRecord } from '../../../src/agent/host/hypervisor.ts'
import { type Profile, profileOf } from '../../../src/agent/profiles.ts'
import { SharesKeeper } from '../../../src/agent/resources/shares-keeper.ts'
import type { VmSpecification } from '../../../src/protocol/vm.ts'
import { type Bench, carry, makeBench, succeed } from '../verbs/bench.ts'

const gibibyte = 1024 ** 3
const network = { network: 'hl-net', bridge: 'hlnet', subnet: '10.90.0.0/24', encryption: false }
const profiles: Record<string, Profile> = {
  starter: profileOf(network),
  own: profileOf({ ...network, network: 'hl-own', bridge: 'hlown', subnet: '10.91.0.0/24', cpu: 'pinned' }),
  huge: profileOf({
    ...network,
    network: 'hl-huge',
    bridge: 'hlhuge',
    subnet: '10.92.0.0/24',
    hugepages: true
  }),
  slow: profileOf({
    ...network,
    network: 'hl-slow',
    bridge: 'hlslow',
    subnet: '10.93.0.0/24',
    diskLimits: { bytesPerSecondMax: 1024 ** 2 }
  })
}

interface Machine {
  cores: number[][]
  memoryBytes: number
  hugeBytes: number
}

async function openBench(change: Partial<Machine> = {}): Promise<Bench & { machine: Machine }> {
  const machine: Machine = {
    cores: [
      [0, 4],
      [1, 5],
      [2, 6],
      [3, 7]
    ],
    memoryBytes: 9 * gibibyte,
    hugeBytes: 0,
    ...change
  }
  const bench = await makeBench({
    config: { profiles },
    machine: {
      topology: async () => machine.cores,
      memoryBytes: () => machine.memoryBytes,
      hugePages: async () => ({ totalBytes: machine.hugeBytes, freeBytes: machine.hugeBytes })
    }
  })
  return Object.assign(bench, { machine })
}

const wait = () => ({ signal: AbortSignal.timeout(60_000) })

function named(bench: Bench, name: string, change: Partial<VmSpecification> = {}): VmSpecification {
  return bench.specification({ name, uuid: randomUUID(), ...change })
}

async function resourcesOf(host: Host, name: string) {
  return (await host.hypervisor.findVm(name, wait()))?.placement.resources
}

async function failure(host: Host, verb: string, args: Record<string, unknown>, uuid?: string) {
  const vm = args.vm as string | undefined
  const subject = vm && uuid ? { subject: { vm, uuid, generation: Date.now() } } : {}
  const outcome = await carry(host, verb, args, subject)
  return outcome.outcome === 'failed' ? outcome.error : undefined
}

describe('cores of a pinned profile', () => {
  it('leave those that VMs share, and come back when their VM is gone', async () => {
    await using bench = await openBench()
    const { host, hypervisor } = bench
    await using keeper = new SharesKeeper(host.resources)
    using _note = hypervisor.onEvent((event) => keeper.note(event))
    const shared = named(bench, 'shared')
    const own = named(bench, 'own', { profile: 'own', cpus: 2 })
    await succeed(host, 'vm.provision', { specification: shared })
    assert.deepEqual((await resourcesOf(host, 'shared'))?.shared, [0, 4, 1, 5, 2, 6, 3, 7])
    await succeed(host, 'vm.provision', { specification: own })
    assert.deepEqual(await resourcesOf(host, 'own'), {
      pinned: [
        [1, 5],
        [2, 6]
      ]
    })
    assert.deepEqual((await resourcesOf(host, 'shared'))?.shared, [0, 4, 3, 7])
    const { facts } = (await succeed(host, 'host.facts', {})) as { facts: Record<string, unknown> }
    assert.equal(facts.coresPinnable, 3)
    assert.equal(facts.coresFree, 1)
    assert.equal(facts.vmMemoryBytesMax, 8 * gibibyte)
    assert.deepEqual(facts.profilesPinned, ['own'])
    await succeed(host, 'vm.teardown', { vm: 'own' }, { subject: subjectOf(own) })
    await keeper.idle()
    assert.deepEqual((await resourcesOf(host, 'shared'))?.shared, [0, 4, 1, 5, 2, 6, 3, 7])
  })

  it('stay with a VM that is off, and are refused to others with what is left', async () => {
    await using bench = await openBench()
    const { host } = bench
    const first = named(bench, 'first', { profile: 'own', cpus: 2 })
    await succeed(host, 'vm.provision', { specification: first })
    await succeed(host, 'vm.stop', { vm: 'first', force: true }, { subject: subjectOf(first) })
    const second = named(bench, 'second', { profile: 'own', cpus: 2 })
    const refusal = await failure(bench.restarted(), 'vm.provision', { specification: second })
    assert.equal(refusal?.code, 'E_CAPACITY')
    assert.match(refusal?.message ?? '', /needs 2 cores to itself; the host has 1 left of the 3/)
    assert.deepEqual(
      await bench.leftovers().then((left) => left.filter((each) => each.includes('second'))),
      []
    )
  })

  it('are not taken from VMs that share and need them', async () => {
    await using bench = await openBench({ cores: [[0], [1]] })
    await succeed(bench.host, 'vm.provision', { specification: named(bench, 'busy', { cpus: 5 }) })
    const own = named(bench, 'own', { profile: 'own' })
    const refusal = await failure(bench.host, 'vm.provision', { specification: own })
    assert.equal(refusal?.code, 'E_CAPACITY')
    assert.match(refusal?.message ?? '', /the VMs that share processors need 1\.3 of them, 1 would be left/)
  })

  it('are given at the next start to a VM whose definition has none, or none that are whole', async () => {
    await using bench = await openBench()
    const { host, hypervisor, machine } = bench
    using _gate = hypervisor.addStartGate(host.resources.gate)
    const own = named(bench, 'own', { profile: 'own' })
    await succeed(host, 'vm.provision', { specification: own })
    await succeed(host, 'vm.stop', { vm: 'own', force: true }, { subject: subjectOf(own) })
    for (const [cores, expected] of [
      [[[0], [1]], [[1]]],
      [
        [
          [0, 2],
          [1, 3]
        ],
        [[1, 3]]
      ]
    ] as const) {
      machine.cores = cores.map((core) => [...core])
      await succeed(host, 'vm.start', { vm: 'own' }, { subject: subjectOf(own) })
      assert.deepEqual((await resourcesOf(host, 'own'))?.pinned, expected)
      await succeed(host, 'vm.stop', { vm: 'own', force: true }, { subject: subjectOf(own) })
    }
    machine.cores = [[0]]
    assert.equal((await failure(host, 'vm.start', { vm: 'own' }, own.uuid))?.code, 'E_CAPACITY')
  })

  it('keep a machine off where one that shares cannot be moved away', async () => {
    await using bench = await openBench()
    const { host, hypervisor } = bench
    await succeed(host, 'vm.provision', { specification: named(bench, 'shared') })
    hypervisor.failNext('reshape', new Error('libvirt said no'))
    const own = named(bench, 'own', { profile: 'own' })
    assert.notEqual(await failure(host, 'vm.provision', { specification: own }), undefined)
    assert.equal(await hypervisor.findVm('own', wait()), undefined)
  })

  it('belong to one VM at most, through any history with restarts of the agent', async () => {
    const seed = randomInt(2 ** 31)
    const random = generator(seed)
    await using bench = await openBench({ cores: Array.from({ length: 6 }, (_, core) => [core]) })
    const { hypervisor } = bench
    const vms = new Map<string, VmSpecification>()
    let host = bench.host
    let gate = hypervisor.addStartGate(host.resources.gate)
    for (let step = 0; step < 120; step++) {
      const about = `seed ${seed}, step ${step}`
      const name = `vm-${random(5)}`
      const vm = vms.get(name)
      const action = random(6)
      if (random(10) === 0) {
        gate[Symbol.dispose]()
        host = bench.restarted()
        gate = hypervisor.addStartGate(host.resources.gate)
        await host.resources.settle(wait())
      }
      if (vm === undefined) {
        const profile = random(3) === 0 ? 'starter' : 'own'
        const specification = named(bench, name, { profile, cpus: 1 + random(3) })
        const outcome = await carry(host, 'vm.provision', { specification })
        if (outcome.outcome === 'done') vms.set(name, specification)
        else assert.equal(outcome.error.code, 'E_CAPACITY', `${about}: ${outcome.error.message}`)
      } else if (action === 0) {
        await succeed(host, 'vm.teardown', { vm: name }, { subject: subjectOf(vm) })
        vms.delete(name)
        await host.resources.rebalance(wait())
      } else {
        const [verb, args] = changeOf(action, random)
        const outcome = await carry(host, verb, { vm: name, ...args }, { subject: subjectOf(vm) })
        if (outcome.outcome === 'failed')
          assert.equal(outcome.error.code, 'E_CAPACITY', `${about}: ${outcome.error.message}`)
      }
      checkCores(await hypervisor.listVms(wait()), about)
    }
    gate[Symbol.dispose]()
  })
})

describe('admission of a host', () => {
  it('counts VMs that run or should, at provision and at start', async () => {
    await using bench = await openBench()
    const { host } = bench
    const [first, second] = ['first', 'second'].map((name) =>
      named(bench, name, { memoryBytes: 4 * gibibyte })
    )
    const third = named(bench, 'third', { memoryBytes: gibibyte })
    assert.ok(first && second)
    for (const specification of [first, second]) await succeed(host, 'vm.provision', { specification })
    const refusal = await failure(host, 'vm.provision', { specification: third })
    assert.equal(refusal?.code, 'E_CAPACITY')
    assert.match(refusal?.message ?? '', /VM third needs 1024 MiB of memory, the host has 0 MiB left/)
    await succeed(host, 'vm.stop', { vm: 'first', force: true }, { subject: subjectOf(first) })
    await succeed(host, 'vm.provision', { specification: third })
    assert.equal((await failure(host, 'vm.start', { vm: 'first' }, first.uuid))?.code, 'E_CAPACITY')
  })

  it('lets one of two start that come at the same time and do not both fit', async () => {
    await using bench = await openBench()
    const { host, hypervisor } = bench
    const both = ['first', 'second'].map((name) => named(bench, name, { memoryBytes: 5 * gibibyte }))
    for (const vm of both) {
      await succeed(host, 'vm.provision', { specification: vm })
      await succeed(host, 'vm.stop', { vm: vm.name, force: true }, { subject: subjectOf(vm) })
    }
    const outcomes = await Promise.all(
      both.map((vm) => carry(host, 'vm.start', { vm: vm.name }, { subject: subjectOf(vm) }))
    )
    assert.deepEqual(outcomes.map(({ outcome }) => outcome).toSorted(), ['done', 'failed'])
    const running = (await hypervisor.listVms(wait())).filter(({ state }) => state === 'running')
    assert.equal(running.length, 1)
  })

  it('wants huge pages for a profile that has them, and no other memory', async () => {
    await using bench = await openBench({ hugeBytes: gibibyte })
    const huge = named(bench, 'huge', { profile: 'huge', memoryBytes: gibibyte })
    await succeed(bench.host, 'vm.provision', { specification: huge })
    assert.equal((await resourcesOf(bench.host, 'huge'))?.hugepages, true)
    const other = named(bench, 'other', { profile: 'huge' })
    const refusal = await failure(bench.host, 'vm.provision', { specification: other })
    assert.match(refusal?.message ?? '', /needs 256 MiB of huge pages, the host has 0 MiB left of 1024 MiB/)
  })

  it('refuses a VM whose limits are looser than its profile’s, and gives the tighter ones', async () => {
    await using bench = await openBench()
    const loose = named(bench, 'loose', { profile: 'slow', diskLimits: { bytesPerSecondMax: 2 * 1024 ** 2 } })
    assert.equal((await failure(bench.host, 'vm.provision', { specification: loose }))?.code, 'E_BAD_REQUEST')
    const tight = named(bench, 'tight', { profile: 'slow', diskLimits: { operationsPerSecondMax: 100 } })
    await succeed(bench.host, 'vm.provision', { specification: tight })
    assert.deepEqual((await resourcesOf(bench.host, 'tight'))?.diskLimits, {
      bytesPerSecondMax: 1024 ** 2,
      operationsPerSecondMax: 100
    })
  })
})

let generation = 1_000

function subjectOf({ name, uuid }: VmSpecification) {
  return { vm: name, uuid, generation: ++generation }
}

function changeOf(action: number, random: (below: number) => number): [string, Record<string, unknown>] {
  if (action === 1) return ['vm.stop', { force: true }]
  if (action === 2) return ['vm.start', {}]
  return ['vm.resize', { cpus: 1 + random(4) }]
}

function checkCores(vms: readonly VmRecord[], about: string): void {
  const own = vms.flatMap(({ placement }) => placement.resources?.pinned ?? []).flat()
  assert.equal(new Set(own).size, own.length, `${about}: a core is two VMs'`)
  assert.ok(!own.includes(0), `${about}: the host's own core is a VM's`)
  for (const { specification, placement, state } of vms) {
    const { pinned, shared } = placement.resources ?? {}
    const { name, profile, cpus } = specification
    assert.equal(pinned !== undefined, profile === 'own', `${about}: ${name}`)
    if (pinned !== undefined) assert.ok(pinned.length >= cpus, `${about}: ${name} has too few cores`)
    else if (state === 'running')
      assert.ok(!shared?.some((cpu) => own.includes(cpu)), `${about}: ${name} runs on another's core`)
  }
}

/** A seed that is printed makes a failure repeatable (mulberry32). */
function generator(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}
