// How a backup is to be made: what it goes on from, what changed since, and why not where that is not known. Decides, does nothing.

import type { BackupKind, BackupMode, DiskRole } from '../../protocol/backup.ts'
import type { GoodBackup } from './records.ts'

/** What a snapshot's manifest says that matters to the next one. */
export interface LastSnapshot {
  readonly snapshot: string
  readonly host: string
  readonly roles: readonly string[]
  readonly checkpoint: string | undefined
}

export interface PlanInput {
  readonly mode: BackupMode
  readonly roles: readonly DiskRole[]
  readonly host: string
  /** The newest snapshot that can be read. */
  readonly last: LastSnapshot | undefined
  /** A snapshot that is newer than `last` and cannot be read. */
  readonly damaged: { readonly snapshot: string; readonly fault: string } | undefined
  /** Checkpoints that libvirt knows of the VM. */
  readonly checkpoints: readonly string[]
  readonly good: GoodBackup | undefined
}

export interface BackupPlan {
  readonly kind: BackupKind
  /** Why it is not incremental, in words. */
  readonly reason?: string
  /** Whether the tree of the last snapshot is compared with, or gone on from. */
  readonly parent: boolean
  /** Checkpoint since which changes are asked for. */
  readonly since: string | null
  /** libvirt has lost the checkpoint and has to be told of it again, by this XML. */
  readonly redefine?: string
}

export function planBackup(input: PlanInput): BackupPlan {
  const { mode, last, damaged, checkpoints, good } = input
  if (mode === 'full') return { kind: 'full', parent: false, since: null }
  if (last === undefined) return first(damaged)
  if (good?.damage !== undefined)
    return anew(
      `a verification found stored data damaged, in snapshot ${good.damage.snapshot}: ${good.damage.fault}`
    )
  const since = last.checkpoint
  const reason = unknownChange(input, last)
  if (reason !== undefined || since === undefined) return fallback(reason ?? 'it has no checkpoint')
  const plan = { kind: 'incremental', parent: true, since } as const
  if (checkpoints.includes(since)) return plan
  const xml = good?.checkpoint?.name === since ? good.checkpoint.xml : ''
  if (xml !== '') return { ...plan, redefine: xml }
  return fallback(`libvirt does not know the checkpoint of the last snapshot ${last.snapshot} any more`)
}

/** What changed is not known after all: all is read and compared with the last snapshot. */
export function fallback(reason: string): BackupPlan {
  return { kind: 'fallback', reason, parent: true, since: null }
}

/** The last snapshot is of no use either: all is read and stored. */
export function anew(reason: string): BackupPlan {
  return { kind: 'full', reason, parent: false, since: null }
}

function first(damaged: PlanInput['damaged']): BackupPlan {
  return damaged === undefined
    ? { kind: 'full', parent: false, since: null }
    : anew(`no earlier snapshot can be read; the newest, ${damaged.snapshot}: ${damaged.fault}`)
}

function unknownChange({ roles, host, damaged }: PlanInput, last: LastSnapshot): string | undefined {
  if (damaged !== undefined) return `the newest snapshot ${damaged.snapshot} cannot be read: ${damaged.fault}`
  if (last.host !== host)
    return `the last snapshot ${last.snapshot} was made by host ${last.host}, whose checkpoints are not here`
  if (last.checkpoint === undefined) return `the last snapshot ${last.snapshot} has no checkpoint`
  const missing = roles.filter((role) => !last.roles.includes(role))
  if (missing.length === 0) return undefined
  return `the last snapshot ${last.snapshot} does not hold the ${missing.join(' and the ')} disk`
}
