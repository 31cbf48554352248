// The hypervisor port on libvirt: joins the connections, domains, volumes and networks, and knows when libvirt is away.

import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { type Connection, type Domain, domainEvents } from 'node-libvirt'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import type { DiskRole } from '../../protocol/backup.ts'
import { type TrialResult, tryKvm } from './accelerator.ts'
import { AcceleratorChoice } from './accelerator-choice.ts'
import type { BackupRequest } from './backup-port.ts'
import { type Backups, createBackups } from './backups.ts'
import { BootRecord } from './boot-record.ts'
import { type Capabilities, readCapabilities } from './capabilities.ts'
import { readCgroups } from './cgroups.ts'
import { Connections } from './connections.ts'
import { readCounters } from './counters.ts'
import { runOf } from './domain-looks.ts'
import { lifecycleOf } from './domain-state.ts'
import type { DomainEnvironment } from './domain-xml.ts'
import { Domains } from './domains.ts'
import { Drafts } from './drafts.ts'
import type {
  DomainEvent,
  Hypervisor,
  HypervisorFacts,
  HypervisorStatus,
  Lease,
  StartGate,
  VmChange,
  VmDefinition,
  Wait
} from './hypervisor.ts'
import { clearAutostart, examine, inspect } from './inspection.ts'
import { diskSecretUsage, isOwnSecretUsage } from './names.ts'
import type { NetworkDefinition } from './network-xml.ts'
import { Networks } from './networks.ts'
import type { StoredDisk, VolumeRange } from './sealed-port.ts'
import { Secrets } from './secrets.ts'
import { openConsole } from './serial-console.ts'
import type { VmShape } from './shape-port.ts'
import { StartGates } from './start-gates.ts'
import { Tuning } from './tuning.ts'
import { uuidText } from './uuid.ts'
import type { PoolDefinition } from './volume-xml.ts'
import { Volumes } from './volumes.ts'

export interface LibvirtHypervisorOptions {
  readonly uri: string
  readonly socket?: string | undefined
  readonly accelerator: 'auto' | 'kvm' | 'tcg'
  readonly pool: PoolDefinition
  /** A user of the VMs' range, for the trial of KVM. */
  readonly trialUid: number
  readonly runtimeDirectory: string
  readonly clock: Clock
  readonly log: Logger
  readonly bootRecord?: BootRecord
  readonly scratch?: ScratchSettings
  /** Where libvirt keeps the directories of running domains. */
  readonly qemuDirectory?: string
  /** UUIDs of the VMs that this host had before. */
  readonly known?: () => Iterable<string>
}

export interface ScratchSettings {
  /** Another pool for scratch files than the one of the disks. */
  readonly pool?: PoolDefinition
  /** Room that no backup may take from the pool. */
  readonly reserveBytes: number
}

const scratchDefault: ScratchSettings = { reserveBytes: 1024 ** 3 }
const qemuDirectoryDefault = '/var/lib/libvirt/qemu'

const recogniseMs = 10_000
/** Domains that are being looked at because of an event, and events of one that wait for it. More are dropped. */
const unrecognisedMax = 256
const unrecognisedEventsMax = 64

export class LibvirtHypervisor implements Hypervisor {
  readonly #options: LibvirtHypervisorOptions
  readonly #connections: Connections
  readonly #domains: Domains
  readonly #volumes: Volumes
  readonly #scratch: Volumes
  readonly #networks: Networks
  readonly #secrets: Secrets
  readonly #tuning: Tuning
  readonly draft: Hypervisor['draft']
  readonly #backups: Backups
  readonly #accelerator: AcceleratorChoice
  readonly #gates = new StartGates()
  readonly #eventListeners = new Set<(event: DomainEvent) => void>()
  readonly #unrecognised = new Map<string, DomainEvent[]>()
  readonly #capabilities = new Map<Connection, Promise<Capabilities>>()

