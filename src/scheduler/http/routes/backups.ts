// Backups: take, list, look, verify, prune, export, and when a VM's are taken by themselves.

import { HostletError } from '../../../errors.ts'
import { Type } from '../../../lib/schema.ts'
import {
  BackupList,
  BackupQuery,
  BackupReply,
  BackupRequest,
  BackupRunList,
  BackupRunQuery,
  BackupScheduleView,
  ExportBackupRequest,
  ListBackupsRequest,
  OperationReply,
  PruneBackupsRequest,
  VerifyBackupRequest
} from '../../../protocol/api.ts'
import { BackupSchedule } from '../../../protocol/backup.ts'
import { strict, Uuid, VmName } from '../../../protocol/names.ts'
import { backupView, runOfVmView, runView } from '../../views/backup-view.ts'
import { present } from '../../views/operation-view.ts'
import { assertTier } from '../api-keys.ts'
import { ask, askOfVm } from '../ask.ts'
import { expectedOf, findSource, findTarget, hostOfBackups } from '../backup-source.ts'
import { findBackup, findHost, findVm, listItemsDefault } from '../lookup.ts'
import { defineRoute } from '../route.ts'
import { HostParams } from './hosts.ts'

const VmParams = Type.Object({ name: VmName }, strict)
const SnapshotParams = Type.Object({ snapshot: Uuid }, strict)

