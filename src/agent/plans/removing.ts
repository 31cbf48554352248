// The plan of a teardown: what is destroyed, and what of the VM remains somewhere.

import { sizeText } from '../../lib/size-text.ts'
import type { VmTeardownParams } from '../../protocol/lifecycle.ts'
import { type Foreseen, planLinesMax } from '../../protocol/plan.ts'
import type { Host } from '../host/host.ts'
import type { VmRecord } from '../host/hypervisor.ts'
import { isOff } from '../host/making.ts'
import { shortId } from '../host/names.ts'
import { untilText } from '../host/retained.ts'
import type { Operation } from '../operations/verb.ts'
import { subjectOf } from '../verbs/subject.ts'
import { domainOf, memoryBack, rulesOf } from './common.ts'

const dayMs = 86_400_000

export async function planTeardown(
  params: VmTeardownParams,
  record: VmRecord | undefined,
  host: Host,
  operation: Operation
): Promise<Foreseen> {
  const { vm, retainDays } = params
  if (record === undefined) return await leftovers(vm, host, operation)
  if (retainDays !== undefined) return await planRetain(record, { ...params, retainDays }, host, operation)
  const { uuid } = record.specification
  return {
    changes: true,
    ...(await domainOf(vm, { kind: 'removal', name: vm }, host, operation)),
    ...(await rulesOf(uuid, undefined, host, operation)),
    needs: await memoryBack(record, host, operation),
    remarks: [
      ...(isOff(record) ? [] : ['It runs: its power is cut, and its guest is not asked.']),
      ...(await diskRemarks(record.specification, host, operation)),
      ...keyRemarks(record),
      ...(await backupRemarks(uuid, params, host, operation))
    ].slice(0, planLinesMax)
  }
}

async function planRetain(
  record: VmRecord,
  { vm, retainDays, backups }: VmTeardownParams & { retainDays: number },
  host: Host,
  operation: Operation
): Promise<Foreseen> {
  const since = host.clock.now()
  const until = since + retainDays * (host.config.retainDayMs ?? dayMs)
  const { generation } = subjectOf(operation, vm)
  const wanted = record.retained?.wanted ?? record.wanted
  const retained = { until, since, wanted, ...(backups && { backups: true as const }) }
  const change = { generation, wanted: 'stopped', retained } as const
  return {
    changes: true,
    ...(await domainOf(vm, { kind: 'change', name: vm, change }, host, operation)),
    needs: await memoryBack(record, host, operation),
    remarks: [
      `It would be switched off and kept ${untilText(retained)}, then erased with its keys and disks.`,
      `Until then "hostlet vm undelete ${vm}" has it back.`
    ]
  }
}

/** Of one whose definition is gone. */
async function leftovers(vm: string, host: Host, operation: Operation): Promise<Foreseen> {
  const remarks = await diskRemarks({ name: vm, uuid: subjectOf(operation, vm).uuid }, host, operation)
  return {
    changes: remarks.length > 0,
    remarks: [`VM ${vm} is not defined on this host: what may be left of it would be removed.`, ...remarks]
  }
}

async function diskRemarks(
  vm: { name: string; uuid: string },
  { hypervisor }: Host,
  operation: Operation
): Promise<string[]> {
  const disks = (await hypervisor.listVolumes(operation)).filter(({ name }) =>
    name.startsWith(`${shortId(vm)}.`)
  )
  return disks.map(
    ({ name, allocationBytes }) => `Disk ${name} would be removed: ${sizeText(allocationBytes)} come free.`
  )
}

function keyRemarks({ placement: { rootKey, dataKey } }: VmRecord): string[] {
  return [rootKey, dataKey].flatMap((id) =>
    id === undefined ? [] : [`Key ${id} would be destroyed: no copy of its disk can be read any more.`]
  )
}

async function backupRemarks(
  uuid: string,
  { backups }: VmTeardownParams,
  host: Host,
  operation: Operation
): Promise<string[]> {
  const { snapshots } = await host.backups.erasure.look(uuid, operation)
  if (snapshots.length === 0) return ['No backups of it are known here.']
  const fate = backups === true ? 'would be erased too' : 'would remain'
  const count = snapshots.length === 1 ? '1 backup that is' : `${snapshots.length} backups that are`
  return [`${count} known here ${fate}.`]
}