  constructor(options: LibvirtHypervisorOptions) {
    this.#options = options
    this.#accelerator = new AcceleratorChoice({
      configured: options.accelerator,
      bootRecord: options.bootRecord ?? new BootRecord({ directory: options.runtimeDirectory }),
      log: options.log,
      versions: () => this.#versions(),
      tryKvm: (wait) => this.#tryKvm(wait)
    })
    this.#connections = new Connections({
      ...options,
      onControl: (control, signal) => this.#listen(control, signal),
      onConnect: async (signal) => void (await this.#domains.list({ signal }))
    })
    const connection = this.#connections.get.bind(this.#connections)
    const environment = (wait: Wait) => this.#environment(wait)
    const streamConnection = this.#openForStream
    this.#domains = new Domains({
      connection,
      pool: options.pool.name,
      ...(options.known && { known: options.known }),
      environment,
      gate: this.#gates.pass,
      contain: (domain, metadata, wait) => this.#tuning.contain(domain, metadata, wait)
    })
    const inFlight = () => this.#connections.inFlight
    const volumesOf = (pool: PoolDefinition) =>
      new Volumes({ connection, streamConnection, inFlight, pool, clock: options.clock })
    this.#volumes = volumesOf(options.pool)
    this.#scratch = options.scratch?.pool ? volumesOf(options.scratch.pool) : this.#volumes
    this.#tuning = new Tuning({
      connection,
      domains: this.#domains,
      volumes: this.#volumes,
      environment,
      log: options.log
    })
    this.draft = new Drafts({ connection, domains: this.#domains, environment }).draft
    this.#networks = new Networks({ connection })
    this.#secrets = new Secrets({ connection })
    this.#backups = createBackups({
      ...options,
      connection,
      domains: this.#domains,
      networks: this.#networks,
      volumes: this.#volumes,
      secrets: this.#secrets,
      scratchVolumes: this.#scratch,
      scratchReserveBytes: (options.scratch ?? scratchDefault).reserveBytes,
      qemuDirectory: options.qemuDirectory ?? qemuDirectoryDefault
    })
    this.#gates.add(async () => this.#volumes.requireAnswering())
    this.onStatus((status) => this.#backups.jobs.noteStatus(status))
    this.onEvent((event) => this.#backups.jobs.note(event))
  }

  open(): void {
    this.#connections.open()
  }

  status(): HypervisorStatus {
    return this.#connections.status
  }

  onStatus(listener: (status: HypervisorStatus) => void): Disposable {
    return this.#connections.onStatus(listener)
  }

  onEvent(listener: (event: DomainEvent) => void): Disposable {
    this.#eventListeners.add(listener)
    return { [Symbol.dispose]: () => this.#eventListeners.delete(listener) }
  }

  silentPools = () =>
    [...new Set([this.#volumes, this.#scratch])].flatMap((volumes) => volumes.silence() ?? [])

  addStartGate = (gate: StartGate) => this.#gates.add(gate)

  async facts(wait: Wait): Promise<HypervisorFacts> {
    const { facts } = this.#connections.get('control')
    const [capabilities, accelerator, space] = await Promise.all([
      this.#readCapabilities(wait),
      this.#accelerator.intended(wait),
      this.#volumes.lastSpace(wait)
    ])
    return {
      libvirtVersion: facts.libvirtVersion,
      hypervisorVersion: facts.hypervisorVersion,
      accelerator,
      architecture: capabilities.architecture,
      poolCapacityBytes: space.capacityBytes,
      poolAvailableBytes: space.availableBytes
    }
  }

  listVms = (wait: Wait) => this.#domains.list(wait)
  findVm = (name: string, wait: Wait) => this.#domains.find(name, wait)
  inspect = (name: string, wait: Wait) => inspect(name, this.#onJobs(), wait)
  examine = (name: string, wait: Wait) => examine(name, this.#onJobs(), wait)
  clearAutostart = (name: string, wait: Wait) => clearAutostart(name, this.#onJobs(), wait)
  domainUses = (wait: Wait, only?: 'foreign') => this.#domains.looks.uses(wait, only)
  surveyVolumes = (wait: Wait) => this.#volumes.survey(wait)
  ensurePool = (wait: Wait) => this.#volumes.ensurePool(wait)
  listSecrets = async (wait: Wait) =>
    (await this.#secrets.records(wait)).filter(({ usage }) => isOwnSecretUsage(usage))
  listForeign = (wait: Wait) => this.#domains.listForeign(wait)
  define = (definition: VmDefinition, wait: Wait) => this.#domains.define(definition, wait)
  annotate = (name: string, change: VmChange, wait: Wait) => this.#domains.annotate(name, change, wait)
  start = (name: string, wait: Wait) => this.#backups.pauses.start(name, wait)
  pressPowerButton = (name: string, wait: Wait) =>
    this.#whileStorageAnswers(() => this.#domains.pressPowerButton(name, wait))
  requestReboot = (name: string, wait: Wait) => this.#domains.requestReboot(name, wait)
  reset = (name: string, wait: Wait) => this.#domains.reset(name, wait)
  cutPower = (name: string, wait: Wait) => this.#whileStorageAnswers(() => this.#domains.cutPower(name, wait))
  ejectSeed = (name: string, wait: Wait) => this.#domains.ejectSeed(name, wait)
  undefine = (name: string, wait: Wait) => this.#domains.undefine(name, wait)
  reshape = (name: string, shape: VmShape, wait: Wait) => this.#tuning.reshape(name, shape, wait)
  growDisk = (name: string, role: DiskRole, capacityBytes: number, wait: Wait) =>
    this.#tuning.growDisk(name, role, capacityBytes, wait)

  counters(wait: Wait) {
    return readCounters(this.#connections.get('statistics'), (uuid) => this.#domains.looks.isOurs(uuid), wait)
  }

  beginBackup = (vm: string, request: BackupRequest, wait: Wait) =>
    this.#backups.jobs.begin(vm, request, wait)
  clearBackup = (vm: string, keep: readonly string[], wait: Wait) => this.#backups.jobs.clear(vm, keep, wait)
  listCheckpoints = (vm: string, wait: Wait) => this.#backups.checkpoints.list(vm, wait)
  removeCheckpoint = (vm: string, name: string, wait: Wait) =>
    this.#backups.checkpoints.remove(vm, [name], wait)
  redefineCheckpoint = (vm: string, checkpointXml: string, wait: Wait) =>
    this.#backups.checkpoints.redefine(vm, checkpointXml, wait)
  openConsole = (name: string, options: { force: boolean }, wait: Wait) =>
    openConsole(name, options, { domains: this.#domains, streamConnection: this.#openForStream }, wait)
  guestAgent = (vm: string, wait: Wait) => this.#backups.jobs.guestAgent(vm, wait)
  startPaused = (name: string, wait: Wait) => this.#backups.pauses.startPaused(name, wait)
  resume = (name: string, wait: Wait) => this.#backups.pauses.resume(name, wait)
  createImport = (volume: { name: string; sizeBytes: number }, wait: Wait) =>
    this.#backups.imports.create(volume, wait)
  finishImport = (name: string, wait: Wait) => this.#backups.imports.finish(name, wait)

  listVolumes = (wait: Wait) => this.#volumes.list(wait)
  findVolume = (name: string, wait: Wait) => this.#volumes.find(name, wait)
  uploadBase = (volume: { name: string; sizeBytes: number }, content: Readable, wait: Wait) =>
    this.#volumes.uploadBase(volume, content, wait)
  readVolume = (name: string, wait: Wait) => this.#volumes.read(name, wait)
  removeVolume = (name: string, wait: Wait) => this.#volumes.remove(name, wait)
  createVolume = (volume: { name: string; capacityBytes: number }, wait: Wait) =>
    this.#volumes.createDisk(volume, wait)

  storeDisk = (disk: StoredDisk, content: Readable, wait: Wait) =>
    this.#volumes.storeDisk(disk, content, wait)
  readRange = (name: string, range: VolumeRange, wait: Wait) => this.#volumes.readRange(name, range, wait)
  writeRange = (name: string, offsetBytes: number, bytes: Buffer, wait: Wait) =>
    this.#volumes.writeRange(name, offsetBytes, bytes, wait)
  defineSecret = (secret: { id: string; passphrase: string }, wait: Wait) =>
    this.#secrets.define({ ...secret, usage: diskSecretUsage(secret.id) }, wait)
  removeSecret = (id: string, wait: Wait) => this.#secrets.remove(id, wait)

  createOverlay(
    overlay: { name: string; base: string; baseFormat: 'qcow2' | 'raw'; capacityBytes: number },
    wait: Wait
  ): Promise<void> {
    const { name, capacityBytes, base, baseFormat } = overlay
    return this.#volumes.createDisk(
      { name, capacityBytes, backing: { name: base, format: baseFormat } },
      wait
    )
  }

  ensureNetwork = (network: NetworkDefinition, wait: Wait) => this.#networks.ensure(network, wait)
  removeNetwork = (name: string, wait: Wait) => this.#networks.remove(name, wait)
  listNetworks = (wait: Wait) => this.#networks.list(wait)
  listReservations = (network: string, wait: Wait) => this.#networks.listReservations(network, wait)
  addReservation = (network: string, reservation: Lease & { vm: string }, wait: Wait) =>
    this.#networks.addReservation(network, reservation, wait)
  removeReservation = (network: string, macAddress: string, wait: Wait) =>
    this.#networks.removeReservation(network, macAddress, wait)
  listLeases = (network: string, wait: Wait) => this.#networks.listLeases(network, wait)

  readonly #openForStream = (signal: AbortSignal) => this.#connections.openForStream(signal)

  async close(): Promise<void> {
    await this.#backups[Symbol.asyncDispose]()
    await this.#connections.close()
  }

  /**
   * libvirtd gives the files of a machine that has ended back to root, and keeps everybody who lists machines waiting until
   * the storage has taken that: then all VMs of the host stand behind it.
   */
  async #whileStorageAnswers(work: () => Promise<void>): Promise<void> {
    this.#volumes.requireAnswering()
    await work()
  }

  #onJobs() {
    return { domains: this.#domains, connection: this.#connections.get('jobs') }
  }

  /** Before the look at what is there, and before another takes the role: nothing that happens in between is missed. */
  async #listen(control: Connection, signal: AbortSignal): Promise<void> {
    let hadRole = false
    const tell = (domain: Domain, event: Pick<DomainEvent, 'kind' | 'detail'>) => {
      hadRole ||= this.#connections.has('control', control)
      // One that was replaced may live on for a while: what it says, the other says too.
      if (!hadRole || this.#connections.has('control', control)) this.#emit(domain, event)
    }
    await control.on(
      domainEvents.lifecycle,
      (payload) => {
        const event = lifecycleOf(payload)
        if (event) tell(payload.domain, event)
      },
      { signal }
    )
    await control.on(domainEvents.reboot, ({ domain }) => tell(domain, { kind: 'rebooted', detail: '' }), {
      signal
    })
    await control.on(
      domainEvents.ioErrorReason,
      ({ domain, alias, reason }) => tell(domain, { kind: 'io-error', detail: `${alias} ${reason}`.trim() }),
      { signal }
    )
  }

  #emit(domain: Domain, event: Pick<DomainEvent, 'kind' | 'detail'>): void {
    const uuid = uuidText(domain.uuid)
    const full = { name: domain.name, uuid, run: runOf(domain), at: this.#options.clock.now(), ...event }
    const waiting = this.#unrecognised.get(uuid)
    if (waiting !== undefined) {
      if (waiting.length < unrecognisedEventsMax) waiting.push(full)
    } else if (this.#domains.looks.isOurs(uuid)) this.#deliver(full)
    else if (this.#unrecognised.size < unrecognisedMax) void this.#recognise(domain, full)
  }

  /** A domain that we did not see before is ours only if its metadata says so. Its events wait for that, in order. */
  async #recognise(domain: Domain, event: DomainEvent): Promise<void> {
    const waiting = [event]
    this.#unrecognised.set(event.uuid, waiting)
    try {
      const known = await this.#domains.looks.recognise(domain, { signal: AbortSignal.timeout(recogniseMs) })
      if (known) for (const each of waiting) this.#deliver(each)
    } catch (error) {
      this.#options.log.warn({ error, domain: domain.name }, 'a new domain could not be looked at')
    } finally {
      this.#unrecognised.delete(event.uuid)
    }
  }

  #deliver(event: DomainEvent): void {
    if (event.kind === 'undefined') this.#domains.looks.forget(event.uuid)
    for (const listener of this.#eventListeners) listener(event)
  }

  async #environment(wait: Wait): Promise<DomainEnvironment> {
    const [capabilities, accelerator] = await Promise.all([
      this.#readCapabilities(wait),
      this.#accelerator.usable(wait)
    ])
    if (capabilities.architecture !== 'x86_64') {
      throw new HostletError(
        'E_UNSUPPORTED',
        `VMs on ${capabilities.architecture} hosts are not supported yet`
      )
    }
    return {
      accelerator,
      qemuGid: capabilities.qemuGid,
      pool: this.#options.pool,
      consoleDirectory: join(this.#options.runtimeDirectory, 'console'),
      cgroups: readCgroups()
    }
  }

  /** Once for each connection: a restarted libvirtd may have other capabilities. */
  #readCapabilities(wait: Wait): Promise<Capabilities> {
    const connection = this.#connections.get('jobs')
    const known = this.#capabilities.get(connection)
    if (known) return known
    const read = readCapabilities(connection, wait)
    this.#capabilities.clear()
    this.#capabilities.set(connection, read)
    read.catch(() => this.#capabilities.delete(connection))
    return read
  }

  async #tryKvm(wait: Wait): Promise<TrialResult> {
    const connection = this.#connections.get('jobs')
    const { kvmOffered, architecture, qemuGid: gid } = await this.#readCapabilities(wait)
    if (!kvmOffered || architecture !== 'x86_64')
      return { works: false, detail: 'libvirt does not offer KVM' }
    const { clock, trialUid: uid } = this.#options
    return await tryKvm({ connection, volumes: this.#volumes, clock, uid, gid }, wait)
  }

  #versions(): string {
    const { libvirtVersion, hypervisorVersion } = this.#connections.get('jobs').facts
    return `${libvirtVersion} ${hypervisorVersion}`
  }
}
