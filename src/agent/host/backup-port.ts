// What backups ask of the hypervisor besides the rest of the port: a point-in-time view of a VM's disks, checkpoints, and room for restored disks.

import type { DiskSource } from '../../backup/disk.ts'
import type { Consistency, DiskRole } from '../../protocol/backup.ts'
import type { Wait } from './hypervisor.ts'

export interface BackupRequest {
  /** Id of the snapshot that is made: names the job's scratch files and socket, so that two jobs never share one. */
  readonly snapshot: string
  readonly roles: readonly DiskRole[]
  /** Checkpoint that is made at the same instant, for the next backup to ask what changed since. */
  readonly checkpoint: string
  /** Checkpoint since which changed blocks are wanted; null to have all counted as changed. */
  readonly since: string | null
  /** Longest time that the guest's file systems may stand still, where they should be at rest; undefined: they need not. */
  readonly freezeMs?: number
}

export interface BackupDisk {
  readonly role: DiskRole
  readonly sizeBytes: number
  /** At most one source a disk and job. Its `dirty` follows `since`. */
  open(wait: Wait): Promise<DiskSource>
}

/** A backup job of a VM that runs on, or of one that was off and stands paused meanwhile. */
export interface BackupJob {
  /** The instant whose content the disks show, in milliseconds since the epoch. */
  readonly at: number
  readonly consistency: Consistency
  /** Why the guest could not be frozen although it was asked for. */
  readonly freezeFault?: string
  readonly disks: readonly BackupDisk[]
  /** Aborted with a HostletError when the job is lost: the VM stopped, the room for scratch files ran out, libvirt went away. */
  readonly signal: AbortSignal
  /** libvirt's XML of the checkpoint, to redefine it should libvirt lose it. */
  readonly checkpointXml: string
  /**
   * Ends the job and removes scratch files and socket; a VM that was off is off again, unless it should run by now. Keeps
   * the checkpoint only when told to. No effect when it has ended.
   */
  end(options: Wait & { readonly keepCheckpoint: boolean }): Promise<void>
}

export interface BackupHypervisor {
  /**
   * Begins a backup. Throws E_STALE when `since` is unknown or its bitmaps are lost or inconsistent (nothing happened:
   * ask again without it), E_CAPACITY when there is no room for scratch files, E_BUSY while another job of the VM runs,
   * E_NOT_FOUND when the VM has no disk of a role.
   */
  beginBackup(vm: string, request: BackupRequest, wait: Wait): Promise<BackupJob>
  /** Names of checkpoints of ours, the oldest first. */
  listCheckpoints(vm: string, wait: Wait): Promise<readonly string[]>
  /**
   * Removes checkpoint and bitmap; a VM that is off stands paused meanwhile. A bitmap that cannot be removed stays, libvirt
   * then knows nothing of it. No effect when there is none.
   */
  removeCheckpoint(vm: string, name: string, wait: Wait): Promise<void>
  /** Tells libvirt again of a checkpoint whose bitmaps are still in the disks. Throws E_STALE when they are not. */
  redefineCheckpoint(vm: string, checkpointXml: string, wait: Wait): Promise<void>
  /**
   * Removes what a killed agent left of backups of this VM: the job, scratch files, sockets, checkpoints that are not in
   * `keep`; frozen file systems are thawed; a VM that stood paused for a backup is off again unless it should run. Returns
   * what there was, for the log. Throws E_BUSY while a backup of this process runs.
   */
  clearBackup(vm: string, keep: readonly string[], wait: Wait): Promise<readonly string[]>

  /** Whether the guest's agent is there, which shows that the guest is up: `none` when the VM has no channel to one. */
  guestAgent(vm: string, wait: Wait): Promise<'none' | 'away' | 'connected'>
  /** Starts a VM without letting its CPUs run. No effect on one that is on. */
  startPaused(name: string, wait: Wait): Promise<void>
  /** Lets the CPUs of a paused VM run. No effect on one that runs. */
  resume(name: string, wait: Wait): Promise<void>

  /**
   * An empty file in the pool that this process may write, for a restored disk; its content is the caller's, in qcow2.
   * Replaces a volume of the name that no VM uses.
   */
  createImport(volume: { name: string; sizeBytes: number }, wait: Wait): Promise<{ readonly path: string }>
  /** Has libvirt look at what was written there. */
  finishImport(name: string, wait: Wait): Promise<void>
}
