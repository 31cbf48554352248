// The part of the hypervisor port that accounts for everything on the host: what domains use, what volumes are, what a machine is really like.

import type { transports } from '../../protocol/vm.ts'
import type { Wait } from './hypervisor.ts'
import type { MachineInspection } from './inspection.ts'
import type { ForeignReason } from './quarantine.ts'

/** What a domain has of the host, ours or not. What cannot be told is left out, and then `complete` is false. */
export interface DomainUse {
  readonly name: string
  readonly uuid: string
  readonly owner: 'ours' | 'trial' | ForeignReason
  readonly complete: boolean
  readonly uids: readonly number[]
  readonly macAddresses: readonly string[]
  readonly addresses: readonly string[]
  /** Processors that its vCPUs are pinned to, one by one. */
  readonly cpus: readonly number[]
  readonly hostPorts: readonly {
    readonly transport: (typeof transports)[number]
    readonly hostPort: number
  }[]
  /** Every file, or name of a volume of a pool, that its disks, seeds, logs and sockets are; backing files as far as libvirt tells them. */
  readonly files: readonly string[]
  /** Disks whose backing files libvirt does not tell: those of a machine that is off, without a chain in its definition. */
  readonly openChains: readonly string[]
  /** Names of networks, and devices of bridges. */
  readonly networks: readonly string[]
  /** UUIDs of libvirt's secrets. */
  readonly secrets: readonly string[]
}

export interface VolumeSurvey {
  readonly name: string
  readonly path: string
  /** As libvirt saw it: `qcow2`, `raw`. */
  readonly format: string | undefined
  readonly backing: string | undefined
  readonly encrypted: boolean
  readonly ownerUid: number | undefined
  /** When its bytes last changed; milliseconds since the epoch. */
  readonly changedAt: number | undefined
}

export interface SecretRecord {
  readonly id: string
  readonly usage: string
}

/** A machine as its definition says, and as it runs. */
export interface MachineExamination {
  readonly running: boolean
  /** Null for a domain that is lost as soon as its machine is off. */
  readonly definition: MachineInspection | null
  /** Undefined while it is off. */
  readonly live: MachineInspection | undefined
  readonly autostart: boolean
}

export interface InventoryHypervisor {
  /** What all domains of the host have, or those that are not ours. A domain that cannot be looked at in time is there, not complete. */
  domainUses(wait: Wait, only?: 'foreign'): Promise<readonly DomainUse[]>
  /** E_NOT_FOUND; E_CONFLICT for a foreign one. */
  examine(name: string, wait: Wait): Promise<MachineExamination>
  /** Volumes of our pool, the other half of what is known of them. */
  surveyVolumes(wait: Wait): Promise<readonly VolumeSurvey[]>
  /** Secrets whose usage says that they are ours. */
  listSecrets(wait: Wait): Promise<readonly SecretRecord[]>
  /** Has libvirt not start the VM by itself. */
  clearAutostart(name: string, wait: Wait): Promise<void>
  /** Starts our pool where it was stopped. Returns whether it had to. */
  ensurePool(wait: Wait): Promise<boolean>
}
