// vm.backup-schedule: says when the host backs a VM up by itself, or that it does not.

import { Type } from '../../lib/schema.ts'
import { slotsOf } from '../../lib/timetable.ts'
import { BackupSchedule, VmBackupScheduleParams } from '../../protocol/backup.ts'
import { strict, VmName } from '../../protocol/names.ts'
import type { Host } from '../host/host.ts'
import { defineVerb } from '../operations/verb.ts'
import { planSchedule } from '../plans/changing.ts'
import type { VerbDocument } from './document.ts'
import { checkVm, requireVm, subjectOf } from './subject.ts'

export const vmBackupSchedule = defineVerb<Host>()({
  name: 'vm.backup-schedule',
  summary: 'Sets when the host backs a VM up by itself and what it keeps, or takes that away.',
  lock: 'vm',
  changes: true,
  deadlineMs: 60_000,
  afterCrash: 'resume',
  params: VmBackupScheduleParams,
  result: Type.Object({ vm: VmName, schedule: Type.Union([BackupSchedule, Type.Null()]) }, strict),

  async check({ vm, schedule }, host, operation) {
    await checkVm(vm, host, operation)
    if (schedule === null) return
    await slotsOf(schedule, host.clock.now())
    host.backups.repositories.require(schedule.target)
  },

  steps: ({ vm, schedule }, host) => [
    {
      name: 'write it to the VM',
      apply: async (operation) => {
        const { backupSchedule } = await requireVm(vm, host, operation)
        const { generation } = subjectOf(operation, vm)
        await host.hypervisor.annotate(vm, { generation, backupSchedule: schedule }, operation)
        return { before: backupSchedule ?? null }
      },
      undo: async (operation) => {
        const { before } = operation.notes
        if (before === undefined) return
        await host.hypervisor.annotate(vm, { backupSchedule: before as BackupSchedule | null }, operation)
      }
    }
  ],

  plan: planSchedule,

  async outcome({ vm }, host, operation) {
    const { backupSchedule } = await requireVm(vm, host, operation)
    return { vm, schedule: backupSchedule ?? null }
  }
})

export const document: VerbDocument = {
  errors: {
    E_BAD_REQUEST:
      'the schedule has both an interval and a cron expression, or neither; the expression cannot be read or names no time that ever comes; there is no such time zone',
    E_AUTH: 'the host has no policy of backups, or one that others than root can write',
    E_NOT_FOUND: "the VM is not defined on this host, or the host's policy names no such repository",
    E_CONFLICT: "the name belongs to another VM or to a domain that is not hostlet's",
    E_STALE: 'the VM has carried out a newer command',
    E_UNAVAILABLE: 'libvirt is away'
  },
  crash: 'Runs on: the schedule is written again.',
  remarks: [
    'The schedule lies in the metadata of the VM: it outlives the state of the agent and goes with the VM. Backups that there are stay when it is taken away.',
    'An interval begins with a backup at once. A cron expression has five fields, in the time zone of the host unless `timeZone` names another.',
    'Each VM has a delay of its own within `jitterMs`, the same each time and never longer than a period.',
    'A run that was missed is made up once. One that failed is tried again after 30 s to an hour, longer each time, until the next regular time; one that was cancelled only then.',
    '`keep` is applied after each good backup.'
  ],
  example: {
    vm: 'web-1',
    schedule: {
      target: 'offsite',
      cron: '15 3 * * *',
      timeZone: 'Europe/Berlin',
      jitterMs: 1_800_000,
      keep: { daily: 7, weekly: 4 }
    }
  }
}
