// What VMs that are gone left: proven ours or not, told once, removed by host.clean alone; what may be somebody's is left alone.

import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdir, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { macAddressOf } from '../../../src/agent/host/names.ts'
import type { KnownVm } from '../../../src/agent/inventory/known-vms.ts'
import type { Undertaking } from '../../../src/agent/inventory/ledger.ts'
import { profileOf } from '../../../src/agent/profiles.ts'
import { type LogFields, silentLogger } from '../../../src/lib/log.ts'
import type { HostCleanResult, OrphanItem } from '../../../src/protocol/orphans.ts'
import { settle } from '../../support/fake-clock.ts'
import { type Bench, makeBench, succeed } from '../verbs/bench.ts'

const vm = { name: 'web-1', uuid: '0b54e6f2-6b53-4a3e-9d1c-000000000001' }
const gone = { name: 'gone', uuid: '1b54e6f2-6b53-4a3e-9d1c-000000000009' }
const root = 'gone.1b54e6f2.root.qcow2'
const data = 'gone.1b54e6f2.data.qcow2'
const mac = macAddressOf(gone.uuid)
const wait = () => ({ signal: AbortSignal.timeout(30_000) })

interface Books {
  readonly known: KnownVm[]
  readonly underWay: Undertaking[]
  readonly warnings: LogFields[]
}

