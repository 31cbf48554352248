// The share of the host that VMs get, on real libvirt and QEMU: cores, limits, sizes, and that nothing is given twice.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { readCgroups } from '../../src/agent/host/cgroups.ts'
import type { Host } from '../../src/agent/host/host.ts'
import { profileOf } from '../../src/agent/profiles.ts'
import { memoryLimitBytes } from '../../src/agent/resources/memory-limit.ts'
import { processLimitsOf } from '../../src/agent/resources/process-limits.ts'
import { readTopology, type Topology } from '../../src/agent/resources/topology.ts'
import { carry, succeed } from '../agent/verbs/bench.ts'
import { type LibvirtFixture, openLibvirtFixture } from '../contract/libvirt-fixture.ts'
import {
  allowedCpus,
  type Guest,
  memoryGroupOf,
  pidOf,
  provision,
  subjectOf,
  untilAnswer,
  work
} from './neighbours.ts'
import {
  cannotProvision,
  guestSpecification,
  hostOf,
  type ProvisionSetup,
  setupOf
} from './provision-host.ts'

const mebibyte = 1024 ** 2
const topology = await readTopology()
const cgroups = readCgroups()

/** The reserve leaves one core that a VM can have to itself. */
const reserve = { memoryBytes: 64 * mebibyte, cores: topology.length - 1 }

