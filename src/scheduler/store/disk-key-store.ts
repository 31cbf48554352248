// What the scheduler keeps of disks' keys: wrapped for others, so that it can lose or withhold them, and never open one.

import type {
  EscrowedKey,
  GeneralJwe,
  GoneKey,
  GrantedKey,
  HostWrapping,
  keyDenials
} from '../../protocol/keys.ts'
import type { Page } from './store.ts'

export interface DiskKeyRecord {
  readonly id: string
  readonly vm: string
  readonly uuid: string
  /** The host that told of it last. */
  readonly host: string
  readonly volume: string
  readonly createdAt: number
  readonly storedAt: number
  /** For the recovery keys. */
  readonly recovery: GeneralJwe | undefined
  /** For the host, where it keeps none of its disks' keys itself. */
  readonly wrapped: HostWrapping | undefined
  readonly grantedAt: number | undefined
  readonly removedAt: number | undefined
}

export interface DiskKeyFilter {
  /** UUID of the VM. */
  readonly uuid?: string | undefined
  readonly host?: string | undefined
  /** Also those that were destroyed. */
  readonly removed?: boolean | undefined
}

/** Who locked a VM's keys, and when. */
export interface KeyHold {
  readonly at: number
  readonly by: string
}

export interface KeyGrant {
  readonly granted: readonly GrantedKey[]
  readonly denied: readonly { readonly id: string; readonly reason: (typeof keyDenials)[number] }[]
}

export interface DiskKeyStore {
  /** Durable when it resolves, in place of what was told of the key before. A text says why nothing was stored. */
  keep(host: string, key: EscrowedKey, at: number): Promise<string | undefined>
  /**
   * Destroys what is kept of a key, or of all of a VM; that there was one stays known for a while. False, with nothing
   * destroyed, where the VM is another host's. No effect where there is none.
   */
  remove(host: string, key: GoneKey, at: number): Promise<boolean>
  /** Host wrappings for the host of their VM. */
  grant(host: string, ids: readonly string[], at: number): Promise<KeyGrant>
  /** By VM and volume, newest first. */
  list(filter: DiskKeyFilter, limit: number): Promise<Page<DiskKeyRecord>>
  /** UUIDs of VMs that had the name when they were told of, the newest first. */
  uuidsNamed(vm: string): Promise<readonly string[]>
  holdOf(uuid: string): Promise<KeyHold | undefined>
  /** From here on keys of the VM are not given out; undefined gives them out again. */
  hold(uuid: string, hold: KeyHold | undefined): Promise<void>
}
