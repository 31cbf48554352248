// From manifests to what others read of them, and which of a vault's snapshots counts.

import type { ManifestBody } from '../../backup/vault/manifest-body.ts'
import type { GoodSnapshot, SnapshotSummary } from '../../backup/vault/read-manifest.ts'
import type { BackupRecord, DiskRole } from '../../protocol/backup.ts'
import { diskRoles } from '../../protocol/backup.ts'

/** The newest that can be read. Snapshots come in order, the newest last. */
export function newestOf(snapshots: readonly SnapshotSummary[]): GoodSnapshot | undefined {
  return snapshots.findLast((one) => one.state === 'good')
}

/** As it crosses the wire. */
export function backupRecord(target: string, snapshot: string, body: ManifestBody): BackupRecord {
  const { vm, host, sequence, previous, kind, reason, consistency, at, finishedAt, disks, counts } = body
  return {
    snapshot,
    target,
    vm: vm.name,
    uuid: vm.uuid,
    host,
    sequence,
    previous,
    kind,
    ...(reason !== undefined && { reason }),
    consistency,
    at,
    durationMs: Math.max(0, finishedAt - at),
    disks: disks.flatMap(({ role, sizeBytes, allocatedBytes }) =>
      isRole(role) ? [{ role, sizeBytes, allocatedBytes }] : []
    ),
    readBytes: counts.readBytes,
    storedBytes: counts.storedBytes
  }
}

export function isRole(text: string): text is DiskRole {
  return diskRoles.some((role) => role === text)
}