describe('what VMs that do not exist left', () => {
  it('is told by name at a connect, once, and again when it is another; of each kind what is ours is counted', async () => {
    await using bench = await withVm({ known: [gone] })
    await leave(bench)
    bench.warnings.length = 0
    await reconnect(bench)
    await reconnect(bench)
    const [told, ...more] = bench.warnings
    assert.deepEqual(more, [])
    assert.deepEqual(told, {
      count: 7,
      ours: 7,
      volume: [data, root],
      seed: [`${gone.uuid}.iso`],
      console: [`${gone.uuid}.agent`],
      reservation: [`hl-net ${mac} 10.90.0.99`],
      secret: ['2b54e6f2-6b53-4a3e-9d1c-000000000009'],
      'qemu-log': ['gone.log']
    })
    assert.equal(bench.host.orphans.counts.volume, 2)
    await bench.hypervisor.removeReservation('hl-net', mac, wait())
    await reconnect(bench)
    assert.equal(bench.warnings[1]?.count, 6)
    assert.ok((await bench.hypervisor.listVolumes(wait())).some(({ name }) => name === root))
  })

  it('goes with host.clean, exactly what a dry run lists, and nothing of a VM', async () => {
    await using bench = await withVm({ known: [gone] })
    const before = await bench.leftovers()
    await leave(bench)
    const dry = await clean(bench, { dryRun: true })
    assert.equal(dry.dryRun, true)
    assert.equal((await find(bench)).length, 7)
    const told: OrphanItem[] = []
    using _listener = bench.host.orphans.onRemoved((item) => told.push(item))
    const done = await clean(bench)
    assert.deepEqual(done.removed, dry.removed)
    assert.deepEqual(told, done.removed)
    assert.deepEqual([done.kept, done.failed], [[], []])
    assert.deepEqual(await find(bench), [])
    assert.deepEqual(await bench.leftovers(), before)
    assert.equal(existsSync(join(bench.directory, 'logs', 'gone.log')), false)
    await succeed(
      bench.host,
      'vm.stop',
      { vm: vm.name },
      { subject: { ...subject(), generation: 1_000_000 } }
    )
    await succeed(
      bench.host,
      'vm.start',
      { vm: vm.name },
      { subject: { ...subject(), generation: 1_000_001 } }
    )
  })

  it('is not proven by its name alone: a volume named like ours is left alone', async () => {
    await using bench = await withVm({})
    await bench.hypervisor.createVolume({ name: root, capacityBytes: 1024 ** 2 }, wait())
    await bench.hypervisor.addReservation(
      'hl-net',
      { macAddress: mac, address: '10.90.0.99', vm: 'x' },
      wait()
    )
    const { removed, kept } = await clean(bench)
    assert.deepEqual(removed, [])
    assert.deepEqual(
      kept.map(({ kind, name, why }) => [kind, name, why]),
      [
        ['volume', root, 'nothing proves that hostlet made it'],
        ['reservation', `hl-net ${mac} 10.90.0.99`, 'nothing proves that hostlet made it']
      ]
    )
    assert.ok((await bench.hypervisor.listVolumes(wait())).some(({ name }) => name === root))
  })

  it('is not proven by a base image of ours that it stands on: another host may have the pool too', async () => {
    await using bench = await withVm({})
    await leaveDisks(bench)
    const { removed, kept } = await clean(bench)
    assert.deepEqual(removed, [])
    assert.deepEqual(
      kept.map(({ name, why }) => [name, why]),
      [
        [data, 'nothing proves that hostlet made it'],
        [root, 'nothing proves that hostlet made it']
      ]
    )
    assert.ok((await bench.hypervisor.listVolumes(wait())).some(({ name }) => name === root))
  })

  it('is left alone while a domain that is not ours has it, or stands on it', async () => {
    await using bench = await withVm({ known: [gone] })
    await leaveDisks(bench)
    const overlay = join(bench.directory, 'overlay.qcow2')
    const disk = (file: string, chain = '') =>
      `<domain><devices><disk type='file' device='disk'><driver type='qcow2'/><source file='${file}'/>${chain}</disk></devices></domain>`
    const { planted } = bench.hypervisor.inventory
    // In its own definition.
    planted.push({ name: 'alien', uuid: vm.uuid.replace('0b', '3b'), xml: disk(`/memory/${root}`) })
    assert.deepEqual(await volumesIn(bench), [data])
    // Below a disk of its own, as its chain says.
    planted.splice(0)
    const chain = `<backingStore type='file'><source file='/memory/${root}'/><backingStore/></backingStore>`
    planted.push({
      name: 'alien',
      uuid: vm.uuid.replace('0b', '3b'),
      xml: disk('/elsewhere/top.qcow2', chain)
    })
    assert.deepEqual(await volumesIn(bench), [data])
    // Below a disk whose own header says so.
    planted.splice(0)
    await writeFile(overlay, overlayOn(`/memory/${root}`))
    planted.push({ name: 'alien', uuid: vm.uuid.replace('0b', '3b'), xml: disk(overlay) })
    assert.deepEqual(await volumesIn(bench), [data])
    // Below one that cannot be read: then nobody knows, and nothing goes.
    planted.splice(0)
    planted.push({ name: 'alien', uuid: vm.uuid.replace('0b', '3b'), xml: disk('/nowhere/top.qcow2') })
    const { removed, kept } = await clean(bench)
    assert.deepEqual(removed, [])
    assert.match(kept[0]?.why ?? '', /what \/nowhere\/top.qcow2 of domain alien stands on cannot be read/)
    // Another volume of the pool stands on it.
    planted.splice(0)
    await bench.hypervisor.createOverlay(
      { name: 'theirs.qcow2', base: root, baseFormat: 'qcow2', capacityBytes: 1024 ** 2 },
      wait()
    )
    assert.deepEqual(await volumesIn(bench), [data])
  })

  it('is left alone where a quarantined domain is that VM', async () => {
    await using bench = await withVm({ known: [gone] })
    await leave(bench)
    bench.hypervisor.inventory.planted.push({ name: 'renamed', uuid: gone.uuid, metadata: 'broken' })
    bench.hypervisor.foreign.push({ name: gone.name, uuid: gone.uuid, state: 'stopped' })
    const ours = (await find(bench)).filter(({ verdict }) => verdict === 'ours')
    assert.deepEqual(
      ours.map(({ kind }) => kind),
      ['reservation', 'secret']
    )
  })

  it('waits for operations of its VM, for an hour to pass, and for VMs that the scheduler knows', async () => {
    await using bench = await withVm({ known: [gone] })
    await leaveDisks(bench)
    bench.underWay.push({ verb: 'vm.provision', vm: gone.name, uuid: gone.uuid })
    assert.deepEqual(await whysOf(bench), ['vm.provision of its VM is under way'])
    bench.underWay.length = 0
    for (const name of [root, data])
      bench.hypervisor.describeVolume(name, { changedAt: Date.now() - 5 * 60_000 })
    assert.deepEqual(await whysOf(bench), ['it changed 5 minutes ago'])
    for (const name of [root, data]) bench.hypervisor.describeVolume(name, { changedAt: 0 })
    const { removed, kept } = await clean(bench, { keep: [gone] })
    assert.deepEqual(removed, [])
    assert.deepEqual([...new Set(kept.map(({ why }) => why))], ['the scheduler knows VM gone to be here'])
    assert.equal((await clean(bench)).removed.length, 2)
  })

  it('is judged anew before it is removed: what somebody took meanwhile stays', async () => {
    await using bench = await withVm({ known: [gone] })
    await leaveDisks(bench)
    const listed = (await find(bench)).map(({ kind, name }) => ({ kind, name }))
    const xml = `<domain><devices><disk device='disk'><source file='/memory/${root}'/><backingStore/></disk></devices></domain>`
    bench.hypervisor.inventory.planted.push({ name: 'late', uuid: vm.uuid.replace('0b', '3b'), xml })
    const { removed } = await bench.host.orphans.clean(listed, [], wait())
    assert.deepEqual(
      removed.map(({ name }) => name),
      [data]
    )
    assert.ok((await bench.hypervisor.listVolumes(wait())).some(({ name }) => name === root))
  })

  it('counts half an image only once its bytes were read, and never one that is whole', async () => {
    await using bench = await withVm({})
    const half = `base-${'ab'.repeat(32)}.raw.img`
    await bench.hypervisor.createVolume({ name: half, capacityBytes: 1024 }, wait())
    bench.hypervisor.spoilVolume(half, Buffer.alloc(512, 1))
    assert.deepEqual(
      (await find(bench)).map(({ kind, verdict }) => [kind, verdict]),
      [['image', 'maybe']]
    )
    const { removed } = await clean(bench)
    assert.deepEqual(
      removed.map(({ name, why }) => [name, why]),
      [[half, 'its bytes are not those of its name']]
    )
  })

  it('of keys goes last: not while a disk is there that it could open, nor one of which nobody knows', async () => {
    const profiles = {
      starter: profileOf({ network: 'hl-net', bridge: 'hlnet', subnet: '10.90.0.0/24', encryption: false })
    }
    await using bench = await withVm({ known: [gone] }, { profiles })
    const id = '2b54e6f2-6b53-4a3e-9d1c-000000000009'
    const { disks } = bench.host.keys
    await disks.keep({ id, vm: gone, volume: data, passphrase: 'secret' })
    const keyOf = async () => (await find(bench)).find(({ kind }) => kind === 'key')
    assert.match((await keyOf())?.why ?? '', /it changed 0 minutes ago/)
    await using later = await afterHours(bench)
    await bench.hypervisor.createVolume({ name: data, capacityBytes: 1024 ** 2 }, wait())
    assert.match((await later.key())?.why ?? '', new RegExp(`${data} is there, and it may open it`))
    assert.equal(
      (await later.clean()).removed.some(({ kind }) => kind === 'key'),
      false
    )
    assert.ok(disks.has(id))
    await bench.hypervisor.createVolume({ name: 'stray.qcow2', capacityBytes: 1024 ** 2 }, wait())
    await bench.hypervisor.removeVolume(data, wait())
    assert.match((await later.key())?.why ?? '', /stray.qcow2 is there, and nobody knows what opens it/)
    await bench.hypervisor.removeVolume('stray.qcow2', wait())
    assert.deepEqual(
      (await later.clean()).removed.map(({ kind }) => kind),
      ['key']
    )
    assert.equal(disks.has(id), false)
  })

  it('of a network that a VM had to itself goes only where its bridge is its pair and nobody is on it', async () => {
    const profiles = {
      starter: profileOf({ network: 'hl-net', bridge: 'hlnet', subnet: '10.90.0.0/24', encryption: false }),
      own: profileOf({
        network: 'hl-own',
        bridge: 'hlo',
        subnet: '10.91.0.0/24',
        encryption: false,
        ownBridge: true
      })
    }
    await using bench = await withVm({}, { profiles })
    await bench.hypervisor.ensureNetwork(
      { name: 'hl-own-0123abcd', bridge: 'hlo0123abcd', subnet: '10.91.0.0/29' },
      wait()
    )
    await bench.hypervisor.ensureNetwork(
      { name: 'hl-own-ffffffff', bridge: 'virbr7', subnet: '10.91.0.8/29' },
      wait()
    )
    await bench.hypervisor.ensureNetwork({ name: 'office', bridge: 'br9', subnet: '10.99.0.0/24' }, wait())
    const { removed, kept } = await clean(bench)
    assert.deepEqual(
      [removed.map(({ name }) => name), kept.map(({ name }) => name)],
      [['hl-own-0123abcd'], ['hl-own-ffffffff']]
    )
    const left = (await bench.hypervisor.listNetworks(wait())).map(({ name }) => name)
    assert.deepEqual(left.toSorted(), ['hl-net', 'hl-own-ffffffff', 'office'])
  })
})

