// The steps that take a VM out of service and keep it until a day, and those that have it back.

import { HostletError } from '../../errors.ts'
import { clearWhenFree } from '../backups/clear.ts'
import type { Host } from '../host/host.ts'
import type { Retained, VmChange, VmRecord } from '../host/hypervisor.ts'
import { untilText } from '../host/retained.ts'
import type { Operation, Step } from '../operations/verb.ts'
import { requireVm, subjectOf } from '../verbs/subject.ts'
import { offSince, writeEarly, writeLate } from './stay-off.ts'

const dayMs = 86_400_000

export interface Retain {
  readonly vm: string
  readonly host: Host
  readonly retainDays: number
  /** Whether its backups go with it. */
  readonly backups: boolean
}

interface RetainNotes {
  readonly before?: Pick<VmRecord, 'wanted' | 'retained'> & { readonly ran: boolean }
  readonly retained?: Retained
}

export function retainSteps({ vm, host, retainDays, backups }: Retain): readonly Step[] {
  return [
    {
      name: 'note until when',
      apply: async (operation) => {
        const { wanted, retained, state } = await requireVm(vm, host, operation)
        const since = host.clock.now()
        const until = since + retainDays * (host.config.retainDayMs ?? dayMs)
        const ran = state !== 'stopped' && state !== 'crashed'
        return {
          before: { wanted, ran, ...(retained && { retained }) },
          retained: { until, since, wanted: retained?.wanted ?? wanted, ...(backups && { backups }) }
        }
      }
    },
    {
      // From here on it does not start, and is erased when the time is over, whatever becomes of the agent's own records.
      name: 'have it be kept',
      apply: async (operation) => {
        await requireVm(vm, host, operation)
        return await writeEarly(host, vm, keptSince(operation, vm), operation)
      },
      undo: async (operation) => {
        const { before } = notesOf(operation)
        if (before === undefined) return
        const { wanted, retained = null, ran } = before
        await host.hypervisor.annotate(vm, { wanted, retained }, operation)
        if (ran) await host.vms.start(await requireVm(vm, host, operation), operation)
      }
    },
    {
      name: 'switch it off',
      apply: async (operation) => {
        const progress = operation.progress.bind(operation)
        const { graceMs } = host.config.stop
        await host.vms.stop(vm, { signal: operation.signal, progress, graceMs })
        await writeLate(host, vm, keptSince(operation, vm), operation)
      }
    },
    {
      name: 'remove what backups left',
      apply: async (operation) => {
        await clearWhenFree(host, vm, operation)
      }
    }
  ]
}

export function retainedResult(vm: string, operation: Operation) {
  const { uuid } = subjectOf(operation, vm)
  const { retained } = notesOf(operation)
  return {
    ...{ vm, uuid, removed: [], remaining: [], existed: true },
    ...(retained && { retainedUntil: retained.until })
  }
}

export function undeleteSteps(vm: string, host: Host): readonly Step[] {
  return [
    {
      name: 'have it be a VM again',
      apply: async (operation) => {
        const record = await requireVm(vm, host, operation)
        const { generation } = subjectOf(operation, vm)
        // After a crash it may be one already, as it was wanted before.
        const { wanted } = record.retained === undefined ? record : requireRetained(record, host.clock.now())
        await host.hypervisor.annotate(vm, { generation, wanted, retained: null }, operation)
        return { wanted }
      },
      // It is not to be erased because it could not be started.
      final: true
    },
    {
      name: 'start it where it ran before',
      apply: async (operation) => {
        if (operation.notes.wanted !== 'running') return
        await host.vms.start(await requireVm(vm, host, operation), operation)
      }
    }
  ]
}

/** Throws E_CONFLICT for a VM that nobody tore down, E_NOT_FOUND for one whose time is over. */
export function requireRetained({ specification, retained }: VmRecord, now: number): Retained {
  const { name } = specification
  if (retained === undefined)
    throw new HostletError('E_CONFLICT', `VM ${name} was not torn down: there is nothing to take back.`, {
      details: { vm: name }
    })
  if (now < retained.until) return retained
  throw new HostletError(
    'E_NOT_FOUND',
    `VM ${name} was kept ${untilText(retained)}: that is over, and it is being erased. Restore it from a backup.`,
    { details: { vm: name, retainedUntil: retained.until } }
  )
}

function keptSince(operation: Operation, vm: string): VmChange {
  const { retained } = notesOf(operation)
  return { ...offSince(operation, vm), ...(retained && { retained }) }
}

function notesOf({ notes }: Operation): RetainNotes {
  return notes as RetainNotes
}
