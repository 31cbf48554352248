// A snapshot read from a repository in the form in which the scheduler tells of one, so that both look alike.

import type { GoodSnapshot, SignerState } from '../../backup/vault/read-manifest.ts'
import type { BackupView } from '../../protocol/api.ts'

/** `target` is the address of the repository. */
export interface StoredBackup extends BackupView {
  readonly signer: SignerState
  /** Thumbprints of the keys that open it. */
  readonly recipients: readonly string[]
  /** What the VM was. */
  readonly specification: unknown
}

/** A bad one: that it is there, and why it is not believed. */
export interface DamagedBackup {
  readonly snapshot: string
  readonly uuid: string
  readonly reason: string
  readonly fault: string
}

export function storedBackup({ id, body, signer, recipients }: GoodSnapshot, target: string): StoredBackup {
  const { vm, host, sequence, previous, kind, reason, consistency, at, finishedAt, counts } = body
  return {
    ...{ snapshot: id, target, vm: vm.name, uuid: vm.uuid, host, sequence, previous, kind },
    ...(reason === undefined ? {} : { reason }),
    ...{ consistency, at, durationMs: Math.max(0, finishedAt - at) },
    disks: body.disks.map(({ role, sizeBytes, allocatedBytes }) => ({
      role: role as BackupView['disks'][number]['role'],
      sizeBytes,
      allocatedBytes
    })),
    readBytes: counts.readBytes,
    storedBytes: counts.storedBytes,
    ...{ signer, recipients, specification: vm.specification }
  }
}