describe('the share of a VM on libvirt', { skip: await cannotShare(topology) }, () => {
  let fixture: LibvirtFixture
  let setup: ProvisionSetup
  let host: Host
  let gate: Disposable
  let shared: Guest
  let own: Guest
  const wait = () => ({ signal: AbortSignal.timeout(60_000) })
  const name = (vm: string) => `${fixture.prefix}-${vm}`
  const ownCpus = topology.at(-1) ?? []
  const others = topology.slice(0, -1).flat()

  before(async () => {
    fixture = await openLibvirtFixture()
    const plain = setupOf(fixture)
    const { network, bridge, subnet } = plain.config.profiles.starter ?? assert.fail()
    const profile = { network, bridge, subnet, encryption: false }
    // Each has the same network: what a profile says of cores and limits is all that matters here.
    const profiles = {
      starter: profileOf({ ...profile, diskLimits: { bytesPerSecondMax: 512 * mebibyte } }),
      own: profileOf({ ...profile, cpu: 'pinned' })
    }
    setup = { ...plain, config: { ...plain.config, profiles, reserve } }
    host = await hostOf(fixture.hypervisor, setup)
    gate = fixture.hypervisor.addStartGate(host.resources.gate)
    shared = await provision(host, name('shared'), { dataDiskBytes: 8 * mebibyte })
  })
  after(async () => {
    gate?.[Symbol.dispose]()
    await host?.close()
    await fixture?.dispose()
  })

  it('moves what shares away from the core that a VM has to itself, thread by thread', async () => {
    assert.ok((await allowedCpus(shared.name)).some(({ cpus }) => cpus !== listText(others)))
    own = await provision(host, name('own'), { profile: 'own' })
    for (const { thread, cpus } of await allowedCpus(own.name)) assert.equal(cpus, listText(ownCpus), thread)
    for (const { thread, cpus } of await allowedCpus(shared.name))
      assert.equal(cpus, listText(others), thread)
  })

  it('gives no core out twice: not while its VM is off, and not after a restart of the agent', async () => {
    await succeed(host, 'vm.stop', { vm: own.name, force: true }, subjectOf(own))
    gate[Symbol.dispose]()
    await host.close()
    host = await hostOf(fixture.hypervisor, setup)
    gate = fixture.hypervisor.addStartGate(host.resources.gate)
    const second = { name: name('second'), uuid: '5d9f1c9c-9f0e-4f64-9a5d-0123456789ab' }
    const specification = guestSpecification({ ...second, profile: 'own' })
    const outcome = await carry(host, 'vm.provision', { specification }, subjectOf(second))
    assert.equal(outcome.outcome === 'failed' && outcome.error.code, 'E_CAPACITY')
    await succeed(host, 'vm.start', { vm: own.name }, subjectOf(own))
    await untilAnswer(own)
    for (const { cpus } of await allowedCpus(own.name)) assert.equal(cpus, listText(ownCpus))
  })

  it('sets what was lost when the agent comes back', async () => {
    await fixture.virsh('vcpupin', shared.name, '0', listText(topology.flat()), '--live')
    await host.resources.settle(wait())
    for (const { cpus } of await allowedCpus(shared.name)) assert.equal(cpus, listText(others))
  })

  it('limits the memory of QEMU as a whole, above all that a busy guest takes', {
    skip: !cgroups.memory && 'libvirt finds no memory controller of control groups here'
  }, async () => {
    const group = (await memoryGroupOf(shared.name)) ?? assert.fail('no group of its own')
    const read = async (...files: string[]) =>
      Number(await readFile(join(group, files.find((file) => existsSync(join(group, file))) ?? ''), 'utf8'))
    const limit = memoryLimitBytes({
      memoryBytes: 192 * mebibyte,
      cpus: 1,
      disks: 2,
      accelerator: 'tcg'
    })
    assert.equal(await read('memory.max', 'memory.limit_in_bytes'), limit)
    // All its memory, its disks and its processor at once.
    await Promise.all([work(shared, 'cpu', 5), work(shared, 'disk', 5), fillMemory(shared)])
    const most = await read('memory.peak', 'memory.max_usage_in_bytes')
    assert.ok(most < limit, `${most} of ${limit}`)
    assert.equal((await host.hypervisor.findVm(shared.name, wait()))?.state, 'running')
    await untilAnswer(shared)
  })

  it('weighs a VM by its vCPUs where processors are short', {
    skip: !cgroups.cpu && 'libvirt finds no CPU controller of control groups here'
  }, async () => {
    const shares = await fixture.virsh('schedinfo', shared.name)
    assert.match(shares, new RegExp(`^cpu_shares\\s*: ${cgroups.version === 1 ? 1024 : 100}$`, 'm'))
  })

  it('keeps its processes within limits that the kernel tells of', async () => {
    const limits = await processLimitsOf(await pidOf(shared.name))
    assert.equal(limits.seccomp, 'filter')
    assert.equal(limits.noNewPrivileges, true)
    assert.equal(limits.coreBytesMax, 0)
    assert.ok(limits.processesMax === null || limits.processesMax >= limits.threads)
    assert.ok(limits.threads > 1)
  })

  it('follows a resize at once in its limits and its disks, and says that the rest waits', async () => {
    const asked = {
      cpus: 2,
      memoryBytes: 256 * mebibyte,
      cpuLimitPercent: 90,
      diskLimits: { bytesPerSecondMax: 300 * mebibyte, operationsPerSecondMax: 5_000 },
      rootDiskBytes: 160 * mebibyte,
      dataDiskBytes: 16 * mebibyte
    }
    const run = await runOf(shared)
    const { changes } = await succeed(host, 'vm.resize', { vm: shared.name, ...asked }, subjectOf(shared))
    const applied = new Map((changes as { what: string; applied: string }[]).map((c) => [c.what, c.applied]))
    for (const what of ['cpuLimitPercent', 'diskLimits', 'rootDiskBytes', 'dataDiskBytes'])
      assert.equal(applied.get(what), 'live', what)
    for (const what of ['cpus', 'memoryBytes']) assert.equal(applied.get(what), 'next start', what)
    assert.equal(await runOf(shared), run, 'it runs on')
    assert.match(await fixture.virsh('schedinfo', shared.name), /^global_quota\s*: 90000$/m)
    for (const disk of ['vda', 'vdb']) {
      const tune = await fixture.virsh('blkdeviotune', shared.name, disk)
      assert.match(tune, new RegExp(`^total_bytes_sec\\s*: ${300 * mebibyte}$`, 'm'))
      assert.match(tune, /^total_iops_sec\s*: 5000$/m)
    }
    assert.match(await fixture.virsh('domblkinfo', shared.name, 'vda'), /^Capacity:\s+167772160$/m)
    assert.match(await fixture.virsh('domblkinfo', shared.name, 'vdb'), /^Capacity:\s+16777216$/m)
    assert.match(await fixture.virsh('vcpucount', shared.name, '--live', '--current'), /^1$/m)
    await untilAnswer(shared)
  })

  it('has the rest from its next start on, with the limits that it had', async () => {
    await succeed(host, 'vm.stop', { vm: shared.name, force: true }, subjectOf(shared))
    await succeed(host, 'vm.start', { vm: shared.name }, subjectOf(shared))
    assert.match(await fixture.virsh('vcpucount', shared.name, '--live', '--current'), /^2$/m)
    assert.match(await fixture.virsh('dominfo', shared.name), /^Max memory:\s+262144 KiB$/m)
    assert.match(await fixture.virsh('schedinfo', shared.name), /^global_quota\s*: 90000$/m)
    assert.match(await fixture.virsh('blkdeviotune', shared.name, 'vda'), /^total_iops_sec\s*: 5000$/m)
    for (const { cpus } of await allowedCpus(shared.name)) assert.equal(cpus, listText(others))
    const resize = { vm: shared.name, cpuLimitPercent: null, diskLimits: {} }
    await succeed(host, 'vm.resize', resize, subjectOf(shared))
    assert.doesNotMatch(await fixture.virsh('schedinfo', shared.name), /^global_quota\s*: 90000$/m)
    const tune = await fixture.virsh('blkdeviotune', shared.name, 'vda')
    assert.match(tune, new RegExp(`^total_bytes_sec\\s*: ${512 * mebibyte}$`, 'm'), 'its profile’s')
    assert.match(tune, /^total_iops_sec\s*: 0$/m)
  })

  it('grows a disk of a VM that is off, and refuses to shrink one or to loosen its profile', async () => {
    await succeed(host, 'vm.stop', { vm: shared.name, force: true }, subjectOf(shared))
    const grown = await succeed(
      host,
      'vm.resize',
      { vm: shared.name, dataDiskBytes: 24 * mebibyte },
      subjectOf(shared)
    )
    assert.deepEqual(grown.changes, [{ what: 'dataDiskBytes', applied: 'next start' }])
    for (const refused of [
      { dataDiskBytes: 16 * mebibyte },
      { diskLimits: { bytesPerSecondMax: 513 * mebibyte } }
    ]) {
      const outcome = await carry(host, 'vm.resize', { vm: shared.name, ...refused }, subjectOf(shared))
      assert.equal(outcome.outcome === 'failed' && outcome.error.code, 'E_BAD_REQUEST')
    }
    // One vCPU again: emulated, several on one processor take minutes to boot.
    await succeed(host, 'vm.resize', { vm: shared.name, cpus: 1 }, subjectOf(shared))
    await succeed(host, 'vm.start', { vm: shared.name }, subjectOf(shared))
    assert.match(await fixture.virsh('domblkinfo', shared.name, 'vdb'), /^Capacity:\s+25165824$/m)
    await untilAnswer(shared)
  })

  it('gives the core back to all when its VM is gone', async () => {
    await succeed(host, 'vm.teardown', { vm: own.name }, subjectOf(own))
    await host.resources.rebalance(wait())
    const vcpus = (await allowedCpus(shared.name)).filter(({ thread }) => thread.startsWith('CPU '))
    assert.ok(vcpus.length > 0)
    for (const { cpus } of vcpus) assert.equal(cpus, listText(topology.flat()))
  })

  async function runOf(guest: Guest): Promise<number | null | undefined> {
    return (await host.hypervisor.findVm(guest.name, wait()))?.run
  }

  /** Written to its disk, random bytes pass through all of the guest's page cache. */
  async function fillMemory(guest: Guest): Promise<void> {
    await (await fetch(`http://${guest.address}/cgi-bin/write?mib=4`)).text()
  }
})

async function cannotShare(cores: Topology): Promise<string | false> {
  if (cores.length < 2) return 'a VM cannot have a core to itself: this machine has only one'
  return await cannotProvision()
}

/** As the kernel writes it. */
function listText(cpus: readonly number[]): string {
  const sorted = cpus.toSorted((left, right) => left - right)
  const parts: string[] = []
  for (let at = 0; at < sorted.length; ) {
    let end = at
    while (sorted[end + 1] === (sorted[end] ?? 0) + 1) end++
    parts.push(end === at ? `${sorted[at]}` : `${sorted[at]}-${sorted[end]}`)
    at = end + 1
  }
  return parts.join(',')
}
