// The hypervisor port in memory: for tests of what stands on it. One contract suite holds it to what libvirt does.

import type { Buffer } from 'node:buffer'
import type { Readable } from 'node:stream'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { ForeignDomain } from '../../protocol/vm.ts'
import type { BackupJob, BackupRequest } from './backup-port.ts'
import {
  backupReason,
  type DomainCounters,
  type DomainEvent,
  type Hypervisor,
  type HypervisorFacts,
  type HypervisorStatus,
  type Lease,
  type StartGate,
  type VmChange,
  type VmDefinition,
  type VmRecord,
  type VolumeRecord,
  type Wait
} from './hypervisor.ts'
import { MemoryBackups } from './memory-backups.ts'
import { willingGuests } from './memory-guests.ts'
import { MemoryNetworks } from './memory-networks.ts'
import { countersOf, factsOf, isOff, type MemoryVm, recordOf, requireSecrets } from './memory-vm.ts'
import { MemoryVolumes } from './memory-volumes.ts'
import { changed } from './metadata.ts'
import type { StoredDisk, VolumeRange } from './sealed-port.ts'
import { StartGates } from './start-gates.ts'

export interface MemoryHypervisorOptions {
  readonly clock: Pick<Clock, 'now'>
  readonly poolBytes?: number
  readonly poolPath?: string
  readonly facts?: Partial<HypervisorFacts>
}

type Operations =
  | Exclude<keyof Hypervisor, 'open' | 'status' | 'onStatus' | 'onEvent' | 'addStartGate' | 'close'>
  | 'endBackup'

export class MemoryHypervisor implements Hypervisor {
  /** What tests may change, and look at. */
  readonly guests = willingGuests()
  readonly foreign: ForeignDomain[] = []
  /** The calls that were made, in order: `start web-1`. */
  readonly calls: string[] = []
  /** Disks and backup jobs, with what may go wrong with them. */
  readonly backups: MemoryBackups
  /** Keys of disks, by their ids: forgotten when libvirtd restarts, which a test does by clearing them. */
  readonly secrets = new Map<string, string>()
  readonly #options: MemoryHypervisorOptions
  readonly #vms = new Map<string, MemoryVm>()
  readonly #volumes: MemoryVolumes
  readonly #networks = new MemoryNetworks()
  readonly #gates = new StartGates()
  readonly #failures = new Map<Operations, unknown[]>()
  readonly #statusListeners = new Set<(status: HypervisorStatus) => void>()
  readonly #eventListeners = new Set<(event: DomainEvent) => void>()
  #status: HypervisorStatus
  #runs = 0

  constructor(options: MemoryHypervisorOptions) {
    this.#options = options
    this.#volumes = new MemoryVolumes(options)
    this.backups = new MemoryBackups({
      clock: options.clock,
      machines: {
        require: (name) => this.#require(name),
        disk: (volume) => this.#volumes.disk(volume),
        startPaused: (name) => this.#turnOn(name, 'paused'),
        resume: (name) => this.#resume(name),
        cutPower: (name) => this.#turnOff(name, this.#require(name), 'destroyed')
      }
    })
    this.#status = { state: 'away', since: options.clock.now(), reason: 'not connected yet' }
  }

  /** Has the next call of a method throw this instead. */
  failNext(method: Operations, error: unknown): void {
    this.#failures.set(method, [...(this.#failures.get(method) ?? []), error])
  }

  /** Has a volume hold other bytes, as after an upload that a crash cut short. */
  spoilVolume(name: string, content: Buffer): void {
    this.#volumes.spoil(name, content)
  }