type OrphanBench = Bench & Books

async function withVm(
  { known = [] }: { known?: KnownVm[] },
  config: Parameters<typeof makeBench>[0] extends infer Options
    ? Options extends { config?: infer Config }
      ? Config
      : never
    : never = {}
): Promise<OrphanBench> {
  const underWay: Undertaking[] = []
  const warnings: LogFields[] = []
  const ledger = { generationOf: () => undefined, underWay: () => underWay, knownVms: () => known }
  const log = { ...silentLogger, warn: (fields: LogFields) => void warnings.push(fields) }
  const bench = await makeBench({ ledger, log, ...(config && { config }) })
  await bench.host.prepare()
  await succeed(bench.host, 'vm.provision', { specification: bench.specification(vm) })
  warnings.length = 0
  return Object.assign(bench, { known, underWay, warnings })
}

/** Root and data disk of a VM without a definition. */
async function leaveDisks({ hypervisor }: Bench): Promise<void> {
  const base = (await hypervisor.listVolumes(wait())).find(({ name }) => name.startsWith('base-'))?.name ?? ''
  await hypervisor.createVolume({ name: data, capacityBytes: 1024 ** 2 }, wait())
  await hypervisor.createOverlay({ name: root, base, baseFormat: 'raw', capacityBytes: 1024 ** 2 }, wait())
}