export const backupRoutes = [
  defineRoute('POST /v1/vms/{name}/backup', {
    tier: 'manage',
    summary: 'Back a VM up into a repository of its host’s policy',
    status: 202,
    params: VmParams,
    body: BackupRequest,
    reply: OperationReply,
    handle: (call, services) =>
      askOfVm(services, call, { verb: 'vm.backup', intent: { kind: 'none' }, arguments: call.body })
  }),

  defineRoute('GET /v1/vms/{name}/backup-schedule', {
    tier: 'read',
    summary: 'When a VM is backed up by itself, as last set here, and how its last backup went',
    params: VmParams,
    reply: BackupScheduleView,
    handle: async ({ params: { name } }, { store }) => {
      const { uuid } = await findVm(store, name)
      const lastRun = await store.backups.lastRun(uuid)
      return {
        vm: name,
        schedule: (await store.backups.scheduleOf(uuid)) ?? null,
        ...present({ lastRun: lastRun && runView(lastRun) })
      }
    }
  }),

  defineRoute('PUT /v1/vms/{name}/backup-schedule', {
    tier: 'manage',
    summary: 'Have its host back a VM up by itself; `keep`, which removes older backups, takes tier admin',
    status: 202,
    params: VmParams,
    body: BackupSchedule,
    reply: OperationReply,
    handle: async (call, services) => {
      // A schedule that keeps one would do over night what pruning may not.
      if (call.body.keep !== undefined && call.actor !== undefined) assertTier(call.actor, 'admin')
      assertOneRhythm(call.body)
      return askOfVm(services, call, {
        verb: 'vm.backup-schedule',
        intent: { kind: 'none' },
        arguments: { schedule: call.body }
      })
    }
  }),

  defineRoute('DELETE /v1/vms/{name}/backup-schedule', {
    tier: 'manage',
    summary: 'Have its host back a VM up no more by itself; its backups stay',
    status: 202,
    params: VmParams,
    reply: OperationReply,
    handle: (call, services) =>
      askOfVm(services, call, {
        verb: 'vm.backup-schedule',
        intent: { kind: 'none' },
        arguments: { schedule: null }
      })
  }),

  defineRoute('GET /v1/backups', {
    tier: 'read',
    summary: 'List backups, newest first, also of VMs and hosts that are gone',
    query: BackupQuery,
    reply: BackupList,
    handle: async ({ query: { limit, ...filter } }, { store }) => {
      const { items, more } = await store.backups.list(filter, limit ?? listItemsDefault)
      return { backups: items.map(backupView), more }
    }
  }),

  defineRoute('GET /v1/backup-runs', {
    tier: 'read',
    summary:
      'List runs of backups that have ended, the failed ones too, by command or by schedule, newest first',
    query: BackupRunQuery,
    reply: BackupRunList,
    handle: async ({ query: { limit, ...filter } }, { store }) => {
      const { items, more } = await store.backups.runs(filter, limit ?? listItemsDefault)
      return { runs: items.map(runOfVmView), more }
    }
  }),

  defineRoute('GET /v1/backups/{snapshot}', {
    tier: 'read',
    summary: 'Show one backup',
    params: SnapshotParams,
    reply: BackupReply,
    handle: async ({ params }, { store }) => ({
      backup: backupView(await findBackup(store, params.snapshot))
    })
  }),

  defineRoute('POST /v1/hosts/{id}/backups', {
    tier: 'manage',
    summary: 'Have a host list what lies in a repository; backups that were not known here become known',
    status: 202,
    params: HostParams,
    body: ListBackupsRequest,
    reply: OperationReply,
    handle: ({ params, body, repeatable }, services) =>
      ask(services, repeatable, async () => ({
        verb: 'backup.list',
        host: await findHost(services.store, params.id),
        arguments: body,
        intent: { kind: 'none' }
      }))
  }),

  defineRoute('POST /v1/backups/{snapshot}/verify', {
    tier: 'manage',
    summary: 'Read a whole backup and check every block; with `boot` also start a throw-away VM from it',
    status: 202,
    params: SnapshotParams,
    body: VerifyBackupRequest,
    reply: OperationReply,
    handle: ({ params: { snapshot }, body, repeatable }, services) =>
      ask(services, repeatable, async () => {
        const { record } = await findBackup(services.store, snapshot)
        const { target, uuid: source } = record
        return {
          verb: 'backup.verify',
          host: await hostOfBackups(services.store, body.host, record.host),
          arguments: {
            ...{ target, source, snapshot },
            ...present({ boot: body.boot }),
            ...(await expectedOf(services.store, source, target))
          },
          intent: { kind: 'none' }
        }
      })
  }),

  // Not for tier manage, which can tear VMs down: one stolen key must not take a VM and its backups.
  defineRoute('POST /v1/backups/prune', {
    tier: 'admin',
    summary: 'Remove the backups of a VM that no rule keeps, and free what only they needed',
    status: 202,
    body: PruneBackupsRequest,
    reply: OperationReply,
    handle: ({ body, repeatable }, services) =>
      ask(services, repeatable, async () => {
        const source = await findSource(services.store, body.source)
        const target = await findTarget(services.store, source, body.target)
        const maker = (await services.store.backups.newest(source, target))?.record.host
        return {
          verb: 'backup.prune',
          host: await hostOfBackups(services.store, body.host, maker),
          arguments: { target, source, keep: body.keep, ...present({ dryRun: body.dryRun }) },
          intent: { kind: 'none' }
        }
      })
  }),

  // Not for tier manage: it writes what a tenant's disk held, unencrypted, to a file of the host.
  defineRoute('POST /v1/backups/{snapshot}/export', {
    tier: 'admin',
    summary: 'Write a disk of a backup, unencrypted, to a new file on a host, where its policy allows that',
    status: 202,
    params: SnapshotParams,
    body: ExportBackupRequest,
    reply: OperationReply,
    handle: ({ params: { snapshot }, body: { host, ...rest }, repeatable }, services) =>
      ask(services, repeatable, async () => {
        const { record } = await findBackup(services.store, snapshot)
        return {
          verb: 'backup.export',
          host: await hostOfBackups(services.store, host, record.host),
          arguments: { target: record.target, source: record.uuid, snapshot, ...rest },
          intent: { kind: 'none' }
        }
      })
  })
]

function assertOneRhythm({ everyMs, cron }: BackupSchedule): void {
  if ((everyMs === undefined) !== (cron === undefined)) return
  throw new HostletError('E_BAD_REQUEST', 'body: give exactly one of everyMs and cron')
}
