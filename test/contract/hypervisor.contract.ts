// What every hypervisor port must do, whichever carries it: the suite that keeps the one in memory honest.

import assert from 'node:assert/strict'
import { createHash, randomUUID } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { after, before, describe, it } from 'node:test'
import { expectedDevices } from '../../src/agent/audit/machine-items.ts'
import type { DomainEvent, Hypervisor, VmDefinition } from '../../src/agent/host/hypervisor.ts'
import { baseVolumeName, dataVolumeName, macAddressOf, rootVolumeName } from '../../src/agent/host/names.ts'
import type { NetworkDefinition } from '../../src/agent/host/network-xml.ts'
import { type ErrorCode, HostletError } from '../../src/errors.ts'

export interface HypervisorSubject {
  readonly hypervisor: Hypervisor
  /** Start of every name, so that runs beside each other do not meet. */
  readonly prefix: string
  /** A network that does not exist yet, with room in 10.x.y.0/24. */
  readonly network: NetworkDefinition
  /** First user of a range that is free. */
  readonly uid: number
  /** An empty file that a machine may have as its seed. */
  seedFile(uuid: string): Promise<string>
  /** Defines a domain that is not hostlet's. */
  addForeign(name: string): Promise<void>
  removeForeign(name: string): Promise<void>
  dispose(): Promise<void>
}

/** A boot sector that halts: a machine that runs, costs nothing and listens to nobody. */
export function haltingDisk(): Buffer {
  const disk = Buffer.alloc(1024 * 1024)
  disk.write('faf4ebfd', 'hex')
  disk.writeUInt16LE(0xaa55, 510)
  return disk
}

const content = haltingDisk()
const image = {
  url: 'https://images.test/halting.img',
  sha256: createHash('sha256').update(content).digest('hex'),
  format: 'raw'
} as const
const base = baseVolumeName(image)
const waitMs = 120_000

export function describeHypervisor(
  title: string,
  options: { skip?: string | false; open: () => Promise<HypervisorSubject> }
): void {
  describe(`contract of the hypervisor: ${title}`, { skip: options.skip }, () => {
    let subject: HypervisorSubject
    before(async () => {
      subject = await options.open()
    })
    after(() => subject?.dispose())
    networkTests(() => subject)
    volumeTests(() => subject)
    definitionTests(() => subject)
    runningTests(() => subject)
  })
}

type Ask = () => HypervisorSubject

function networkTests(ask: Ask): void {
  it('makes a network once, and knows it again', async () => {
    const { hypervisor, network } = ask()
    await hypervisor.ensureNetwork(network, wait())
    await hypervisor.ensureNetwork(network, wait())
    assert.deepEqual(await hypervisor.listReservations(network.name, wait()), [])
    assert.deepEqual(await hypervisor.listLeases(network.name, wait()), [])
  })

  it('refuses a network of the same name that is another', async () => {
    const { hypervisor, network } = ask()
    const other = { ...network, subnet: '10.253.252.0/24' }
    await rejectsWith('E_CONFLICT', hypervisor.ensureNetwork(other, wait()))
  })

  it('lists a network with its bridge and subnet, and removes it with its reservations', async () => {
    const { hypervisor, network } = ask()
    const own = { name: `${network.name}-own`, bridge: `${network.bridge}o`, subnet: '10.254.79.8/29' }
    const lease = { macAddress: '52:00:00:00:00:0a', address: '10.254.79.10', vm: 'own' }
    const listed = async () => (await hypervisor.listNetworks(wait())).find(({ name }) => name === own.name)
    await hypervisor.ensureNetwork(own, wait())
    await hypervisor.addReservation(own.name, lease, wait())
    assert.deepEqual(await listed(), own)
    await hypervisor.removeNetwork(own.name, wait())
    await hypervisor.removeNetwork(own.name, wait())
    assert.equal(await listed(), undefined)
    await rejectsWith('E_NOT_FOUND', hypervisor.listReservations(own.name, wait()))
  })

  it('keeps reservations apart by MAC and by address', async () => {
    const { hypervisor, network } = ask()
    const first = { macAddress: '52:00:00:00:00:01', address: addressIn(network, 11), vm: 'first' }
    await hypervisor.addReservation(network.name, first, wait())
    await hypervisor.addReservation(network.name, first, wait())
    const sameMac = { ...first, address: addressIn(network, 12), vm: 'second' }
    await rejectsWith('E_CONFLICT', hypervisor.addReservation(network.name, sameMac, wait()))
    const sameAddress = { ...first, macAddress: '52:00:00:00:00:02', vm: 'third' }
    await rejectsWith('E_CONFLICT', hypervisor.addReservation(network.name, sameAddress, wait()))
    const { macAddress, address } = first
    assert.deepEqual(await hypervisor.listReservations(network.name, wait()), [{ macAddress, address }])
    await hypervisor.removeReservation(network.name, macAddress, wait())
    await hypervisor.removeReservation(network.name, macAddress, wait())
    assert.deepEqual(await hypervisor.listReservations(network.name, wait()), [])
  })

  it('adds reservations that are asked for at the same time', async () => {
    const { hypervisor, network } = ask()
    const wanted = [21, 22, 23, 24].map((host) => ({
      macAddress: `52:00:00:00:00:${host}`,
      address: addressIn(network, host),
      vm: `vm-${host}`
    }))
    await Promise.all(wanted.map((each) => hypervisor.addReservation(network.name, each, wait())))
    assert.equal((await hypervisor.listReservations(network.name, wait())).length, wanted.length)
    for (const { macAddress } of wanted) await hypervisor.removeReservation(network.name, macAddress, wait())
  })

  it('says of an unknown network that it is not found, and has nothing to remove from it', async () => {
    const { hypervisor, prefix } = ask()
    const unknown = `${prefix}-none`
    await rejectsWith('E_NOT_FOUND', hypervisor.listReservations(unknown, wait()))
    await rejectsWith('E_NOT_FOUND', hypervisor.listLeases(unknown, wait()))
    await hypervisor.removeReservation(unknown, '52:00:00:00:00:01', wait())
  })
}