/** The same with all else that a VM has. */
async function leave(bench: Bench): Promise<void> {
  const { hypervisor, host, directory } = bench
  await leaveDisks(bench)
  await hypervisor.addReservation('hl-net', { macAddress: mac, address: '10.90.0.99', vm: gone.name }, wait())
  await hypervisor.defineSecret({ id: '2b54e6f2-6b53-4a3e-9d1c-000000000009', passphrase: 'x' }, wait())
  const console = join(host.config.runtimeDirectory, 'console')
  await mkdir(join(directory, 'logs'), { recursive: true })
  const files = [
    host.seeds.path(gone.uuid),
    join(console, `${gone.uuid}.agent`),
    join(directory, 'logs', 'gone.log'),
    // Somebody else's.
    join(directory, 'logs', 'alien.log')
  ]
  for (const path of files) {
    await writeFile(path, 'left')
    await utimes(path, 1_000, 1_000)
  }
}

async function clean(bench: Bench, args: Record<string, unknown> = {}): Promise<HostCleanResult> {
  return (await succeed(bench.host, 'host.clean', args)) as unknown as HostCleanResult
}

async function find({ host }: Bench): Promise<OrphanItem[]> {
  return await host.orphans.find({}, wait())
}

async function volumesIn(bench: Bench): Promise<string[]> {
  return (await find(bench)).filter(({ verdict }) => verdict === 'ours').map(({ name }) => name)
}

async function whysOf(bench: Bench): Promise<string[]> {
  const found = await find(bench)
  assert.ok(found.every(({ verdict }) => verdict === 'maybe'))
  return [...new Set(found.map(({ why }) => why))]
}

/** The same host some hours on. */
async function afterHours(bench: OrphanBench) {
  const clock = { ...bench.host.clock, now: () => Date.now() + 5 * 3_600_000 }
  const { Orphans } = await import('../../../src/agent/orphans/orphans.ts')
  const { hypervisor, placements, images, keys, ledger, log, config } = bench.host
  const orphans = new Orphans({
    ...{
      hypervisor,
      placements,
      images,
      keys: keys.disks,
      ledger,
      log,
      clock: { ...bench.host.clock, ...clock } as never
    },
    seedDirectory: join(config.runtimeDirectory, 'seeds'),
    consoleDirectory: join(config.runtimeDirectory, 'console'),
    qemuLogDirectory: join(bench.directory, 'logs')
  })
  return {
    key: async () => (await orphans.find({}, wait())).find(({ kind }) => kind === 'key'),
    clean: async () => {
      const found = await orphans.find({}, wait())
      return await orphans.clean(
        found.filter(({ verdict }) => verdict === 'ours'),
        [],
        wait()
      )
    },
    [Symbol.asyncDispose]: () => orphans[Symbol.asyncDispose]()
  }
}

async function reconnect({ hypervisor, host }: Bench): Promise<void> {
  const looks = () => hypervisor.calls.filter((call) => call === 'domainUses').length
  hypervisor.setStatus('away')
  const before = looks()
  hypervisor.setStatus('connected')
  while (looks() === before) await settle()
  await host.orphans.looked()
}

/** Start of a qcow2 on another file. */
function overlayOn(backing: string): Buffer {
  const head = Buffer.alloc(512)
  head.writeUInt32BE(0x514649fb, 0)
  head.writeUInt32BE(3, 4)
  head.writeBigUInt64BE(256n, 8)
  head.writeUInt32BE(backing.length, 16)
  head.write(backing, 256)
  return head
}

function subject() {
  return { vm: vm.name, uuid: vm.uuid, generation: 1 }
}