  /** libvirt goes away, or comes back. */
  setStatus(state: 'connected' | 'away'): void {
    if (state === 'away') this.backups.loseJobs(new HostletError('E_UNAVAILABLE', 'libvirt went away'))
    this.#status =
      state === 'connected'
        ? { state }
        : { state, since: this.#options.clock.now(), reason: 'a test said so' }
    for (const listener of this.#statusListeners) listener(this.#status)
  }

  /** As when the host boots: everything is off, leases are forgotten. */
  bootHost(): void {
    for (const vm of this.#vms.values()) {
      Object.assign(vm, { state: 'stopped', reason: 'unknown', run: null })
      this.backups.stopped(vm.definition.specification.name)
    }
    this.secrets.clear()
    this.forgetLeases()
  }

  /** As when every lease has run out. */
  forgetLeases(): void {
    this.#networks.forgetLeases()
  }

  /** The guest powers itself off. */
  shutDownGuest(name: string): void {
    this.#turnOff(name, this.#require(name), 'shutdown')
  }

  open(): void {
    this.setStatus('connected')
  }

  status(): HypervisorStatus {
    return this.#status
  }

  onStatus(listener: (status: HypervisorStatus) => void): Disposable {
    this.#statusListeners.add(listener)
    return { [Symbol.dispose]: () => this.#statusListeners.delete(listener) }
  }

  onEvent(listener: (event: DomainEvent) => void): Disposable {
    this.#eventListeners.add(listener)
    return { [Symbol.dispose]: () => this.#eventListeners.delete(listener) }
  }

  addStartGate = (gate: StartGate) => this.#gates.add(gate)

  facts = (wait: Wait): Promise<HypervisorFacts> =>
    this.#run('facts', '', wait, () => ({ ...factsOf(this.#volumes), ...this.#options.facts }))

  listVms = (wait: Wait): Promise<readonly VmRecord[]> =>
    this.#run('listVms', '', wait, () => [...this.#vms.values()].map(recordOf))
  findVm = (name: string, wait: Wait) =>
    this.#run('findVm', '', wait, () => {
      const vm = this.#vms.get(name)
      return vm && recordOf(vm)
    })
  listForeign = (wait: Wait): Promise<readonly ForeignDomain[]> =>
    this.#run('listForeign', '', wait, () => [...this.foreign])

  async define(definition: VmDefinition, wait: Wait): Promise<void> {
    const { name, uuid } = definition.specification
    this.#enter('define', wait, name)
    const other = [...this.#vms.values()]
      .map(({ definition: { specification } }) => specification)
      .find((vm) => (vm.name === name) !== (vm.uuid === uuid))
    if (other || this.foreign.some((domain) => domain.name === name || domain.uuid === uuid))
      throw new HostletError('E_CONFLICT', `VM ${name} cannot be defined: its name or UUID is taken`)
    const before = this.#vms.get(name)
    this.#vms.set(name, { state: 'stopped', reason: 'unknown', run: null, ...before, definition })
    this.#emit(name, uuid, 'defined', before ? 'updated' : 'added')
  }

  async annotate(name: string, change: VmChange, wait: Wait): Promise<void> {
    this.#enter('annotate', wait, name)
    const vm = this.#require(name)
    vm.definition = changed(vm.definition, change)
  }

  async start(name: string, wait: Wait): Promise<void> {
    this.#enter('start', wait, name)
    await this.#passGates(name, wait)
    const vm = this.#require(name)
    if (isOff(vm)) this.#turnOn(name, 'running')
    else if (vm.state === 'paused' && vm.reason === backupReason) this.#resume(name)
  }

  async pressPowerButton(name: string, wait: Wait): Promise<void> {
    this.#enter('pressPowerButton', wait, name)
    const vm = this.#require(name)
    if (isOff(vm) || !this.guests.obeysPowerButton) return
    this.#turnOff(name, vm, 'shutdown')
  }

  async requestReboot(name: string, wait: Wait): Promise<void> {
    this.#enter('requestReboot', wait, name)
    const vm = this.#requireOn(name)
    // Later, as a guest would: the caller has its answer first.
    if (this.guests.obeysReboot)
      queueMicrotask(() => this.#emit(name, vm.definition.specification.uuid, 'rebooted', ''))
  }

  reset = (name: string, wait: Wait) =>
    this.#run('reset', name, wait, () =>
      this.#emit(name, this.#requireOn(name).definition.specification.uuid, 'rebooted', '')
    )

  cutPower = (name: string, wait: Wait) =>
    this.#run('cutPower', name, wait, () => {
      const vm = this.#require(name)
      if (!isOff(vm)) this.#turnOff(name, vm, 'destroyed')
    })

  ejectSeed = (name: string, wait: Wait) => this.#run('ejectSeed', name, wait, () => void this.#require(name))

  async undefine(name: string, wait: Wait): Promise<void> {
    this.#enter('undefine', wait, name)
    if (!this.#vms.has(name) && !this.foreign.some((domain) => domain.name === name)) return
    const { uuid } = this.#require(name).definition.specification
    this.#vms.delete(name)
    this.backups.forgetCheckpoints(name)
    this.#emit(name, uuid, 'undefined', 'removed')
  }

  counters = (wait: Wait): Promise<readonly DomainCounters[]> =>
    this.#run('counters', '', wait, () => [...this.#vms.values()].map(countersOf))

  listVolumes = (wait: Wait): Promise<readonly VolumeRecord[]> =>
    this.#run('listVolumes', '', wait, () => this.#volumes.list())
  findVolume = (name: string, wait: Wait) =>
    this.#run('findVolume', '', wait, () => this.#volumes.list().find((volume) => volume.name === name))

  async uploadBase(
    volume: { name: string; sizeBytes: number },
    content: Readable,
    wait: Wait
  ): Promise<void> {
    try {
      this.#enter('uploadBase', wait, volume.name)
      await this.#volumes.upload(volume, content, wait.signal)
    } finally {
      content.destroy()
    }
  }

  readVolume = (name: string, wait: Wait): Promise<Readable> =>
    this.#run('readVolume', name, wait, () => this.#volumes.read(name))
  createOverlay = (
    overlay: { name: string; base: string; baseFormat: 'qcow2' | 'raw'; capacityBytes: number },
    wait: Wait
  ) => this.#run('createOverlay', overlay.name, wait, () => this.#volumes.create(overlay))
  createVolume = (volume: { name: string; capacityBytes: number }, wait: Wait) =>
    this.#run('createVolume', volume.name, wait, () => this.#volumes.create(volume))
  removeVolume = (name: string, wait: Wait) =>
    this.#run('removeVolume', name, wait, () => this.#volumes.remove(name))

  storeDisk = (disk: StoredDisk, content: Readable, wait: Wait) =>
    this.#run('storeDisk', disk.name, wait, () => this.#volumes.storeDisk(disk, content, wait.signal))
  readRange = (name: string, range: VolumeRange, wait: Wait) =>
    this.#run('readRange', name, wait, () => this.#volumes.readRange(name, range))
  writeRange = (name: string, offsetBytes: number, bytes: Buffer, wait: Wait) =>
    this.#run('writeRange', name, wait, () => this.#volumes.writeRange(name, offsetBytes, bytes))
  defineSecret = (secret: { id: string; passphrase: string }, wait: Wait) =>
    this.#run('defineSecret', secret.id, wait, () => void this.secrets.set(secret.id, secret.passphrase))
  removeSecret = (id: string, wait: Wait) =>
    this.#run('removeSecret', id, wait, () => void this.secrets.delete(id))

  ensureNetwork = (network: { name: string; bridge: string; subnet: string }, wait: Wait) =>
    this.#run('ensureNetwork', network.name, wait, () => this.#networks.ensure(network))
  listReservations = (network: string, wait: Wait): Promise<readonly Lease[]> =>
    this.#run('listReservations', '', wait, () => [...this.#networks.require(network).reservations])
  addReservation = (network: string, reservation: Lease & { vm: string }, wait: Wait) =>
    this.#run('addReservation', reservation.vm, wait, () =>
      this.#networks.addReservation(network, reservation)
    )
  removeReservation = (network: string, macAddress: string, wait: Wait) =>
    this.#run('removeReservation', macAddress, wait, () =>
      this.#networks.removeReservation(network, macAddress)
    )
  listLeases = (network: string, wait: Wait): Promise<readonly Lease[]> =>
    this.#run('listLeases', '', wait, () => [...this.#networks.require(network).leases])