function volumeTests(ask: Ask): void {
  it('leaves nothing of an upload whose content ends in an error', async () => {
    const { hypervisor } = ask()
    const name = baseVolumeName({ sha256: 'f'.repeat(64), format: 'raw' })
    const failing = Readable.from(
      (async function* () {
        yield content.subarray(0, 1024)
        throw new Error('the source broke')
      })()
    )
    const volume = { name, format: 'raw', sizeBytes: content.length } as const
    await assert.rejects(hypervisor.uploadBase(volume, failing, wait()))
    assert.equal(await hypervisor.findVolume(name, wait()), undefined)
  })

  it('stores a base image byte for byte, once', async () => {
    const { hypervisor } = ask()
    const volume = { name: base, format: 'raw', sizeBytes: content.length } as const
    await hypervisor.uploadBase(volume, Readable.from([content]), wait())
    const stored = await buffer(await hypervisor.readVolume(base, wait()))
    assert.ok(stored.equals(content))
    await rejectsWith('E_CONFLICT', hypervisor.uploadBase(volume, Readable.from([content]), wait()))
    assert.ok((await hypervisor.listVolumes(wait())).some(({ name }) => name === base))
  })

  it('makes overlays and empty disks, and again without effect', async () => {
    const { hypervisor, prefix } = ask()
    const capacityBytes = 8 * 1024 * 1024
    const overlay = { name: `${prefix}-o.root.qcow2`, base, baseFormat: 'raw', capacityBytes } as const
    const disk = { name: `${prefix}-o.data.qcow2`, capacityBytes }
    for (const _time of [1, 2]) {
      await hypervisor.createOverlay(overlay, wait())
      await hypervisor.createVolume(disk, wait())
    }
    for (const { name } of [overlay, disk]) {
      assert.equal((await hypervisor.findVolume(name, wait()))?.capacityBytes, capacityBytes)
      await hypervisor.removeVolume(name, wait())
      await hypervisor.removeVolume(name, wait())
      assert.equal(await hypervisor.findVolume(name, wait()), undefined)
    }
  })

  it('says what is missing: a base, a volume', async () => {
    const { hypervisor, prefix } = ask()
    const overlay = {
      name: `${prefix}-x.root.qcow2`,
      base: 'base-none.img',
      baseFormat: 'raw',
      capacityBytes: 1024 ** 2
    } as const
    await rejectsWith('E_NOT_FOUND', hypervisor.createOverlay(overlay, wait()))
    assert.equal(await hypervisor.findVolume(overlay.name, wait()), undefined)
    await rejectsWith('E_NOT_FOUND', hypervisor.readVolume('base-none.img', wait()))
  })
}

