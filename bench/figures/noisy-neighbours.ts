// Figure: what a guest keeps of processor and disk beside two greedy guests, with what protects it against without.

import type { Host } from '../../src/agent/host/host.ts'
import { profileOf } from '../../src/agent/profiles.ts'
import { readTopology } from '../../src/agent/resources/topology.ts'
import { succeed } from '../../test/agent/verbs/bench.ts'
import { openLibvirtFixture } from '../../test/contract/libvirt-fixture.ts'
import { type Guest, provision, shareOfFirst, subjectOf, usageOf } from '../../test/integration/neighbours.ts'
import { cannotProvision, hostOf, setupOf } from '../../test/integration/provision-host.ts'
import { type Figure, interleave, NotRun, ratioRow } from '../harness.ts'

const seconds = 6
const tightDisk = { bytesPerSecondMax: 64 * 1024, operationsPerSecondMax: 10 }
const tightCpuPercent = 10

export const figure: Figure = {
  id: 'noisy-neighbours',
  title: 'A guest beside two greedy ones',
  run: async ({ quick }) => {
    const missing = await cannotProvision()
    if (missing !== false) throw new NotRun(missing)
    const topology = await readTopology()
    if (topology.length < 2) throw new NotRun('one core: none is left for a guest alone')
    await using guests = await openGuests(topology.length - 1)
    const pairs = quick ? 1 : 5
    const compare = (first: Share, second: Share) =>
      interleave({ ours: first, peer: second, pairs, warmUps: 0 })
    const disk = await compare(guests.withDiskLimits, guests.disk)
    const cpu = await compare(guests.withCpuLimits, guests.cpu)
    const own = await compare(guests.ownCore, guests.cpu)
    const row = (what: string, how: string, { ours, peer }: { ours: number[]; peer: number[] }) =>
      ratioRow({
        what,
        first: [how, ours],
        second: ['without', peer],
        unit: 'of theirs',
        target: { atLeast: 1.25 }
      })
    return {
      rows: [
        row('share of what is written, where their disks are limited', 'limited', disk),
        row('share of CPU time, where theirs is limited', 'limited', cpu),
        row('share of CPU time, with a core to itself', 'own core', own)
      ],
      how: [
        `Three guests work as hard as they can (\`/cgi-bin/work\`). A sample is what the measured guest got in ${seconds} s, for each unit that both greedy guests got together: bytes written, or CPU time of QEMU. Limited: each greedy disk to 64 KiB and 10 requests a second; each greedy guest to ${tightCpuPercent} % of a core. Own core: another guest of a pinned profile is measured.`,
        'Emulated machines (TCG) of one vCPU each on the libvirtd of this machine, changed by `vm.resize` while they run.'
      ]
    }
  }
}

type Share = () => Promise<number>

interface Guests extends AsyncDisposable {
  readonly disk: Share
  readonly withDiskLimits: Share
  readonly cpu: Share
  readonly withCpuLimits: Share
  readonly ownCore: Share
}

async function openGuests(reservedCores: number): Promise<Guests> {
  const fixture = await openLibvirtFixture()
  const setup = setupOf(fixture)
  const { name: network, bridge, subnet } = fixture.network
  const profile = { network, bridge, subnet, encryption: false }
  const profiles = { starter: profileOf(profile), own: profileOf({ ...profile, cpu: 'pinned' }) }
  const reserve = { memoryBytes: 64 * 1024 ** 2, cores: reservedCores }
  const host = await hostOf(fixture.hypervisor, { ...setup, config: { ...setup.config, profiles, reserve } })
  const gate = fixture.hypervisor.addStartGate(host.resources.gate)
  const make = (vm: string) => provision(host, `${fixture.prefix}-${vm}`)
  const greedy = [await make('greedy-1'), await make('greedy-2')]
  const measured = await make('measured')
  const share = (kind: 'cpu' | 'disk', first: Guest) => shareIn(host, [first, ...greedy], kind)
  const limited = async (change: object, back: object, work: Share) => {
    for (const guest of greedy) await resize(host, guest, change)
    const value = await work()
    for (const guest of greedy) await resize(host, guest, back)
    return value
  }
  return {
    disk: () => share('disk', measured),
    withDiskLimits: () =>
      limited({ diskLimits: tightDisk }, { diskLimits: {} }, () => share('disk', measured)),
    cpu: () => share('cpu', measured),
    withCpuLimits: () =>
      limited({ cpuLimitPercent: tightCpuPercent }, { cpuLimitPercent: null }, () => share('cpu', measured)),
    ownCore: async () => {
      const own = await provision(host, `${fixture.prefix}-own`, { profile: 'own' })
      const value = await share('cpu', own)
      await succeed(host, 'vm.teardown', { vm: own.name }, subjectOf(own))
      await host.resources.rebalance({ signal: AbortSignal.timeout(60_000) })
      return value
    },
    [Symbol.asyncDispose]: async () => {
      gate[Symbol.dispose]()
      await host.close()
      await fixture.dispose()
    }
  }
}

async function resize(host: Host, guest: Guest, change: object): Promise<void> {
  await succeed(host, 'vm.resize', { vm: guest.name, ...change }, subjectOf(guest))
}

async function shareIn(host: Host, guests: readonly Guest[], kind: 'cpu' | 'disk'): Promise<number> {
  const usage = await usageOf(host, guests, { kind, seconds })
  return shareOfFirst(usage.map((each) => (kind === 'cpu' ? each.cpuNanoseconds : each.writtenBytes)))
}
