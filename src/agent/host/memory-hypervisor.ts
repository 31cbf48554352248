// The hypervisor port in memory: for tests of what stands on it. One contract suite holds it to what libvirt does.

import type { Buffer } from 'node:buffer'
import type { Readable } from 'node:stream'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { ForeignDomain } from '../../protocol/vm.ts'
import type {
  DomainCounters,
  DomainEvent,
  Hypervisor,
  HypervisorFacts,
  HypervisorStatus,
  Lease,
  VmChange,
  VmDefinition,
  VmRecord,
  VolumeRecord,
  Wait
} from './hypervisor.ts'
import { MemoryVolumes } from './memory-volumes.ts'
import { changed } from './metadata.ts'

/** How the guests behave: ready at once and obedient, unless a test says otherwise. */
export interface MemoryGuests {
  takesLease: boolean
  obeysPowerButton: boolean
  obeysReboot: boolean
}

export interface MemoryHypervisorOptions {
  readonly clock: Pick<Clock, 'now'>
  readonly poolBytes?: number
  readonly poolPath?: string
  readonly facts?: Partial<HypervisorFacts>
}

interface MemoryVm {
  definition: VmDefinition
  state: VmRecord['state']
  reason: string
  run: number | null
  seedInserted: boolean
}

interface MemoryNetwork {
  readonly bridge: string
  readonly subnet: string
  readonly reservations: Lease[]
  readonly leases: Lease[]
}

type Operations = Exclude<keyof Hypervisor, 'open' | 'status' | 'onStatus' | 'onEvent' | 'close'>

export class MemoryHypervisor implements Hypervisor {
  /** What tests may change, and look at. */
  readonly guests: MemoryGuests = { takesLease: true, obeysPowerButton: true, obeysReboot: true }
  readonly foreign: ForeignDomain[] = []
  /** The calls that were made, in order: `start web-1`. */
  readonly calls: string[] = []
  readonly #options: MemoryHypervisorOptions
  readonly #vms = new Map<string, MemoryVm>()
  readonly #volumes: MemoryVolumes
  readonly #networks = new Map<string, MemoryNetwork>()
  readonly #failures = new Map<Operations, unknown[]>()
  readonly #statusListeners = new Set<(status: HypervisorStatus) => void>()
  readonly #eventListeners = new Set<(event: DomainEvent) => void>()
  #status: HypervisorStatus
  #runs = 0

