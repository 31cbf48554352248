// Drift, leftovers and adoption on a real libvirt: what somebody did behind the agent's back is seen, what is ours goes, what is not stays.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { lookAtDrift } from '../../src/agent/drift/look.ts'
import { BootRecord } from '../../src/agent/host/boot-record.ts'
import { createHost, type Host } from '../../src/agent/host/host.ts'
import type { VmDefinition } from '../../src/agent/host/hypervisor.ts'
import { macAddressOf, rootVolumeName } from '../../src/agent/host/names.ts'
import { KnownVms } from '../../src/agent/inventory/known-vms.ts'
import { ledgerOf } from '../../src/agent/inventory/ledger.ts'
import { Journal } from '../../src/agent/operations/journal.ts'
import { type Clock, systemClock } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import type { DriftItem, VmRepairResult } from '../../src/protocol/drift.ts'
import type { HostCleanResult } from '../../src/protocol/orphans.ts'
import { carry, succeed } from '../agent/verbs/bench.ts'
import { definitionOf, storeBase, wait } from '../contract/hypervisor.contract.ts'
import { cannotRun, connected, type LibvirtFixture, openLibvirtFixture } from '../contract/libvirt-fixture.ts'
import { hypervisorOf, setupOf } from './provision-host.ts'

const diskLimits = { bytesPerSecondMax: 50 * 1024 ** 2 }
/** What the tests make just now counts as old. */
const later: Clock = {
  now: () => systemClock.now() + 5 * 3_600_000,
  monotonic: () => systemClock.monotonic(),
  sleep: (ms, signal) => systemClock.sleep(ms, signal),
  timer: (ms, callback) => systemClock.timer(ms, callback)
}

