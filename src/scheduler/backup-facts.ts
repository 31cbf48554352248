// What the result of a command tells of backups, as a pure decision. Whom it may speak of is the command's word, not the host's.

import { Type } from '../lib/schema.ts'
import type { BackupReport } from '../protocol/backup.ts'
import {
  BackupListResult,
  BackupVerifyResult,
  PruneResult,
  RepositoryName,
  VmBackupResult,
  VmBackupScheduleParams
} from '../protocol/backup.ts'
import type { CommandClaims, CommandResult } from '../protocol/command.ts'
import { Uuid } from '../protocol/names.ts'
import { compile } from '../protocol/validate.ts'
import type { BackupFact } from './store/backup-store.ts'
import type { CommandRecord } from './store/store.ts'

const readBackup = compile(VmBackupResult, 'result of vm.backup')
const readList = compile(BackupListResult, 'result of backup.list')
const readVerify = compile(BackupVerifyResult, 'result of backup.verify')
const readPrune = compile(PruneResult, 'result of backup.prune')
const readSchedule = compile(VmBackupScheduleParams, 'arguments of vm.backup-schedule')
const readAbout = compile(
  Type.Object({ target: RepositoryName, source: Type.Optional(Uuid) }, { additionalProperties: true }),
  'arguments of a command on backups'
)

/** Undefined where it tells nothing of them. Throws E_BAD_REQUEST for a result that is not in the form of its verb. */
export function backupFact(record: CommandRecord, result: CommandResult): BackupFact | undefined {
  const claims = claimsOf(record)
  if (claims === undefined) return undefined
  if (record.verb === 'vm.backup') return { kind: 'run', report: reportOf(claims, result) }
  if (result.outcome !== 'done') return undefined
  return tellers[record.verb]?.(claims, result.value)
}

const tellers: Readonly<Record<string, (claims: CommandClaims, value: unknown) => BackupFact | undefined>> = {
  'backup.list': (_claims, value) => ({ kind: 'found', records: readList(value).snapshots }),
  'backup.verify': (claims, value) => {
    const { snapshot, verification } = readVerify(value)
    return { kind: 'verified', source: readAbout(claims.arguments).source ?? '', snapshot, verification }
  },
  'backup.prune': (claims, value) => {
    const { target, source = '' } = readAbout(claims.arguments)
    const { removed, dryRun } = readPrune(value)
    return dryRun ? undefined : { kind: 'removed', source, target, snapshots: removed }
  },
  'vm.backup-schedule': ({ arguments: given, subject }) =>
    subject && { kind: 'schedule', uuid: subject.uuid, schedule: readSchedule(given).schedule }
}

function reportOf(claims: CommandClaims, result: CommandResult): BackupReport {
  const { vm = '', uuid = '' } = claims.subject ?? {}
  return {
    id: claims.id,
    ...{ vm, uuid, target: readAbout(claims.arguments).target },
    origin: 'command',
    startedAt: result.startedAt,
    finishedAt: result.finishedAt,
    ...(result.outcome === 'done' && { record: readBackup(result.value).record }),
    ...(result.error !== undefined && { error: result.error })
  }
}

/** Our own words, signed by us: gone once the operation has ended. */
function claimsOf({ jws }: CommandRecord): CommandClaims | undefined {
  const payload = jws?.split('.')[1]
  return payload === undefined
    ? undefined
    : (JSON.parse(Buffer.from(payload, 'base64url').toString()) as CommandClaims)
}
