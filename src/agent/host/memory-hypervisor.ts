// The hypervisor port in memory: for tests of what stands on it. One contract suite holds it to what libvirt does.

import type { Buffer } from 'node:buffer'
import type { Readable } from 'node:stream'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { DiskRole } from '../../protocol/backup.ts'
import type { ForeignDomain } from '../../protocol/vm.ts'
import type { BackupJob, BackupRequest } from './backup-port.ts'
import {
  backupReason,
  type DomainCounters,
  type DomainEvent,
  type GrantedLease,
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
import type { VolumeSurvey } from './inventory-port.ts'
import { isOff } from './making.ts'
import { MemoryBackups } from './memory-backups.ts'
import { MemoryCalls, type Operations } from './memory-calls.ts'
import { MemoryConsoles } from './memory-console.ts'
import { willingGuests } from './memory-guests.ts'
import { inspectionOf } from './memory-inspection.ts'
import { MemoryInventory, type Tampering } from './memory-inventory.ts'
import { MemoryNetworks } from './memory-networks.ts'
import {
  countersOf,
  factsOf,
  type MemoryVm,
  recordOf,
  requireOn,
  requireSecrets,
  requireUnused,
  volumeOf
} from './memory-vm.ts'
import { MemoryVolumes } from './memory-volumes.ts'
import { MemoryWatchers } from './memory-watchers.ts'
import { changed } from './metadata.ts'
import { diskSecretUsage } from './names.ts'
import type { NetworkDefinition } from './network-xml.ts'
import type { DraftChange } from './plan-port.ts'
import type { StoredDisk, VolumeRange } from './sealed-port.ts'
import { reshaped } from './shape.ts'
import type { VmShape } from './shape-port.ts'
import { StartGates } from './start-gates.ts'

export interface MemoryHypervisorOptions {
  readonly clock: Pick<Clock, 'now'>
  readonly poolBytes?: number
  readonly poolPath?: string
  readonly facts?: Partial<HypervisorFacts>
}

export class MemoryHypervisor implements Hypervisor {
  /** What tests may change, and look at. */
  readonly guests = willingGuests()
  readonly consoles: MemoryConsoles
  /** Disks and backup jobs, with what may go wrong with them. */
  readonly backups: MemoryBackups
  /** Keys of disks, by their ids: forgotten when libvirtd restarts, which a test does by clearing them. */
  readonly secrets = new Map<string, string>()
  readonly #options: MemoryHypervisorOptions
  readonly #vms = new Map<string, MemoryVm>()
  readonly inventory: MemoryInventory
  readonly foreign: ForeignDomain[]
  readonly #volumes: MemoryVolumes
  readonly #networks = new MemoryNetworks()
  readonly gates = new StartGates()
  readonly #asked = new MemoryCalls(() => this.#watchers.status.state === 'away')
  readonly #watchers: MemoryWatchers
  #runs = 0

  constructor(options: MemoryHypervisorOptions) {
    this.#options = options
    this.#watchers = new MemoryWatchers(options.clock.now())
    this.#volumes = new MemoryVolumes(options)
    this.inventory = new MemoryInventory(this.#vms, options.poolPath)
    this.foreign = this.inventory.foreign
    this.consoles = new MemoryConsoles(this.#watchers)
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
  }

  /** Has the next call of a method throw this instead. */
  failNext(method: Operations, error: unknown): void {
    this.#asked.failNext(method, error)
  }

  /** The calls that were made, in order: `start web-1`. */
  get calls(): string[] {
    return this.#asked.made
  }

  /** Has a volume hold other bytes, as after an upload that a crash cut short; has one look otherwise than it was made. */
  spoilVolume = (name: string, content: Buffer): void => this.#volumes.spoil(name, content)
  describeVolume = (name: string, survey: Partial<VolumeSurvey>): void => this.#volumes.describe(name, survey)

  /** Somebody changes a machine behind the agent's back. */
  tamper(name: string, tampering: Tampering): void {
    const vm = this.#require(name)
    vm.tampering = { ...vm.tampering, ...tampering }
    this.#emit(name, vm.definition.specification.uuid, 'defined', 'updated')
  }

  /** libvirt goes away, or comes back. */
  setStatus(state: 'connected' | 'away'): void {
    if (state === 'away') this.backups.loseJobs(new HostletError('E_UNAVAILABLE', 'libvirt went away'))
    const away = { state: 'away', since: this.#options.clock.now(), reason: 'a test said so' } as const
    this.#watchers.tell(state === 'connected' ? { state } : away)
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
  forgetLeases = (): void => this.#networks.forgetLeases()

  /** The guest powers itself off. */
  shutDownGuest = (name: string): void => this.#turnOff(name, this.#require(name), 'shutdown')

  open(): void {
    this.setStatus('connected')
  }

  status = (): HypervisorStatus => this.#watchers.status
  onStatus = (listener: (status: HypervisorStatus) => void) => this.#watchers.onStatus(listener)
  onEvent = (listener: (event: DomainEvent) => void) => this.#watchers.onEvent(listener)
  addStartGate = (gate: StartGate) => this.gates.add(gate)

  facts = (wait: Wait): Promise<HypervisorFacts> =>
    this.#asked.run('facts', '', wait, () => ({ ...factsOf(this.#volumes), ...this.#options.facts }))

  listVms = (wait: Wait): Promise<readonly VmRecord[]> =>
    this.#asked.run('listVms', '', wait, () => [...this.#vms.values()].map(recordOf))
  findVm = (name: string, wait: Wait) =>
    this.#asked.run('findVm', '', wait, () => {
      const vm = this.#vms.get(name)
      return vm && recordOf(vm)
    })
  inspect = (name: string, wait: Wait) =>
    this.#asked.run('inspect', '', wait, () => inspectionOf(this.#require(name)))
  listForeign = (wait: Wait): Promise<readonly ForeignDomain[]> =>
    this.#asked.run('listForeign', '', wait, () => this.inventory.listForeign())
  domainUses = (wait: Wait, only?: 'foreign') =>
    this.#asked.run('domainUses', '', wait, () => this.inventory.uses(only))
  examine = (name: string, wait: Wait) =>
    this.#asked.run('examine', name, wait, () => this.inventory.examine(this.#require(name)))
  draft = (change: DraftChange, wait: Wait) =>
    this.#asked.run('draft', '', wait, () => this.inventory.draft(change))
  surveyVolumes = (wait: Wait) => this.#asked.run('surveyVolumes', '', wait, () => this.#volumes.survey())
  listSecrets = (wait: Wait) =>
    this.#asked.run('listSecrets', '', wait, () =>
      [...this.secrets.keys()].map((id) => ({ id, usage: diskSecretUsage(id) }))
    )
  clearAutostart = (name: string, wait: Wait) =>
    this.#asked.run('clearAutostart', name, wait, () => this.inventory.mend(this.#require(name), 'autostart'))
  ensurePool = (wait: Wait) => this.#asked.run('ensurePool', '', wait, () => this.inventory.ensurePool())

  async define(definition: VmDefinition, wait: Wait): Promise<void> {
    const { name, uuid } = definition.specification
    this.#asked.enter('define', wait, name)
    if (this.inventory.isTaken(name, uuid))
      throw new HostletError('E_CONFLICT', `VM ${name} cannot be defined: its name or UUID is taken`)
    const before = this.#vms.get(name)
    this.#vms.set(name, { state: 'stopped', reason: 'unknown', run: null, ...before, definition })
    this.inventory.mend(this.#require(name), 'definition', 'transient')
    this.#emit(name, uuid, 'defined', before ? 'updated' : 'added')
  }

  annotate = (name: string, change: VmChange, wait: Wait) =>
    this.#asked.run('annotate', name, wait, () => {
      const vm = this.#require(name)
      vm.definition = changed(vm.definition, change)
    })

  async start(name: string, wait: Wait): Promise<void> {
    this.#asked.enter('start', wait, name)
    await this.#passGates(name, wait)
    const vm = this.#require(name)
    if (isOff(vm)) this.#turnOn(name, 'running')
    else if (vm.state === 'paused' && vm.reason === backupReason) this.#resume(name)
  }

  pressPowerButton = (name: string, wait: Wait) =>
    this.#asked.run('pressPowerButton', name, wait, () => {
      const vm = this.#require(name)
      if (!isOff(vm) && this.guests.obeysPowerButton) this.#turnOff(name, vm, 'shutdown')
    })

  async requestReboot(name: string, wait: Wait): Promise<void> {
    this.#asked.enter('requestReboot', wait, name)
    const { specification } = requireOn(this.#require(name)).definition
    // Later, as a guest would: the caller has its answer first.
    if (this.guests.obeysReboot) queueMicrotask(() => this.#emit(name, specification.uuid, 'rebooted', ''))
  }

  reset = (name: string, wait: Wait) =>
    this.#asked.run('reset', name, wait, () =>
      this.#emit(name, requireOn(this.#require(name)).definition.specification.uuid, 'rebooted', '')
    )

  cutPower = (name: string, wait: Wait) =>
    this.#asked.run('cutPower', name, wait, () => {
      const vm = this.#require(name)
      if (!isOff(vm)) this.#turnOff(name, vm, 'destroyed')
    })

  reshape = (name: string, shape: VmShape, wait: Wait) =>
    this.#asked.run('reshape', name, wait, () => {
      const vm = this.#require(name)
      vm.definition = reshaped(vm.definition, shape)
      this.inventory.mend(vm, 'live', ...(shape.sizes || shape.resources ? (['definition'] as const) : []))
    })
  growDisk = (name: string, role: DiskRole, capacityBytes: number, wait: Wait) =>
    this.#asked.run('growDisk', `${name} ${role}`, wait, () =>
      this.#volumes.grow(volumeOf(this.#require(name), role), capacityBytes)
    )

  ejectSeed = (name: string, wait: Wait) =>
    this.#asked.run('ejectSeed', name, wait, () => void this.#require(name))

  async undefine(name: string, wait: Wait): Promise<void> {
    this.#asked.enter('undefine', wait, name)
    if (!this.#vms.has(name) && !this.inventory.isForeign(name)) return
    const { uuid } = this.#require(name).definition.specification
    this.#vms.delete(name)
    this.backups.forgetCheckpoints(name)
    this.#emit(name, uuid, 'undefined', 'removed')
  }

  counters = (wait: Wait): Promise<readonly DomainCounters[]> =>
    this.#asked.run('counters', '', wait, () => [...this.#vms.values()].map(countersOf))

  listVolumes = (wait: Wait): Promise<readonly VolumeRecord[]> =>
    this.#asked.run('listVolumes', '', wait, () => this.#volumes.list())
  findVolume = (name: string, wait: Wait) =>
    this.#asked.run('findVolume', '', wait, () => this.#volumes.list().find((volume) => volume.name === name))

  uploadBase = (volume: { name: string; sizeBytes: number }, content: Readable, wait: Wait) =>
    this.#asked
      .run('uploadBase', volume.name, wait, () => this.#volumes.upload(volume, content, wait.signal))
      .finally(() => content.destroy())

  readVolume = (name: string, wait: Wait): Promise<Readable> =>
    this.#asked.run('readVolume', name, wait, () => this.#volumes.read(name))
  createOverlay = (
    overlay: { name: string; base: string; baseFormat: 'qcow2' | 'raw'; capacityBytes: number },
    wait: Wait
  ) => this.#asked.run('createOverlay', overlay.name, wait, () => this.#volumes.create(overlay))
  createVolume = (volume: { name: string; capacityBytes: number }, wait: Wait) =>
    this.#asked.run('createVolume', volume.name, wait, () => this.#volumes.create(volume))
  removeVolume = (name: string, wait: Wait) =>
    this.#asked.run('removeVolume', name, wait, () => this.#volumes.remove(name))

  storeDisk = (disk: StoredDisk, content: Readable, wait: Wait) =>
    this.#asked.run('storeDisk', disk.name, wait, () => this.#volumes.storeDisk(disk, content, wait.signal))
  readRange = (name: string, range: VolumeRange, wait: Wait) =>
    this.#asked.run('readRange', name, wait, () => this.#volumes.readRange(name, range))
  writeRange = (name: string, offsetBytes: number, bytes: Buffer, wait: Wait) =>
    this.#asked.run('writeRange', name, wait, () => this.#volumes.writeRange(name, offsetBytes, bytes))
  defineSecret = ({ id, passphrase }: { id: string; passphrase: string }, wait: Wait) =>
    this.#asked.run('defineSecret', id, wait, () => void this.secrets.set(id, passphrase))
  removeSecret = (id: string, wait: Wait) =>
    this.#asked.run('removeSecret', id, wait, () => void this.secrets.delete(id))

  ensureNetwork = (network: NetworkDefinition, wait: Wait) =>
    this.#asked.run('ensureNetwork', network.name, wait, () => this.#networks.ensure(network))
  removeNetwork = (name: string, wait: Wait) =>
    this.#asked.run('removeNetwork', name, wait, () => this.#networks.remove(name))
  listNetworks = (wait: Wait) => this.#asked.run('listNetworks', '', wait, () => this.#networks.list())
  listReservations = (network: string, wait: Wait): Promise<readonly Lease[]> =>
    this.#asked.run('listReservations', '', wait, () => [...this.#networks.require(network).reservations])
  addReservation = (network: string, reservation: Lease & { vm: string }, wait: Wait) =>
    this.#asked.run('addReservation', reservation.vm, wait, () =>
      this.#networks.addReservation(network, reservation)
    )
  removeReservation = (network: string, macAddress: string, wait: Wait) =>
    this.#asked.run('removeReservation', macAddress, wait, () =>
      this.#networks.removeReservation(network, macAddress)
    )
  listLeases = (network: string, wait: Wait): Promise<readonly GrantedLease[]> =>
    this.#asked.run('listLeases', '', wait, () => [...this.#networks.require(network).leases])

  beginBackup = (vm: string, request: BackupRequest, wait: Wait): Promise<BackupJob> =>
    this.#asked.run('beginBackup', vm, wait, async () => {
      await this.#passGates(vm, wait)
      const job = this.backups.begin(vm, request)
      return { ...job, end: (options) => this.#asked.run('endBackup', vm, options, () => job.end(options)) }
    })

  listCheckpoints = (vm: string, wait: Wait) =>
    this.#asked.run('listCheckpoints', vm, wait, () => this.backups.list(vm))
  removeCheckpoint = (vm: string, name: string, wait: Wait) =>
    this.#asked.run('removeCheckpoint', vm, wait, () => this.backups.remove(vm, name))
  redefineCheckpoint = (vm: string, checkpointXml: string, wait: Wait) =>
    this.#asked.run('redefineCheckpoint', vm, wait, () => this.backups.redefine(vm, checkpointXml))
  clearBackup = (vm: string, keep: readonly string[], wait: Wait) =>
    this.#asked.run('clearBackup', vm, wait, () => this.backups.clear(vm, keep))

  openConsole = (name: string, { force }: { force: boolean }, wait: Wait) =>
    this.#asked.run('openConsole', name, wait, () =>
      this.consoles.open(name, !isOff(this.#require(name)), force)
    )
  guestAgent = (vm: string, wait: Wait) => this.#asked.run('guestAgent', vm, wait, () => this.guests.agent)
  startPaused = (name: string, wait: Wait) =>
    this.#asked.run('startPaused', name, wait, async () => {
      await this.#passGates(name, wait)
      if (isOff(this.#require(name))) this.#turnOn(name, 'paused')
    })
  resume = (name: string, wait: Wait) =>
    this.#asked.run('resume', name, wait, () => {
      if (this.#require(name).state === 'paused') this.#resume(name)
    })

  createImport = (volume: { name: string; sizeBytes: number }, wait: Wait) =>
    this.#asked.run('createImport', volume.name, wait, () => {
      requireUnused(this.#vms.values(), volume.name)
      return this.#volumes.createImport(volume)
    })
  finishImport = (name: string, wait: Wait) =>
    this.#asked.run('finishImport', name, wait, () => this.#volumes.finishImport(name))

  async close(): Promise<void> {
    this.setStatus('away')
    this.#volumes.close()
  }

  #require(name: string): MemoryVm {
    const vm = this.#vms.get(name)
    if (vm !== undefined) return vm
    if (this.inventory.isForeign(name))
      throw new HostletError('E_CONFLICT', `domain ${name} is not hostlet's`)
    throw new HostletError('E_NOT_FOUND', `VM ${name} is not defined on this host`)
  }

  #turnOff(name: string, vm: MemoryVm, reason: string): void {
    const { specification } = vm.definition
    Object.assign(vm, { state: 'stopped', reason, run: null })
    this.backups.stopped(name)
    this.inventory.mend(vm, 'live', 'devices')
    this.#emit(name, specification.uuid, 'stopped', reason)
  }

  async #passGates(name: string, wait: Wait): Promise<void> {
    const vm = this.#require(name)
    if (isOff(vm)) await this.gates.pass(vm.definition, wait)
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
    if (state === 'running' && this.guests.takesLease) this.#networks.takeLease(placement.network, placement)
  }

  #resume(name: string): void {
    const vm = this.#require(name)
    Object.assign(vm, { state: 'running', reason: 'unpaused' })
    const { placement } = vm.definition
    if (this.guests.takesLease) this.#networks.takeLease(placement.network, placement)
    this.#emit(name, vm.definition.specification.uuid, 'resumed', 'unpaused')
  }

  #emit(name: string, uuid: string, kind: DomainEvent['kind'], detail: string): void {
    const run = this.#vms.get(name)?.run ?? null
    this.#watchers.emit({ name, uuid, kind, detail, run, at: this.#options.clock.now() })
  }
}