describe('a host on libvirt', { skip: await cannotRun(), timeout: 300_000 }, () => {
  let fixture: LibvirtFixture
  let host: Host
  let journal: Journal
  let known: KnownVms
  let definition: VmDefinition
  let name: string
  let base: string

  before(async () => {
    fixture = await openLibvirtFixture()
    const { hypervisor } = fixture
    const opened = await open('state', later)
    host = opened.host
    journal = opened.journal
    known = opened.known
    await storeBase(hypervisor)
    const made = definitionOf(fixture, 'a')
    definition = { ...made, placement: { ...made.placement, resources: { diskLimits } }, wanted: 'running' }
    name = definition.specification.name
    base = (await hypervisor.listVolumes(wait()))[0]?.name ?? ''
    await hypervisor.ensureNetwork(fixture.network, wait())
    await makeRoot(definition)
    await hypervisor.define({ ...definition, generation: 7 }, wait())
    await hypervisor.start(name, wait())
  })
  after(async () => {
    await host?.close()
    journal?.[Symbol.dispose]()
    await fixture?.dispose()
  })

  it('has no drift of a machine as the product made it, running and off', async () => {
    assert.deepEqual(await drift(), [])
    await fixture.hypervisor.cutPower(name, wait())
    await fixture.hypervisor.annotate(name, { wanted: 'stopped' }, wait())
    assert.deepEqual(await drift(), [])
    await fixture.hypervisor.start(name, wait())
    await fixture.hypervisor.annotate(name, { wanted: 'running' }, wait())
    assert.deepEqual(await drift(), [])
  })

  it('puts limits, autostart and memory right when asked, and leaves disks and cards to a person', async () => {
    const { virsh, directory, network } = fixture
    const extra = join(directory, 'extra.img')
    await writeFile(extra, Buffer.alloc(1024 ** 2))
    await virsh('attach-disk', name, extra, 'vdc', '--live')
    await virsh('blkdeviotune', name, 'vda', '--total-bytes-sec', '1048576', '--live')
    await virsh('autostart', name)
    await virsh('setmaxmem', name, '96M', '--config')
    assert.deepEqual(ids(await drift()), ['autostart', 'memory', 'disk-limits', 'disks'])
    const { repaired, remaining } = await repair({ scope: 'self' })
    assert.deepEqual(
      [ids(repaired), ids(remaining)],
      [
        ['autostart', 'disk-limits'],
        ['memory', 'disks']
      ]
    )
    assert.deepEqual(ids((await repair()).repaired), ['memory'])
    assert.match(await virsh('blkdeviotune', name, 'vda'), /total_bytes_sec *: 52428800/)
    // A guest that halts gives nothing back: its machine is switched off and on.
    await cycle()
    assert.deepEqual(await drift(), [])
    const mac = macAddressOf(randomUUID())
    await virsh(
      'attach-interface',
      name,
      'network',
      network.name,
      '--mac',
      mac,
      '--model',
      'virtio',
      '--live'
    )
    const [card] = await drift()
    assert.deepEqual([card?.id, card?.repair], ['network-card', 'operator'])
    assert.match(card?.actual ?? '', new RegExp(`${mac} on ${network.name}, not isolated`))
    await cycle()
    assert.deepEqual(await drift(), [])
  })

  it('writes a definition anew that somebody undefined under a running machine', async () => {
    await fixture.virsh('undefine', name)
    assert.deepEqual(ids(await drift()), ['definition'])
    assert.deepEqual(ids((await repair()).repaired), ['definition'])
    assert.deepEqual(await drift(), [])
    await fixture.hypervisor.cutPower(name, wait())
    const record = await fixture.hypervisor.findVm(name, wait())
    assert.deepEqual([record?.state, record?.wanted, record?.generation], ['stopped', 'running', 7])
    await fixture.hypervisor.start(name, wait())
  })

  it('removes what is provably ours, and nothing that a foreign domain stands on', async () => {
    const { hypervisor, virsh, directory, network, pool } = fixture
    const gone = { name: `${fixture.prefix}-gone`, uuid: randomUUID() }
    known.note([gone])
    const made = definitionOf(fixture, 'gone')
    const rootVolume = rootVolumeName(gone)
    await makeRoot({ ...made, placement: { ...made.placement, rootVolume } })
    const like = rootVolumeName({ name: 'like-ours', uuid: randomUUID() })
    await virsh('vol-create-as', pool.name, like, '1M', '--format', 'qcow2')
    const macAddress = macAddressOf(gone.uuid)
    const address = network.subnet.replace(/0\/24$/, '99')
    await hypervisor.addReservation(network.name, { macAddress, address, vm: 'gone' }, wait())
    const secret = randomUUID()
    await hypervisor.defineSecret({ id: secret, passphrase: 'x' }, wait())
    const files = [host.seeds.path(gone.uuid), join(directory, 'run', 'console', `${gone.uuid}.agent`)]
    for (const path of files) await writeFile(path, 'left')
    // A foreign machine, off, on a disk of its own that stands on ours: only the file says so.
    const theirs = join(directory, 'theirs.qcow2')
    const arguments_ = [
      'create',
      '-q',
      '-f',
      'qcow2',
      '-F',
      'qcow2',
      '-b',
      join(pool.path, rootVolume),
      theirs
    ]
    assert.equal(spawnSync('qemu-img', arguments_).status, 0)
    await defineForeign(theirs)
    const first = await clean()
    assert.deepEqual(first.removed.map(({ kind }) => kind).toSorted(), [
      'console',
      'reservation',
      'secret',
      'seed'
    ])
    assert.ok(existsSync(join(pool.path, rootVolume)))
    assert.ok(files.every((path) => !existsSync(path)))
    assert.deepEqual(await hypervisor.listReservations(network.name, wait()), [])
    await virsh('undefine', `${fixture.prefix}-alien`)
    const second = await clean()
    assert.deepEqual(
      second.removed.map((item) => [item.kind, item.name]),
      [['volume', rootVolume]]
    )
    assert.deepEqual(
      second.kept.map((item) => [item.kind, item.name]),
      [['volume', like]]
    )
    const left = (await hypervisor.listVolumes(wait())).map((volume) => volume.name)
    assert.deepEqual(left.toSorted(), [base, definition.placement.rootVolume, like].toSorted())
    assert.equal((await hypervisor.findVm(name, wait()))?.state, 'running')
  })

  it('knows its VMs again after the state directory is lost: generation, schedule, retention, and that they were adopted', async () => {
    const { hypervisor } = fixture
    const backupSchedule = { target: 'vault', everyMs: 3_600_000 }
    const retained = { until: later.now() + 86_400_000, since: later.now(), wanted: 'running' as const }
    const twin = definitionOf(fixture, 'kept')
    const address = fixture.network.subnet.replace(/0\/24$/, '77')
    const other = { ...twin, placement: { ...twin.placement, uid: fixture.uid + 1, address } }
    await hypervisor.annotate(name, { backupSchedule }, wait())
    await hypervisor.define({ ...other, wanted: 'stopped', retained }, wait())
    const setup = setupOf(fixture)
    const again = hypervisorOf(setup)
    const { host: anew, journal: fresh, known: books } = await open('state-2', systemClock, again)
    try {
      again.open()
      while (again.status().state !== 'connected') await systemClock.sleep(20)
      const vms = await again.listVms(wait())
      const found = vms.find(({ specification }) => specification.name === name)
      assert.deepEqual([found?.generation, found?.backupSchedule], [7, backupSchedule])
      assert.deepEqual(vms.find((vm) => vm.retained)?.retained, retained)
      const adopted = books.note(vms.map(({ specification }) => specification))
      assert.deepEqual(adopted.map((vm) => vm.name).toSorted(), [name, other.specification.name].toSorted())
      assert.deepEqual(books.note(vms.map(({ specification }) => specification)), [])
      const { uuid } = definition.specification
      const stale = await carry(anew, 'vm.stop', { vm: name }, { subject: { vm: name, uuid, generation: 7 } })
      assert.equal(stale.outcome === 'failed' && stale.error.code, 'E_STALE')
      assert.equal((await again.findVm(name, wait()))?.state, 'running')
    } finally {
      await anew.close()
      await again.close()
      fresh[Symbol.dispose]()
      await hypervisor.undefine(other.specification.name, wait())
    }
  })

  it('keeps the VM that it had before the agent was started anew, of two that claim the same', async () => {
    const { hypervisor } = fixture
    const { uid } = definitionOf(fixture, 'none').placement
    const twins = ['one', 'two'].map((suffix) => {
      const made = definitionOf(fixture, suffix)
      return { ...made, placement: { ...made.placement, uid } }
    })
    const [first, second] = twins.toSorted((a, b) => (a.specification.uuid < b.specification.uuid ? -1 : 1))
    assert.ok(first && second)
    try {
      for (const twin of twins) await hypervisor.define(twin, wait())
      const lookedAtBy = async (known: readonly string[]) => {
        await using parts = new AsyncDisposableStack()
        const again = hypervisorOf(setupOf(fixture), known)
        parts.defer(() => again.close())
        await connected(again)
        const names = new Set(twins.map(({ specification }) => specification.name))
        const ours = (await again.listVms(wait())).map(({ specification }) => specification.name)
        const foreign = (await again.listForeign(wait())).filter(({ reason }) => reason === 'duplicate')
        return [ours.filter((each) => names.has(each)), foreign.map((each) => each.name)]
      }
      const [lower, higher] = [first.specification, second.specification]
      assert.deepEqual(await lookedAtBy([]), [[lower.name], [higher.name]])
      assert.deepEqual(await lookedAtBy([higher.uuid]), [[higher.name], [lower.name]])
    } finally {
      for (const { specification } of twins) await fixture.virsh('undefine', specification.name)
    }
  })

  async function open(state: string, clock: Clock, hypervisor = fixture.hypervisor) {
    const { config } = setupOf(fixture)
    const stateDirectory = join(fixture.directory, state)
    await mkdir(stateDirectory, { mode: 0o700 })
    const books = new Journal(join(stateDirectory, 'agent.db'), { clock })
    const vms = new KnownVms({ database: books.database, clock })
    const made = createHost({
      config: { ...config, stateDirectory },
      hypervisor,
      hostId: 'host-1',
      agentVersion: '0.1.0',
      clock,
      log: silentLogger,
      bootRecord: new BootRecord({ directory: config.runtimeDirectory }),
      ledger: ledgerOf(books, vms),
      qemuLogDirectory: join(fixture.directory, 'logs')
    })
    await made.prepare()
    return { host: made, journal: books, known: vms }
  }

  async function cycle(): Promise<void> {
    await fixture.hypervisor.cutPower(name, wait())
    await fixture.hypervisor.start(name, wait())
  }

  async function makeRoot({ placement: { rootVolume } }: VmDefinition): Promise<void> {
    const capacityBytes = definition?.specification.rootDiskBytes ?? 4 * 1024 ** 2
    const image = (await fixture.hypervisor.listVolumes(wait())).find((each) => each.name.startsWith('base-'))
    const overlay = { name: rootVolume, base: image?.name ?? '', baseFormat: 'raw' as const, capacityBytes }
    await fixture.hypervisor.createOverlay(overlay, wait())
  }

  async function defineForeign(disk: string): Promise<void> {
    const path = join(fixture.directory, 'alien.xml')
    const os = "<os><type arch='x86_64' machine='q35'>hvm</type></os>"
    const source = `<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='${disk}'/><target dev='vda' bus='virtio'/></disk>`
    await writeFile(
      path,
      `<domain type='qemu'><name>${fixture.prefix}-alien</name><memory>65536</memory>${os}<devices>${source}</devices></domain>`
    )
    await fixture.virsh('define', path)
  }

  async function drift(): Promise<DriftItem[]> {
    const record = await fixture.hypervisor.findVm(name, wait())
    assert.ok(record)
    return await lookAtDrift(record, host, wait())
  }

  async function repair(args: Record<string, unknown> = {}): Promise<VmRepairResult> {
    const { uuid } = definition.specification
    const subject = { vm: name, uuid, generation: 8 }
    return (await succeed(host, 'vm.repair', { vm: name, ...args }, { subject })) as unknown as VmRepairResult
  }

  async function clean(): Promise<HostCleanResult> {
    return (await succeed(host, 'host.clean', {})) as unknown as HostCleanResult
  }

  function ids(items: readonly DriftItem[]): string[] {
    return items.map(({ id }) => id)
  }
})