  constructor(options: MemoryHypervisorOptions) {
    this.#options = options
    this.#volumes = new MemoryVolumes(options)
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
    this.#status =
      state === 'connected'
        ? { state }
        : { state, since: this.#options.clock.now(), reason: 'a test said so' }
    for (const listener of this.#statusListeners) listener(this.#status)
  }

  /** As when the host boots: everything is off, leases are forgotten. */
  bootHost(): void {
    for (const vm of this.#vms.values()) Object.assign(vm, { state: 'stopped', reason: 'unknown', run: null })
    this.forgetLeases()
  }

  /** As when every lease has run out. */
  forgetLeases(): void {
    for (const network of this.#networks.values()) network.leases.length = 0
  }

  /** The guest powers itself off. */
  shutDownGuest(name: string): void {
    const vm = this.#require(name)
    this.#turnOff(name, vm, 'shutdown')
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

  async facts(wait: Wait): Promise<HypervisorFacts> {
    this.#enter('facts', wait)
    return {
      libvirtVersion: '9.0.0',
      hypervisorVersion: '7.2.0',
      accelerator: 'tcg',
      architecture: 'x86_64',
      poolCapacityBytes: this.#volumes.capacityBytes,
      poolAvailableBytes: this.#volumes.availableBytes,
      ...this.#options.facts
    }
  }

  async listVms(wait: Wait): Promise<readonly VmRecord[]> {
    this.#enter('listVms', wait)
    return [...this.#vms.values()].map(recordOf)
  }

  async findVm(name: string, wait: Wait): Promise<VmRecord | undefined> {
    this.#enter('findVm', wait)
    const vm = this.#vms.get(name)
    return vm && recordOf(vm)
  }

  async listForeign(wait: Wait): Promise<readonly ForeignDomain[]> {
    this.#enter('listForeign', wait)
    return [...this.foreign]
  }

  async define(definition: VmDefinition, wait: Wait): Promise<void> {
    const { name, uuid } = definition.specification
    this.#enter('define', wait, name)
    const other = [...this.#vms.values()]
      .map(({ definition: { specification } }) => specification)
      .find((vm) => (vm.name === name) !== (vm.uuid === uuid))
    if (other || this.foreign.some((domain) => domain.name === name || domain.uuid === uuid))
      throw new HostletError('E_CONFLICT', `VM ${name} cannot be defined: its name or UUID is taken`)
    const before = this.#vms.get(name)
    const seedInserted = definition.seedPath !== null
    this.#vms.set(name, {
      state: 'stopped',
      reason: 'unknown',
      run: null,
      ...before,
      definition,
      seedInserted
    })
    this.#emit(name, uuid, 'defined', before ? 'updated' : 'added')
  }

  async annotate(name: string, change: VmChange, wait: Wait): Promise<void> {
    this.#enter('annotate', wait, name)
    const vm = this.#require(name)
    vm.definition = changed(vm.definition, change)
  }

  async start(name: string, wait: Wait): Promise<void> {
    this.#enter('start', wait, name)
    const vm = this.#require(name)
    if (!isOff(vm)) return
    const { placement, specification } = vm.definition
    const network = this.#networks.get(placement.network)
    if (network === undefined)
      throw new HostletError('E_NOT_FOUND', `network ${placement.network} does not exist`)
    for (const disk of [placement.rootVolume, placement.dataVolume]) {
      if (disk !== null && !this.#volumes.has(disk))
        throw new HostletError('E_LIBVIRT', `start VM ${name}: cannot access storage file ${disk}`)
    }
    Object.assign(vm, { state: 'running', reason: 'booted', run: ++this.#runs })
    const { macAddress, address } = placement
    if (this.guests.takesLease) takeLease(network, { macAddress, address })
    this.#emit(name, specification.uuid, 'started', 'booted')
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

  async reset(name: string, wait: Wait): Promise<void> {
    this.#enter('reset', wait, name)
    this.#emit(name, this.#requireOn(name).definition.specification.uuid, 'rebooted', '')
  }

  async cutPower(name: string, wait: Wait): Promise<void> {
    this.#enter('cutPower', wait, name)
    const vm = this.#require(name)
    if (!isOff(vm)) this.#turnOff(name, vm, 'destroyed')
  }

  async ejectSeed(name: string, wait: Wait): Promise<void> {
    this.#enter('ejectSeed', wait, name)
    this.#require(name).seedInserted = false
  }

  async undefine(name: string, wait: Wait): Promise<void> {
    this.#enter('undefine', wait, name)
    if (!this.#vms.has(name) && !this.foreign.some((domain) => domain.name === name)) return
    const { uuid } = this.#require(name).definition.specification
    this.#vms.delete(name)
    this.#emit(name, uuid, 'undefined', 'removed')
  }

  async counters(wait: Wait): Promise<readonly DomainCounters[]> {
    this.#enter('counters', wait)
    return [...this.#vms.values()].map(({ definition: { specification }, state }) => ({
      name: specification.name,
      uuid: specification.uuid,
      state,
      ...(state === 'running' && { cpuNanoseconds: 0, memoryMaximumBytes: specification.memoryBytes })
    }))
  }

  async listVolumes(wait: Wait): Promise<readonly VolumeRecord[]> {
    this.#enter('listVolumes', wait)
    return this.#volumes.list()
  }

  async findVolume(name: string, wait: Wait): Promise<VolumeRecord | undefined> {
    this.#enter('findVolume', wait)
    return this.#volumes.list().find((volume) => volume.name === name)
  }

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

  async readVolume(name: string, wait: Wait): Promise<Readable> {
    this.#enter('readVolume', wait, name)
    return this.#volumes.read(name)
  }

  async createOverlay(
    overlay: { name: string; base: string; capacityBytes: number },
    wait: Wait
  ): Promise<void> {
    this.#enter('createOverlay', wait, overlay.name)
    this.#volumes.create(overlay)
  }

  async createVolume(volume: { name: string; capacityBytes: number }, wait: Wait): Promise<void> {
    this.#enter('createVolume', wait, volume.name)
    this.#volumes.create(volume)
  }

  async removeVolume(name: string, wait: Wait): Promise<void> {
    this.#enter('removeVolume', wait, name)
    this.#volumes.remove(name)
  }

  async ensureNetwork(network: { name: string; bridge: string; subnet: string }, wait: Wait): Promise<void> {
    this.#enter('ensureNetwork', wait, network.name)
    const found = this.#networks.get(network.name)
    if (found === undefined) {
      this.#networks.set(network.name, { ...network, reservations: [], leases: [] })
    } else if (found.bridge !== network.bridge || found.subnet !== network.subnet) {
      throw new HostletError('E_CONFLICT', `network ${network.name} exists and is another`)
    }
  }

  async listReservations(network: string, wait: Wait): Promise<readonly Lease[]> {
    this.#enter('listReservations', wait)
    return [...this.#network(network).reservations]
  }

  async addReservation(network: string, reservation: Lease & { vm: string }, wait: Wait): Promise<void> {
    this.#enter('addReservation', wait, reservation.vm)
    const { reservations } = this.#network(network)
    const { macAddress, address } = reservation
    const taken = reservations.filter((other) => other.macAddress === macAddress || other.address === address)
    if (taken.some((other) => other.macAddress === macAddress && other.address === address)) return
    if (taken.length > 0)
      throw new HostletError('E_CONFLICT', `network ${network} has a reservation for it already`)
    reservations.push({ macAddress, address })
  }

  async removeReservation(network: string, macAddress: string, wait: Wait): Promise<void> {
    this.#enter('removeReservation', wait, macAddress)
    const reservations = this.#networks.get(network)?.reservations ?? []
    const index = reservations.findIndex((lease) => lease.macAddress === macAddress)
    if (index !== -1) reservations.splice(index, 1)
  }

  async listLeases(network: string, wait: Wait): Promise<readonly Lease[]> {
    this.#enter('listLeases', wait)
    return [...this.#network(network).leases]
  }

  async close(): Promise<void> {
    this.setStatus('away')
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
    this.#emit(name, specification.uuid, 'stopped', reason)
  }

  #network(name: string): MemoryNetwork {
    const network = this.#networks.get(name)
    if (network !== undefined) return network
    throw new HostletError('E_NOT_FOUND', `network ${name} does not exist on this host`)
  }

  #emit(name: string, uuid: string, kind: DomainEvent['kind'], detail: string): void {
    const run = this.#vms.get(name)?.run ?? null
    const event = { name, uuid, kind, detail, run, at: this.#options.clock.now() }
    for (const listener of this.#eventListeners) listener(event)
  }
}

function isOff({ state }: MemoryVm): boolean {
  return state === 'stopped' || state === 'crashed'
}

/** As dnsmasq: only what is reserved, and not while another holder's lease lasts. */
function takeLease({ reservations, leases }: MemoryNetwork, { macAddress, address }: Lease): void {
  const others = leases.some((lease) => lease.address === address && lease.macAddress !== macAddress)
  const reserved = reservations.some((lease) => lease.macAddress === macAddress && lease.address === address)
  if (reserved && !others) leases.push({ macAddress, address })
}

function recordOf({ definition, state, reason, run }: MemoryVm): VmRecord {
  const { seedPath: _unseen, ...carried } = definition
  return { ...carried, state, reason, run }
}