function definitionTests(ask: Ask): void {
  it('keeps all that a definition says, also what XML would misread', async () => {
    const { hypervisor } = ask()
    const plain = definitionOf(ask(), 'def')
    const specification = {
      ...plain.specification,
      seed: { sshAuthorizedKeys: ['ssh-ed25519 AAAA <!-- &amp; ]]> "\' ]]>'] },
      consoleLog: true
    }
    const definition = { ...plain, specification, generation: 7 }
    await hypervisor.define(definition, wait())
    const record = await hypervisor.findVm(plain.specification.name, wait())
    assert.deepEqual(record?.specification, specification)
    assert.deepEqual(record?.placement, plain.placement)
    assert.equal(record?.generation, 7)
    assert.equal(record?.wanted, 'stopped')
    assert.equal(record?.state, 'stopped')
    assert.ok((await hypervisor.listVms(wait())).some((vm) => vm.specification.uuid === specification.uuid))
    await hypervisor.undefine(specification.name, wait())
    await hypervisor.undefine(specification.name, wait())
    assert.equal(await hypervisor.findVm(specification.name, wait()), undefined)
  })

  it('tells what a machine would be like: no way in but what was defined', async () => {
    const subject = ask()
    const { hypervisor, prefix } = subject
    const definition = { ...definitionOf(subject, 'look', { data: true }), seedPath: '/seeds/a.iso' }
    const { specification, placement } = definition
    await hypervisor.define(definition, wait())
    const seen = await hypervisor.inspect(specification.name, wait())
    assert.deepEqual([seen.running, seen.autostart, seen.passesArguments], [false, false, false])
    const disks = seen.disks.map(({ target, path, isCd, keyId }) => [
      target,
      path?.split('/').at(-1),
      isCd,
      keyId
    ])
    assert.deepEqual(disks, [
      ['vda', placement.rootVolume, false, null],
      ['vdb', placement.dataVolume, false, null],
      ['sda', 'a.iso', true, null]
    ])
    const [port] = seen.ports
    assert.deepEqual(
      [port?.macAddress, port?.network, port?.isolated],
      [placement.macAddress, placement.network, true]
    )
    assert.deepEqual([seen.memoryBytes, seen.vcpus], [specification.memoryBytes, specification.cpus])
    assert.deepEqual([seen.inCoreDumps, seen.sharesPages, seen.serialLog], [false, false, null])
    for (const { kind, model } of seen.devices) assert.match(model, expectedDevices[kind] ?? /^$/, kind)
    await hypervisor.undefine(specification.name, wait())
    await rejectsWith('E_NOT_FOUND', hypervisor.inspect(specification.name, wait()))
    await subject.addForeign(`${prefix}-other`)
    await rejectsWith('E_CONFLICT', hypervisor.inspect(`${prefix}-other`, wait()))
    await subject.removeForeign(`${prefix}-other`)
  })

  it('refuses a second VM of the same name, or of the same UUID', async () => {
    const { hypervisor } = ask()
    const first = definitionOf(ask(), 'first')
    const other = definitionOf(ask(), 'other')
    await hypervisor.define(first, wait())
    await hypervisor.define(first, wait())
    const { name, uuid } = first.specification
    const sameName = { ...other, specification: { ...other.specification, name } }
    await rejectsWith('E_CONFLICT', hypervisor.define(sameName, wait()))
    const sameUuid = { ...other, specification: { ...other.specification, uuid } }
    await rejectsWith('E_CONFLICT', hypervisor.define(sameUuid, wait()))
    assert.deepEqual((await hypervisor.findVm(name, wait()))?.placement, first.placement)
    await hypervisor.undefine(name, wait())
  })

  it('writes generation and wanted state without touching the rest', async () => {
    const { hypervisor } = ask()
    const definition = definitionOf(ask(), 'annotated')
    const { name } = definition.specification
    await hypervisor.define(definition, wait())
    await hypervisor.annotate(name, { wanted: 'running' }, wait())
    await hypervisor.annotate(name, { generation: 9 }, wait())
    const record = await hypervisor.findVm(name, wait())
    assert.equal(record?.wanted, 'running')
    assert.equal(record?.generation, 9)
    assert.deepEqual(record?.specification, definition.specification)
    await hypervisor.undefine(name, wait())
  })

  it('keeps the backup schedule of a VM until it is taken away or replaced', async () => {
    const { hypervisor } = ask()
    const definition = definitionOf(ask(), 'scheduled')
    const { name } = definition.specification
    const daily = { target: 'vault', cron: '15 3 * * *', timeZone: 'Europe/Berlin', keep: { daily: 7 } }
    const hourly = { target: 'vault', everyMs: 3_600_000 }
    const found = async () => (await hypervisor.findVm(name, wait()))?.backupSchedule
    await hypervisor.define(definition, wait())
    assert.equal(await found(), undefined)
    await hypervisor.annotate(name, { backupSchedule: daily }, wait())
    await hypervisor.annotate(name, { wanted: 'running', generation: 3 }, wait())
    assert.deepEqual(await found(), daily)
    await hypervisor.annotate(name, { backupSchedule: hourly }, wait())
    assert.deepEqual(await found(), hourly)
    await hypervisor.define({ ...definition, backupSchedule: daily }, wait())
    assert.deepEqual(await found(), daily)
    await hypervisor.annotate(name, { backupSchedule: null }, wait())
    assert.equal(await found(), undefined)
    await hypervisor.undefine(name, wait())
  })

  it('lists the domains of others, and touches none', async () => {
    const subject = ask()
    const { hypervisor, prefix } = subject
    const name = `${prefix}-foreign`
    await subject.addForeign(name)
    try {
      assert.ok((await hypervisor.listForeign(wait())).some((domain) => domain.name === name))
      assert.equal(await hypervisor.findVm(name, wait()), undefined)
      assert.ok(!(await hypervisor.listVms(wait())).some((vm) => vm.specification.name === name))
      const mine = definitionOf(subject, 'mine')
      const sameName = { ...mine, specification: { ...mine.specification, name } }
      await rejectsWith('E_CONFLICT', hypervisor.define(sameName, wait()))
      await rejectsWith('E_CONFLICT', hypervisor.start(name, wait()))
      await rejectsWith('E_CONFLICT', hypervisor.cutPower(name, wait()))
      await rejectsWith('E_CONFLICT', hypervisor.annotate(name, { generation: 2 }, wait()))
      await rejectsWith('E_CONFLICT', hypervisor.undefine(name, wait()))
      assert.ok((await hypervisor.listForeign(wait())).some((domain) => domain.name === name))
    } finally {
      await subject.removeForeign(name)
    }
  })

  it('says of an unknown VM that it is not found', async () => {
    const { hypervisor, prefix } = ask()
    const name = `${prefix}-unknown`
    const methods = ['start', 'cutPower', 'pressPowerButton', 'requestReboot', 'reset', 'ejectSeed'] as const
    for (const method of methods) await rejectsWith('E_NOT_FOUND', hypervisor[method](name, wait()))
    await rejectsWith('E_NOT_FOUND', hypervisor.annotate(name, { generation: 1 }, wait()))
  })

  it('does nothing for a caller who has given up', async () => {
    const { hypervisor } = ask()
    const definition = definitionOf(ask(), 'aborted')
    const reason = new HostletError('E_CANCELLED', 'given up')
    const aborted = { signal: AbortSignal.abort(reason) }
    await rejectsWith('E_CANCELLED', hypervisor.define(definition, aborted))
    assert.equal(await hypervisor.findVm(definition.specification.name, wait()), undefined)
  })
}

