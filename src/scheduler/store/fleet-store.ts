// The whole fleet in slices, as its metrics want it: lean rows, in an order that goes on where a slice ended.

import type { ErrorReport } from '../../errors.ts'
import type { BackupSchedule } from '../../protocol/backup.ts'
import type { Condition } from '../../protocol/messages.ts'
import type { HostSample, VmSample } from '../../protocol/metrics.ts'
import type { VmSummary } from '../../protocol/vm.ts'
import type { Point } from './store.ts'

export interface FleetHost {
  readonly id: string
  readonly hostname: string
  readonly certificateExpiresAt: number
  readonly isRevoked: boolean
  readonly isCloned: boolean
  readonly hasTrailFault: boolean
  /** Absent for a host that never connected. */
  readonly report:
    | {
        readonly isConnected: boolean
        readonly connectedAt: number
        readonly lastSeenAt: number
        readonly agentVersion: string
        readonly isHypervisorConnected: boolean
        readonly operationsRunning: number
        readonly operationsWaiting: number
        readonly isDraining: boolean
        readonly conditions: readonly Condition[]
        /** The host's clock minus ours. */
        readonly clockSkewMs: number | undefined
      }
    | undefined
  readonly newest: Point<HostSample> | undefined
}

export interface FleetVm {
  readonly name: string
  readonly uuid: string
  readonly host: string
  readonly cpus: number
  readonly profile: string
  readonly wanted: 'running' | 'stopped'
  /** What the host last said; `isPresent` is false when it said that before but no longer. */
  readonly summary: VmSummary | undefined
  readonly isPresent: boolean
  readonly newest: Point<VmSample> | undefined
  readonly schedule: { readonly schedule: BackupSchedule; readonly setAt: number } | undefined
}

/** The newest good backup of a VM in one repository. */
export interface FleetBackup {
  readonly uuid: string
  readonly target: string
  readonly at: number
  readonly durationMs: number
  readonly readBytes: number
  readonly storedBytes: number
}

export interface OpenOperations {
  readonly state: string
  readonly verb: string
  readonly count: number
}

/** A command that has ended, well or not. */
export interface CommandEnd {
  readonly id: string
  readonly verb: string
  readonly outcome: 'done' | 'failed' | 'expired'
  readonly error?: ErrorReport | undefined
  readonly createdAt: number
  readonly endedAt: number
}

export interface FleetStore {
  /** By id, those after it. */
  hosts(after: string, limit: number): Promise<readonly FleetHost[]>
  /** By name, those after it. */
  vms(after: string, limit: number): Promise<readonly FleetVm[]>
  /** Of the VMs whose names lie after the first one, up to the last one and with it. */
  backups(after: string, last: string): Promise<readonly FleetBackup[]>
  openOperations(): Promise<readonly OpenOperations[]>
  /** Of each file of the store. */
  sizes(): Promise<readonly { readonly file: string; readonly bytes: number }[]>
}
