// The port to the hypervisor: all that verbs, metrics and reconciliation ask of it. One contract suite holds every implementation to it.

import type { Readable } from 'node:stream'
import type { BackupSchedule } from '../../protocol/backup.ts'
import type { ForeignDomain, imageFormats, VmSpecification, VmState } from '../../protocol/vm.ts'
import type { BackupHypervisor } from './backup-port.ts'
import type { ConsoleHypervisor } from './console-port.ts'
import type { MachineInspection } from './inspection.ts'
import type { InventoryHypervisor } from './inventory-port.ts'
import type { NetworkDefinition } from './network-xml.ts'
import type { PlanHypervisor } from './plan-port.ts'
import type { SealedHypervisor } from './sealed-port.ts'
import type { ShapeHypervisor, VmResources } from './shape-port.ts'

export interface Wait {
  readonly signal: AbortSignal
}

/** Where this host put a VM: chosen once at provision, kept in the domain's metadata beside the specification. */
export interface Placement {
  /** The numeric user that runs this VM's QEMU, and no other's. */
  readonly uid: number
  readonly macAddress: string
  readonly address: string
  readonly network: string
  /** Of a network that the VM has to itself: made with it, removed with it. */
  readonly ownNetwork?: { readonly bridge: string; readonly subnet: string }
  readonly rootVolume: string
  readonly dataVolume: string | null
  /** Ids of the keys that encrypt the disks, also libvirt's names of them; absent where a disk is not encrypted. */
  readonly rootKey?: string
  readonly dataKey?: string
  /** The root disk has no base image below it: it was restored. */
  readonly rootStandsAlone?: true
  /** A throw-away machine that shows whether a backup boots: it has no network card, and is listed nowhere. */
  readonly trial?: true
  /** What it gets of the host; absent: what is usual. */
  readonly resources?: VmResources
}

/** Reason of a VM that is paused since it was off and its disks are being backed up. */
export const backupReason = 'backup'

/** A VM that was torn down and is kept, off, until a day on which it is erased. */
export interface Retained {
  /** Milliseconds since the epoch. */
  readonly until: number
  /** Since when. */
  readonly since: number
  /** What the VM was wanted to be, for when somebody has it back. */
  readonly wanted: 'running' | 'stopped'
  /** Its backups are erased with it. */
  readonly backups?: true
}

/** A VM of ours, as libvirt's metadata and state tell. */
export interface VmRecord {
  readonly specification: VmSpecification
  readonly placement: Placement
  readonly generation: number
  /** Whether it should run: the agent starts such VMs after a host boot, since libvirt's autostart is never set. */
  readonly wanted: 'running' | 'stopped'
  /** When the agent backs it up by itself; absent: never. */
  readonly backupSchedule?: BackupSchedule
  readonly retained?: Retained
  readonly state: VmState
  readonly reason: string
  /** Number of the machine's run, another at each start and kept over a reset (libvirt's domain id); null when it is off. */
  readonly run: number | null
}

/** What `define` writes: all of it is kept in the domain's metadata. */
export interface VmDefinition {
  readonly specification: VmSpecification
  readonly placement: Placement
  readonly generation: number
  readonly wanted: 'running' | 'stopped'
  readonly backupSchedule?: BackupSchedule
  readonly retained?: Retained
  /** Absolute path of the NoCloud seed, attached as a CD; null when there is none or it is done with. */
  readonly seedPath: string | null
}

/** What `annotate` writes: what is absent stays as it is. */
export interface VmChange {
  readonly generation?: number
  readonly wanted?: 'running' | 'stopped'
  /** Null takes the schedule away. */
  readonly backupSchedule?: BackupSchedule | null
  /** Null has it be a VM as others again. */
  readonly retained?: Retained | null
}

export interface HypervisorFacts {
  readonly libvirtVersion: string
  readonly hypervisorVersion: string
  readonly accelerator: 'kvm' | 'tcg'
  readonly architecture: string
  readonly poolCapacityBytes: number
  readonly poolAvailableBytes: number
}