function runningTests(ask: Ask): void {
  it('asks its gates before a machine starts, paused or not, and leaves it off where one refuses', async () => {
    const subject = ask()
    const { hypervisor, network } = subject
    await hypervisor.ensureNetwork(network, wait())
    const definition = definitionOf(subject, 'gate')
    const { name, uuid } = definition.specification
    await makeDisks(hypervisor, definition)
    await hypervisor.define(definition, wait())
    const asked: string[] = []
    let refuses = true
    using _open = hypervisor.addStartGate(async (vm) => void asked.push(`first ${vm.specification.uuid}`))
    using _second = hypervisor.addStartGate(async (vm) => {
      asked.push(`second ${vm.placement.rootVolume}`)
      if (refuses) throw new HostletError('E_UNAVAILABLE', 'not yet')
    })
    const once = [`first ${uuid}`, `second ${definition.placement.rootVolume}`]
    try {
      await rejectsWith('E_UNAVAILABLE', hypervisor.start(name, wait()))
      await rejectsWith('E_UNAVAILABLE', hypervisor.startPaused(name, wait()))
      assert.equal((await hypervisor.findVm(name, wait()))?.state, 'stopped')
      refuses = false
      await hypervisor.start(name, wait())
      assert.equal((await hypervisor.findVm(name, wait()))?.state, 'running')
      assert.deepEqual(asked, [...once, ...once, ...once])
      await hypervisor.start(name, wait())
      assert.equal(asked.length, 6, 'a machine that runs has passed its gates')
    } finally {
      await removeVm(hypervisor, definition)
    }
  })

  it('starts a machine whose seed went with the memory of the host', async () => {
    const subject = ask()
    const { hypervisor, network } = subject
    await hypervisor.ensureNetwork(network, wait())
    const seedPath = await subject.seedFile(randomUUID())
    const definition = definitionOf(subject, 'booted', { seedPath })
    const { name } = definition.specification
    await makeDisks(hypervisor, definition)
    await hypervisor.define(definition, wait())
    try {
      await rm(seedPath, { force: true })
      await hypervisor.start(name, wait())
      assert.equal((await hypervisor.findVm(name, wait()))?.state, 'running')
      await hypervisor.cutPower(name, wait())
      await hypervisor.start(name, wait())
      await hypervisor.ejectSeed(name, wait())
      assert.equal((await hypervisor.findVm(name, wait()))?.state, 'running')
    } finally {
      await removeVm(hypervisor, definition)
    }
  })

  it('runs a machine and switches it off, each once however often it is asked', async () => {
    const subject = ask()
    const { hypervisor, network } = subject
    await hypervisor.ensureNetwork(network, wait())
    const definition = definitionOf(subject, 'run', {
      data: true,
      seedPath: await subject.seedFile(randomUUID())
    })
    const { name, uuid } = definition.specification
    const events = new EventLog(hypervisor, uuid)
    await makeDisks(hypervisor, definition)
    await hypervisor.define(definition, wait())
    try {
      await hypervisor.start(name, wait())
      await hypervisor.start(name, wait())
      assert.equal((await hypervisor.findVm(name, wait()))?.state, 'running')
      const counters = (await hypervisor.counters(wait())).find((domain) => domain.uuid === uuid)
      assert.equal(counters?.state, 'running')
      assert.equal(counters?.memoryMaximumBytes, definition.specification.memoryBytes)
      await hypervisor.ejectSeed(name, wait())
      await hypervisor.ejectSeed(name, wait())
      await hypervisor.annotate(name, { wanted: 'running' }, wait())
      await hypervisor.define({ ...definition, wanted: 'running', seedPath: null }, wait())
      assert.equal((await hypervisor.findVm(name, wait()))?.state, 'running')
      await hypervisor.reset(name, wait())
      await hypervisor.cutPower(name, wait())
      await hypervisor.cutPower(name, wait())
      const off = await hypervisor.findVm(name, wait())
      assert.equal(off?.state, 'stopped')
      assert.equal(off?.wanted, 'running')
      await hypervisor.pressPowerButton(name, wait())
      await hypervisor.undefine(name, wait())
      await events.until('undefined')
      const kinds = events.kinds.filter((kind) => ['started', 'stopped', 'undefined'].includes(kind))
      assert.deepEqual(kinds, ['started', 'stopped', 'undefined'])
    } finally {
      await removeVm(hypervisor, definition)
    }
  })

  it('numbers the runs of a machine: another at each start, none while it is off', async () => {
    const subject = ask()
    const { hypervisor } = subject
    await hypervisor.ensureNetwork(subject.network, wait())
    const definition = definitionOf(subject, 'runs')
    const { name, uuid } = definition.specification
    const run = async () => (await hypervisor.findVm(name, wait()))?.run
    const events = new EventLog(hypervisor, uuid)
    await makeDisks(hypervisor, definition)
    await hypervisor.define(definition, wait())
    try {
      assert.equal(await run(), null)
      await hypervisor.start(name, wait())
      const first = await run()
      assert.equal(typeof first, 'number')
      await hypervisor.reset(name, wait())
      assert.equal(await run(), first)
      await hypervisor.cutPower(name, wait())
      assert.equal(await run(), null)
      await hypervisor.start(name, wait())
      const second = await run()
      assert.notEqual(second, first)
      await hypervisor.cutPower(name, wait())
      await events.until('stopped', 2)
      assert.deepEqual(events.runsOf('started'), [first, second])
    } finally {
      await removeVm(hypervisor, definition)
    }
  })

  it('does not start a machine whose disk is missing', async () => {
    const { hypervisor } = ask()
    const definition = definitionOf(ask(), 'diskless')
    const { name } = definition.specification
    await hypervisor.define(definition, wait())
    try {
      await rejectsWith('E_LIBVIRT', hypervisor.start(name, wait()))
      assert.equal((await hypervisor.findVm(name, wait()))?.state, 'stopped')
    } finally {
      await removeVm(hypervisor, definition)
    }
  })

  it('tells what it is', async () => {
    const facts = await ask().hypervisor.facts(wait())
    assert.match(facts.libvirtVersion, /^[0-9]+\.[0-9]+\.[0-9]+$/)
    assert.ok(['kvm', 'tcg'].includes(facts.accelerator))
    assert.ok(facts.poolCapacityBytes >= facts.poolAvailableBytes)
  })
}