  beginBackup = (vm: string, request: BackupRequest, wait: Wait): Promise<BackupJob> =>
    this.#run('beginBackup', vm, wait, async () => {
      await this.#passGates(vm, wait)
      const job = this.backups.begin(vm, request)
      return { ...job, end: (options) => this.#run('endBackup', vm, options, () => job.end(options)) }
    })

  listCheckpoints = (vm: string, wait: Wait) =>
    this.#run('listCheckpoints', vm, wait, () => this.backups.list(vm))
  removeCheckpoint = (vm: string, name: string, wait: Wait) =>
    this.#run('removeCheckpoint', vm, wait, () => this.backups.remove(vm, name))
  redefineCheckpoint = (vm: string, checkpointXml: string, wait: Wait) =>
    this.#run('redefineCheckpoint', vm, wait, () => this.backups.redefine(vm, checkpointXml))
  clearBackup = (vm: string, keep: readonly string[], wait: Wait) =>
    this.#run('clearBackup', vm, wait, () => this.backups.clear(vm, keep))

  guestAgent = (vm: string, wait: Wait) => this.#run('guestAgent', vm, wait, () => this.guests.agent)
  startPaused = (name: string, wait: Wait) =>
    this.#run('startPaused', name, wait, async () => {
      await this.#passGates(name, wait)
      if (isOff(this.#require(name))) this.#turnOn(name, 'paused')
    })
  resume = (name: string, wait: Wait) =>
    this.#run('resume', name, wait, () => {
      if (this.#require(name).state === 'paused') this.#resume(name)
    })

  createImport = (volume: { name: string; sizeBytes: number }, wait: Wait) =>
    this.#run('createImport', volume.name, wait, () => {
      const users = [...this.#vms.values()].filter((vm) => !isOff(vm))
      if (users.some(({ definition }) => Object.values(definition.placement).includes(volume.name)))
        throw new HostletError('E_CONFLICT', `volume ${volume.name} is in use`)
      return this.#volumes.createImport(volume)
    })
  finishImport = (name: string, wait: Wait) =>
    this.#run('finishImport', name, wait, () => this.#volumes.finishImport(name))

  async close(): Promise<void> {
    this.setStatus('away')
    this.#volumes.close()
  }

  async #run<Value>(
    method: Operations,
    about: string,
    wait: Wait,
    work: () => Value | Promise<Value>
  ): Promise<Value> {
    this.#enter(method, wait, about)
    return await work()
  }

  #enter(method: Operations, { signal }: Wait, about = ''): void {
    signal.throwIfAborted()
    this.calls.push(`${method} ${about}`.trim())
    if (this.#status.state === 'away') throw new HostletError('E_UNAVAILABLE', 'libvirt is away')
    const failures = this.#failures.get(method)
    if (failures?.length) throw failures.shift()
  }

  #require(name: string): MemoryVm {
    const vm = this.#vms.get(name)
    if (vm !== undefined) return vm
    if (this.foreign.some((domain) => domain.name === name))
      throw new HostletError('E_CONFLICT', `domain ${name} is not hostlet's`)
    throw new HostletError('E_NOT_FOUND', `VM ${name} is not defined on this host`)
  }

  #requireOn(name: string): MemoryVm {
    const vm = this.#require(name)
    if (!isOff(vm)) return vm
    throw new HostletError('E_LIBVIRT', `VM ${name} is not running`)
  }

  #turnOff(name: string, vm: MemoryVm, reason: string): void {
    const { specification } = vm.definition
    Object.assign(vm, { state: 'stopped', reason, run: null })
    this.backups.stopped(name)
    this.#emit(name, specification.uuid, 'stopped', reason)
  }

  async #passGates(name: string, wait: Wait): Promise<void> {
    const vm = this.#require(name)
    if (isOff(vm)) await this.#gates.pass(vm.definition, wait)
  }

  #turnOn(name: string, state: 'running' | 'paused'): void {
    const vm = this.#require(name)
    const { placement, specification } = vm.definition
    this.#networks.require(placement.network)
    this.#volumes.requireDisks(name, placement)
    requireSecrets(vm, this.secrets)
    const reason = state === 'running' ? 'booted' : backupReason
    Object.assign(vm, { state, reason, run: ++this.#runs, wantedAtStart: vm.definition.wanted })
    this.#emit(name, specification.uuid, 'started', 'booted')
    if (state === 'running') this.#takeLease(vm)
  }

  #resume(name: string): void {
    const vm = this.#require(name)
    Object.assign(vm, { state: 'running', reason: 'unpaused' })
    this.#takeLease(vm)
    this.#emit(name, vm.definition.specification.uuid, 'resumed', 'unpaused')
  }

  #takeLease({ definition: { placement } }: MemoryVm): void {
    if (this.guests.takesLease) this.#networks.takeLease(placement.network, placement)
  }

  #emit(name: string, uuid: string, kind: DomainEvent['kind'], detail: string): void {
    const run = this.#vms.get(name)?.run ?? null
    const event = { name, uuid, kind, detail, run, at: this.#options.clock.now() }
    for (const listener of this.#eventListeners) listener(event)
  }
}