export interface VolumeRecord {
  readonly name: string
  readonly path: string
  readonly capacityBytes: number
  readonly allocationBytes: number
}

export interface Lease {
  readonly macAddress: string
  readonly address: string
}

/** What DHCP has handed out. */
export interface GrantedLease extends Lease {
  /** Milliseconds since the epoch, moved on whenever the guest asks anew; absent where it is not known. */
  readonly expiresAt?: number
}

/** Counters of one domain since it started, from one bulk call. Absent what libvirt did not tell in time. */
export interface DomainCounters {
  readonly name: string
  readonly uuid: string
  readonly state: VmState
  readonly cpuNanoseconds?: number
  readonly memoryMaximumBytes?: number
  readonly memoryResidentBytes?: number
  readonly memoryAvailableBytes?: number
  readonly diskCapacityBytes?: number
  readonly diskAllocationBytes?: number
  readonly diskReadBytes?: number
  readonly diskWriteBytes?: number
  readonly diskReads?: number
  readonly diskWrites?: number
  readonly receiveBytes?: number
  readonly transmitBytes?: number
  readonly receivePackets?: number
  readonly transmitPackets?: number
  readonly receiveDrops?: number
  readonly transmitDrops?: number
}

export type DomainEvent = {
  readonly name: string
  readonly uuid: string
  readonly kind:
    | 'defined'
    | 'undefined'
    | 'started'
    | 'suspended'
    | 'resumed'
    | 'stopped'
    | 'shutdown'
    | 'crashed'
    | 'rebooted'
    | 'io-error'
  readonly detail: string
  /** As in the record, at the time of the event. */
  readonly run: number | null
  /** Milliseconds since the epoch, when the event was received. */
  readonly at: number
}

/** What has to be there before a machine starts: its rules, its keys. Throws to keep it off. */
export type StartGate = (
  vm: Pick<VmRecord, 'specification' | 'placement' | 'retained'>,
  wait: Wait
) => Promise<void>

export type HypervisorStatus =
  | { readonly state: 'connected' }
  | { readonly state: 'away'; readonly since: number; readonly reason: string }

/** A pool whose storage does not answer. */
export interface SilentPool {
  readonly name: string
  readonly path: string
  /** Milliseconds since the epoch: when it was asked what it has not answered. */
  readonly since: number
}

/**
 * Names of VMs, volumes and networks are the plain ones of the specification and placement. Every method throws
 * HostletError: E_UNAVAILABLE while the hypervisor is away (nothing happened), E_TIMEOUT or E_CANCELLED with an unknown
 * outcome, E_NOT_FOUND and E_CONFLICT as they say, E_LIBVIRT with libvirt's own code otherwise.
 */