/** Events of one VM, and a wait for one of them. */
class EventLog {
  readonly #events: DomainEvent[] = []
  readonly #waiters: (() => void)[] = []

  constructor(hypervisor: Hypervisor, uuid: string) {
    hypervisor.onEvent((event: DomainEvent) => {
      if (event.uuid !== uuid) return
      this.#events.push(event)
      for (const wake of this.#waiters.splice(0)) wake()
    })
  }

  get kinds(): DomainEvent['kind'][] {
    return this.#events.map(({ kind }) => kind)
  }

  runsOf(kind: DomainEvent['kind']): (number | null)[] {
    return this.#events.filter((event) => event.kind === kind).map(({ run }) => run)
  }

  async until(kind: DomainEvent['kind'], times = 1): Promise<void> {
    while (this.kinds.filter((each) => each === kind).length < times)
      await new Promise<void>((resolve) => this.#waiters.push(resolve))
  }
}

/** Of the tests of one process; a host has as many users for VMs. */
const usersMax = 48
let definitions = 0

/** With a user and an address of its own: of two VMs with the same the host takes one for a copy. */
export function definitionOf(
  { prefix, network, uid: first }: Pick<HypervisorSubject, 'prefix' | 'network' | 'uid'>,
  suffix: string,
  {
    data = false,
    seedPath = null,
    dataDiskBytes = 4 * 1024 ** 2
  }: { data?: boolean; seedPath?: string | null; dataDiskBytes?: number } = {}
): VmDefinition {
  const vm = { name: `${prefix}-${suffix}`, uuid: randomUUID() }
  const uid = first + (definitions++ % usersMax)
  return {
    specification: {
      ...vm,
      profile: 'starter',
      image,
      cpus: 1,
      cpuLimitPercent: 50,
      memoryBytes: 64 * 1024 ** 2,
      rootDiskBytes: 8 * 1024 ** 2,
      ...(data && { dataDiskBytes })
    },
    placement: {
      uid,
      macAddress: macAddressOf(vm.uuid),
      address: addressIn(network, 2 + (uid % 250)),
      network: network.name,
      rootVolume: rootVolumeName(vm),
      dataVolume: data ? dataVolumeName(vm) : null
    },
    generation: 1,
    wanted: 'stopped',
    seedPath
  }
}

/** The base of every root disk here. */
export async function storeBase(hypervisor: Hypervisor): Promise<void> {
  const volume = { name: base, format: 'raw', sizeBytes: content.length } as const
  await hypervisor.uploadBase(volume, Readable.from([content]), wait())
}

export async function makeDisks(
  hypervisor: Hypervisor,
  { specification, placement }: VmDefinition
): Promise<void> {
  const { rootDiskBytes: capacityBytes, dataDiskBytes } = specification
  await hypervisor.createOverlay(
    { name: placement.rootVolume, base, baseFormat: 'raw', capacityBytes },
    wait()
  )
  if (placement.dataVolume === null || dataDiskBytes === undefined) return
  await hypervisor.createVolume({ name: placement.dataVolume, capacityBytes: dataDiskBytes }, wait())
}

export async function removeVm(
  hypervisor: Hypervisor,
  { specification, placement }: VmDefinition
): Promise<void> {
  const { name } = specification
  if (await hypervisor.findVm(name, wait())) await hypervisor.cutPower(name, wait())
  await hypervisor.undefine(name, wait())
  for (const volume of [placement.rootVolume, placement.dataVolume]) {
    if (volume !== null) await hypervisor.removeVolume(volume, wait())
  }
}

function addressIn({ subnet }: NetworkDefinition, host: number): string {
  return subnet.replace(/0\/24$/, String(host))
}

export async function rejectsWith(code: ErrorCode, promise: Promise<unknown>): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof HostletError, String(error))
    assert.equal(error.code, code, error.message)
    return true
  })
}

export function wait() {
  return { signal: AbortSignal.timeout(waitMs) }
}
