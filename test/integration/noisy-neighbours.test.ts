// Two greedy guests against one measured guest on real QEMU: what protects it is compared with the same without, in the same place.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import type { Host } from '../../src/agent/host/host.ts'
import { profileOf } from '../../src/agent/profiles.ts'
import { readTopology } from '../../src/agent/resources/topology.ts'
import { succeed } from '../agent/verbs/bench.ts'
import { type LibvirtFixture, openLibvirtFixture } from '../contract/libvirt-fixture.ts'
import { type Guest, provision, shareOfFirst, subjectOf, usageOf } from './neighbours.ts'
import { cannotProvision, hostOf, setupOf } from './provision-host.ts'

const windowSeconds = 6
/** Of the greedy disks: far below what they write by themselves, even emulated on a busy machine. */
const tightLimits = { bytesPerSecondMax: 64 * 1024, operationsPerSecondMax: 10 }
const busy = 'this machine is so busy with other work that its guests get too little of it to compare'
const topology = await readTopology()
const skip =
  topology.length < 2 ? 'this machine has one core: none is left for a guest alone' : await cannotProvision()

describe('a guest beside two greedy ones', { skip }, () => {
  let fixture: LibvirtFixture
  let host: Host
  let gate: Disposable
  let greedy: Guest[]
  let measured: Guest

  before(async () => {
    fixture = await openLibvirtFixture()
    const setup = setupOf(fixture)
    const { network, bridge, subnet } = setup.config.profiles.starter ?? assert.fail()
    const profile = { network, bridge, subnet, encryption: false }
    const profiles = { starter: profileOf(profile), own: profileOf({ ...profile, cpu: 'pinned' }) }
    const reserve = { memoryBytes: 64 * 1024 ** 2, cores: topology.length - 1 }
    host = await hostOf(fixture.hypervisor, { ...setup, config: { ...setup.config, profiles, reserve } })
    gate = fixture.hypervisor.addStartGate(host.resources.gate)
    const name = (vm: string) => `${fixture.prefix}-${vm}`
    greedy = await Promise.all(['greedy-1', 'greedy-2'].map((vm) => provision(host, name(vm))))
    measured = await provision(host, name('measured'))
  })
  after(async () => {
    gate?.[Symbol.dispose]()
    await host?.close()
    await fixture?.dispose()
  })

  it('keeps its disk where theirs are limited', async () => {
    const share = async () => shareOfFirst((await usage('disk')).map(({ writtenBytes }) => writtenBytes))
    const without = await share()
    for (const guest of greedy)
      await succeed(host, 'vm.resize', { vm: guest.name, diskLimits: tightLimits }, subjectOf(guest))
    const protectedShare = await share()
    for (const guest of greedy)
      await succeed(host, 'vm.resize', { vm: guest.name, diskLimits: {} }, subjectOf(guest))
    assert.ok(protectedShare > 2 * without, `${protectedShare} of theirs, without limits ${without}`)
  })

  it('keeps its fair share of the processor, however many threads of theirs are at work', async () => {
    const share = shareOfFirst((await usage('cpu', [1, 4, 4])).map(({ cpuNanoseconds }) => cpuNanoseconds))
    // Half of what both get together is fair; by threads alone it would be an eighth.
    assert.ok(share > 0.3, `${share} of theirs`)
  })

  it('keeps its processor where theirs are limited', async (t) => {
    const percent = 10
    const limitNanoseconds = (percent / 100) * windowSeconds * 1e9
    const without = (await usage('cpu')).map(({ cpuNanoseconds }) => cpuNanoseconds)
    for (const guest of greedy)
      await succeed(host, 'vm.resize', { vm: guest.name, cpuLimitPercent: percent }, subjectOf(guest))
    const limited = (await usage('cpu')).map(({ cpuNanoseconds }) => cpuNanoseconds)
    for (const guest of greedy)
      await succeed(host, 'vm.resize', { vm: guest.name, cpuLimitPercent: null }, subjectOf(guest))
    for (const used of limited.slice(1))
      assert.ok(used < 2 * limitNanoseconds, `${used} ns of ${limitNanoseconds}`)
    if (!isCalm(without)) return t.skip(busy)
    const [share, shareWithout] = [shareOfFirst(limited), shareOfFirst(without)]
    assert.ok(share > 1.5 * shareWithout, `${share} of theirs, without limits ${shareWithout}`)
  })

  it('has a core to itself, which all of theirs together do not touch', async (t) => {
    const times = async (first: Guest) =>
      (await usage('cpu', [], first)).map(({ cpuNanoseconds }) => cpuNanoseconds)
    const without = await times(measured)
    if (!isCalm(without)) return t.skip(busy)
    const own = await provision(host, `${fixture.prefix}-own`, { profile: 'own' })
    const [share, shareWithout] = [shareOfFirst(await times(own)), shareOfFirst(without)]
    assert.ok(share > 1.25 * shareWithout, `${share} of theirs, sharing ${shareWithout}`)
  })

  function usage(kind: 'cpu' | 'disk', threads: readonly number[] = [], first = measured) {
    return usageOf(host, [first, ...greedy], { kind, seconds: windowSeconds, threads })
  }
})

/** Whether the guests got most of the processors: otherwise it is other work that they are short of them for. */
function isCalm(cpuNanoseconds: readonly number[]): boolean {
  const got = cpuNanoseconds.reduce((sum, each) => sum + each, 0)
  return got > 0.7 * windowSeconds * 1e9 * Math.min(topology.length, cpuNanoseconds.length)
}
