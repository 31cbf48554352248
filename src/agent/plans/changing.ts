// Plans of what changes a VM that there is: sizes, disks, power, schedule.

import { isDeepStrictEqual } from 'node:util'
import type { BackupSchedule, VmRestoreParams } from '../../protocol/backup.ts'
import type { VmReimageParams } from '../../protocol/lifecycle.ts'
import type { Foreseen } from '../../protocol/plan.ts'
import { sizeWords, type VmResizeParams } from '../../protocol/resize.ts'
import { lookUp } from '../backups/restore-plan.ts'
import { swapOf as restored } from '../backups/restore-replace.ts'
import type { Host } from '../host/host.ts'
import type { VmChange, VmRecord } from '../host/hypervisor.ts'
import { isOff } from '../host/making.ts'
import { unknownKeys } from '../host/placement.ts'
import { resized } from '../host/shape.ts'
import type { VmSizes } from '../host/shape-port.ts'
import { swapOf as reimaged } from '../lifecycle/reimage.ts'
import type { Operation } from '../operations/verb.ts'
import { cpuListText } from '../resources/topology.ts'
import { requireVm, subjectOf } from '../verbs/subject.ts'
import { diskNeed, domainOf, imageRemark, memoryBack, shareNeeds } from './common.ts'

export const nothing: Foreseen = { changes: false }

/** What a running machine follows at once is the verb's to say. */
export async function planResize(
  { vm, ...sizes }: VmResizeParams,
  host: Host,
  operation: Operation,
  followed: readonly string[]
): Promise<Foreseen> {
  const record = await requireVm(vm, host, operation)
  const before = record.specification
  const after = resized(before, sizes)
  const changed = (Object.keys(sizes) as (keyof VmSizes)[]).filter(
    (what) => !isDeepStrictEqual(after[what] ?? {}, before[what] ?? {})
  )
  if (changed.length === 0) return { ...nothing, remarks: [`VM ${vm} has these sizes and limits already.`] }
  if (sizes.diskLimits !== undefined) host.resources.refuseLooser(after)
  const grows = after.cpus > before.cpus || after.memoryBytes > before.memoryBytes
  if (grows) await host.resources.check(after, operation)
  const { takes, resources } = await host.resources.foresee({ ...record, specification: after }, operation)
  const { generation } = subjectOf(operation, vm)
  const change = { kind: 'change', name: vm, shape: { sizes, resources }, change: { generation } } as const
  const pinned = resources.pinned && cpuListText(resources.pinned.flat())
  const when = (what: string) =>
    !isOff(record) && followed.includes(what) ? 'at once' : 'from its next start on'
  return {
    changes: true,
    ...(await domainOf(vm, change, host, operation)),
    needs: [...shareNeeds(takes), ...(await diskNeed(grownBytes(record, sizes), host, operation))],
    remarks: [
      ...changed.map((what) => `${sizeWords[what]}: ${when(what)}.`),
      ...(pinned === undefined ? [] : [`It would have processors ${pinned} to itself.`])
    ]
  }
}

function grownBytes({ specification }: VmRecord, { rootDiskBytes, dataDiskBytes }: VmSizes): number {
  const grown = (asked = 0, had = 0) => Math.max(0, asked - had)
  return grown(rootDiskBytes, specification.rootDiskBytes) + grown(dataDiskBytes, specification.dataDiskBytes)
}

export async function planReimage(
  params: VmReimageParams,
  host: Host,
  operation: Operation
): Promise<Foreseen> {
  const { vm, image } = params
  const record = await requireVm(vm, host, operation)
  const { specification, placement } = reimaged(record, params, { host, operation })
  const disks = { specification, placement: { ...placement, ...unknownKeys(placement) } }
  const { generation } = subjectOf(operation, vm)
  const change = { kind: 'change', name: vm, disks, change: { generation, wanted: 'running' } } as const
  const { takes } = await host.resources.foresee(record, operation)
  return {
    changes: true,
    ...(await domainOf(vm, change, host, operation)),
    needs: [
      ...(isOff(record) ? shareNeeds(takes) : []),
      ...(await diskNeed(specification.rootDiskBytes, host, operation))
    ],
    remarks: [
      await imageRemark(image, host, operation),
      'What is on the root disk now is gone afterwards. Its data disk and its address stay.',
      isOff(record)
        ? 'It is off and would run afterwards.'
        : 'It is switched off once the new disk is made, and started with it.'
    ]
  }
}