export interface Hypervisor
  extends BackupHypervisor,
    ConsoleHypervisor,
    InventoryHypervisor,
    PlanHypervisor,
    SealedHypervisor,
    ShapeHypervisor {
  /** Begins to connect, and reconnects until disposed. Resolves at once; `status` and listeners tell. */
  open(): void
  status(): HypervisorStatus
  onStatus(listener: (status: HypervisorStatus) => void): Disposable
  onEvent(listener: (event: DomainEvent) => void): Disposable
  /** Pools whose storage does not answer: what is asked of them is refused with E_UNAVAILABLE. Absent where none can hang. */
  silentPools?(): readonly SilentPool[]
  /**
   * Asked before every start of a machine that is off, paused ones and trials too, in the order of their coming. What a
   * gate throws the start throws, and the machine stays off.
   */
  addStartGate(gate: StartGate): Disposable
  facts(wait: Wait): Promise<HypervisorFacts>

  /** VMs of ours, by the metadata they carry. */
  listVms(wait: Wait): Promise<readonly VmRecord[]>
  findVm(name: string, wait: Wait): Promise<VmRecord | undefined>
  /** What the machine is like as it runs, or would. E_NOT_FOUND; E_CONFLICT for a foreign one. */
  inspect(name: string, wait: Wait): Promise<MachineInspection>
  /** Domains that are not VMs of ours, with the reason. They are never touched. */
  listForeign(wait: Wait): Promise<readonly ForeignDomain[]>
  /** Defines or redefines. E_CONFLICT when the name or UUID belongs to another domain. Never sets autostart. */
  define(definition: VmDefinition, wait: Wait): Promise<void>
  /** Writes generation, wanted state, backup schedule and retention to the metadata, without touching the running VM. */
  annotate(name: string, change: VmChange, wait: Wait): Promise<void>
  /** No effect on a VM that runs. One that stands paused for a backup runs from then on. */
  start(name: string, wait: Wait): Promise<void>
  /** Presses the power button. Returns at once: the guest decides. No effect on a VM that is off. */
  pressPowerButton(name: string, wait: Wait): Promise<void>
  /** Asks the guest to reboot. Returns at once. */
  requestReboot(name: string, wait: Wait): Promise<void>
  /** Resets the machine, as its reset button would. */
  reset(name: string, wait: Wait): Promise<void>
  /** Cuts the power. No effect on a VM that is off. */
  cutPower(name: string, wait: Wait): Promise<void>
  /** Takes the seed's CD out of the running machine and of its definition. No effect when there is none. */
  ejectSeed(name: string, wait: Wait): Promise<void>
  /** Removes the definition with its checkpoints, NVRAM and saved state. No effect when there is none. Refuses foreign domains. */
  undefine(name: string, wait: Wait): Promise<void>
  /** Counters of all domains of ours, in one call. */
  counters(wait: Wait): Promise<readonly DomainCounters[]>

  /** Volumes of our pool. */
  listVolumes(wait: Wait): Promise<readonly VolumeRecord[]>
  findVolume(name: string, wait: Wait): Promise<VolumeRecord | undefined>
  /** Uploads a base image: root-owned, 0444. Removes the half-made volume when it fails. E_CONFLICT when the name exists. */
  uploadBase(
    volume: { name: string; format: (typeof imageFormats)[number]; sizeBytes: number },
    content: Readable,
    wait: Wait
  ): Promise<void>
  /** The bytes of a volume of ours as stored, to check a base image's digest again. */
  readVolume(name: string, wait: Wait): Promise<Readable>
  /** A qcow2 v3 overlay on a base volume. No effect when it exists. */
  createOverlay(
    overlay: { name: string; base: string; baseFormat: (typeof imageFormats)[number]; capacityBytes: number },
    wait: Wait
  ): Promise<void>
  /** An empty qcow2 v3 volume. No effect when it exists. */
  createVolume(volume: { name: string; capacityBytes: number }, wait: Wait): Promise<void>
  /** No effect when there is none. */
  removeVolume(name: string, wait: Wait): Promise<void>

  /** Makes sure that a network exists and is active. E_CONFLICT when one of the name is another. */
  ensureNetwork(network: NetworkDefinition, wait: Wait): Promise<void>
  /** Stops and removes a network, reservations and all. No effect when there is none. */
  removeNetwork(name: string, wait: Wait): Promise<void>
  /** Networks with a bridge and an IPv4 subnet, whoever made them. */
  listNetworks(wait: Wait): Promise<readonly NetworkDefinition[]>
  /** DHCP reservations of a network. */
  listReservations(network: string, wait: Wait): Promise<readonly Lease[]>
  /** E_CONFLICT when the MAC or the address belongs to another reservation. No effect when it stands as asked. */
  addReservation(network: string, reservation: Lease & { vm: string }, wait: Wait): Promise<void>
  /** No effect when there is none. */
  removeReservation(network: string, macAddress: string, wait: Wait): Promise<void>
  /** What DHCP has handed out. */
  listLeases(network: string, wait: Wait): Promise<readonly GrantedLease[]>

  close(): Promise<void>
}
