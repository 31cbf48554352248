// What the scheduler remembers of backups: the part of the store's interface that is about them.

import type { ErrorReport } from '../../errors.ts'
import type { BackupRecord, BackupReport, BackupSchedule, Verification } from '../../protocol/backup.ts'
import type { VmSpecification } from '../../protocol/vm.ts'
import type { Page } from './store.ts'

/** A snapshot as its host told of it, and what became known since. */
export interface BackupEntry {
  readonly record: BackupRecord
  /** Absent where it was only found in a repository. */
  readonly operation: string | undefined
  readonly origin: BackupReport['origin'] | undefined
  readonly verification: Verification | undefined
  readonly removedAt: number | undefined
}

/** The end of one run of vm.backup. */
export interface BackupRun {
  readonly operation: string
  readonly vm: string
  readonly uuid: string
  readonly host: string
  readonly target: string
  readonly origin: BackupReport['origin']
  readonly startedAt: number
  readonly finishedAt: number
  readonly nextAt: number | undefined
  readonly snapshot: string | undefined
  readonly error: ErrorReport | undefined
}

/** What a host tells of backups, in a report or by the result of a command. */
export type BackupFact =
  | { readonly kind: 'run'; readonly report: BackupReport }
  | { readonly kind: 'found'; readonly records: readonly BackupRecord[] }
  | ({ readonly kind: 'verified'; readonly source: string; readonly snapshot: string } & {
      readonly verification: Verification
    })
  | {
      readonly kind: 'removed'
      readonly source: string
      readonly target: string
      readonly snapshots: readonly string[]
    }
  | { readonly kind: 'schedule'; readonly uuid: string; readonly schedule: BackupSchedule | null }

export interface BackupFilter {
  /** Name or UUID of the VM. */
  readonly vm?: string | undefined
  readonly host?: string | undefined
  readonly target?: string | undefined
  /** Also those that were removed. */
  readonly removed?: boolean | undefined
}

export interface BackupRunFilter {
  /** Name or UUID of the VM. */
  readonly vm?: string | undefined
  readonly host?: string | undefined
  readonly target?: string | undefined
  /** Only those that failed. */
  readonly failed?: boolean | undefined
}

/** Backups as they were told. They outlive the VM and its host. */
export interface BackupStore {
  /**
   * Durable when it resolves; the same fact told again changes nothing. False, with nothing stored, where the VM is another
   * host's: no host may speak for the VMs of others.
   */
  learn(host: string, fact: BackupFact, at: number): Promise<boolean>
  find(snapshot: string): Promise<BackupEntry | undefined>
  /** Newest first. */
  list(filter: BackupFilter, limit: number): Promise<Page<BackupEntry>>
  /** The snapshot that was made last of those that are there, by its number in the repository. */
  newest(source: string, target: string): Promise<BackupEntry | undefined>
  /** UUIDs of VMs that had the name when they were backed up, the one backed up last first. */
  sourcesNamed(vm: string): Promise<readonly string[]>
  targetsOf(source: string): Promise<readonly string[]>
  /** Hosts that have backed up to a repository of the name. */
  hostsOf(target: string): Promise<ReadonlySet<string>>
  /** What the VM was when it was last backed up, as far as it is known here. Without user data. */
  specificationOf(source: string): Promise<VmSpecification | undefined>
  scheduleOf(uuid: string): Promise<BackupSchedule | undefined>
  lastRun(uuid: string): Promise<BackupRun | undefined>
  /** Those that ended last first. */
  runs(filter: BackupRunFilter, limit: number): Promise<Page<BackupRun>>
}