export async function planRestoreReplace(
  params: VmRestoreParams,
  host: Host,
  operation: Operation
): Promise<Foreseen> {
  const { vm } = params
  const { disks, snapshot, at, freshness } = await lookUp(params, host, operation)
  const record = await requireVm(vm, host, operation)
  const keys = host.placements.diskKeys({ ...record.specification, dataDiskBytes: 0 })
  const { specification, placement } = restored(record, disks, { id: operation.id, keys })
  const swapped = { specification, placement: { ...placement, ...unknownKeys(placement) } }
  const heldBytes = disks.reduce((sum, { allocatedBytes }) => sum + allocatedBytes, 0)
  const roles = disks.map(({ role }) => `the ${role} disk`).join(' and ')
  const wanted = params.start === false ? ('stopped' as const) : ('running' as const)
  const { generation } = subjectOf(operation, vm)
  const change = { kind: 'change', name: vm, disks: swapped, change: { generation, wanted } } as const
  return {
    changes: true,
    ...(await domainOf(vm, change, host, operation)),
    needs: await diskNeed(heldBytes, host, operation),
    remarks: [
      `Backup ${snapshot} is of ${new Date(at).toISOString()} (${freshness}), and holds ${roles}.`,
      'What these disks hold now is gone afterwards. It is switched off once the restored ones are made.',
      `Afterwards it is ${wanted}.`
    ]
  }
}

/** Power: only what is wanted of it, and whether it runs. */
export async function planStart({ vm }: { vm: string }, host: Host, operation: Operation): Promise<Foreseen> {
  const record = await requireVm(vm, host, operation)
  if (!isOff(record) && record.state !== 'paused' && record.wanted === 'running')
    return { ...nothing, remarks: [`VM ${vm} runs already.`] }
  const { takes } = await host.resources.foresee(record, operation)
  return {
    ...(await annotated(record, { wanted: 'running' }, host, operation)),
    needs: isOff(record) ? shareNeeds(takes) : []
  }
}

export async function planStop(
  { vm, force }: { vm: string; force?: boolean },
  host: Host,
  operation: Operation
): Promise<Foreseen> {
  const record = await requireVm(vm, host, operation)
  if (isOff(record) && record.wanted === 'stopped')
    return { ...nothing, remarks: [`VM ${vm} is off already, and stays off.`] }
  const graceSeconds = Math.round(host.config.stop.graceMs / 1_000)
  const how = force
    ? 'Its power is cut at once: what its guest has not written yet is lost.'
    : `Its guest is asked to shut down; its power is cut where it takes longer than asked for, or ${graceSeconds} s.`
  return {
    ...(await annotated(record, { wanted: 'stopped' }, host, operation)),
    needs: await memoryBack(record, host, operation),
    remarks: isOff(record) ? ['It is off already, and would not be started again by the agent.'] : [how]
  }
}

export async function planReboot(
  { vm, force }: { vm: string; force?: boolean },
  host: Host,
  operation: Operation
): Promise<Foreseen> {
  const how = force
    ? 'The machine is reset: what its guest has not written yet is lost.'
    : 'Its guest is asked to reboot.'
  return { ...(await annotated(await requireVm(vm, host, operation), {}, host, operation)), remarks: [how] }
}

export async function planRekey({ vm }: { vm: string }, host: Host, operation: Operation): Promise<Foreseen> {
  const record = await requireVm(vm, host, operation)
  const { rootKey, rootVolume, dataKey, dataVolume } = record.placement
  const volumes = [rootKey && rootVolume, dataKey && dataVolume].filter(Boolean)
  return {
    ...(await annotated(record, {}, host, operation)),
    remarks: volumes.map((volume) => `${volume} gets a new passphrase; its old one opens it no more.`)
  }
}

export async function planSchedule(
  { vm, schedule }: { vm: string; schedule: BackupSchedule | null },
  host: Host,
  operation: Operation
): Promise<Foreseen> {
  const record = await requireVm(vm, host, operation)
  if (isDeepStrictEqual(record.backupSchedule ?? null, schedule))
    return { ...nothing, remarks: [`VM ${vm} has this schedule already.`] }
  return await annotated(record, { backupSchedule: schedule }, host, operation)
}

export async function planUndelete(
  { vm }: { vm: string },
  host: Host,
  operation: Operation
): Promise<Foreseen> {
  const record = await requireVm(vm, host, operation)
  const wanted = record.retained?.wanted ?? record.wanted
  const { takes } = await host.resources.foresee(record, operation)
  return {
    ...(await annotated(record, { wanted, retained: null }, host, operation)),
    needs: wanted === 'running' ? shareNeeds(takes) : [],
    remarks: [wanted === 'running' ? 'It would be started.' : 'It would stay off.']
  }
}

async function annotated(
  { specification: { name } }: VmRecord,
  change: VmChange,
  host: Host,
  operation: Operation
): Promise<Foreseen> {
  const { generation } = subjectOf(operation, name)
  const draft = { kind: 'change', name, change: { ...change, generation } } as const
  return { changes: true, ...(await domainOf(name, draft, host, operation)) }
}
