// The steps of a restore that puts disks into a VM that exists: it keeps its old ones until it is ready with the new ones.

import { HostletError } from '../../errors.ts'
import type { VmRestoreParams } from '../../protocol/backup.ts'
import type { VmSpecification } from '../../protocol/vm.ts'
import type { Host } from '../host/host.ts'
import type { Placement, VmRecord } from '../host/hypervisor.ts'
import { backupToken, restoredVolumeName } from '../host/names.ts'
import type { Operation, Step } from '../operations/verb.ts'
import { clearWhenFree } from './clear.ts'
import { lookUp, type RestorePlan, requireRoom, sizeOf } from './restore-plan.ts'

/** The VM as it was, and as it will be. */
interface Swap extends RestorePlan {
  readonly before: Pick<VmRecord, 'specification' | 'placement' | 'wanted'>
  readonly ran: boolean
  readonly placement: Placement
}

export function replaceSteps(params: VmRestoreParams, host: Host): readonly Step[] {
  const { vm, uuid, start } = params
  const require = async (operation: Operation) =>
    await host.vms.require(vm, { signal: operation.signal, uuid })
  return [
    {
      name: 'look the snapshot up',
      apply: async (operation) => {
        const { backedUp: _not, ...found } = await lookUp(params, host, operation)
        const record = await require(operation)
        // For either disk: the backup may hold one that the VM has not.
        const keys = host.placements.diskKeys({ ...record.specification, dataDiskBytes: 0 })
        return { ...found, ...swapOf(record, found.disks, { id: operation.id, keys }) }
      }
    },
    {
      name: 'restore the disks beside the old ones',
      apply: async (operation) => {
        const { disks, placement, snapshot, specification } = swapIn(operation)
        await requireRoom(disks, host, operation)
        const volumes = disks.map(({ role }) => ({ role, ...volumeOf(placement, role) }))
        const query = { ...params, snapshot }
        return await host.backups.restorer.toVolumes(query, { vm: specification, volumes }, operation)
      },
      undo: onceLookedUp(async (operation, { before, placement }) => {
        await host.keys.sealed.destroyKeys(keysOnlyIn(placement, before.placement), operation)
        for (const volume of volumesOnlyIn(placement, before.placement))
          await host.hypervisor.removeVolume(volume, operation)
      })
    },
    {
      name: 'switch it off',
      apply: async (operation) => {
        await require(operation)
        const generation = operation.subject?.generation
        const change = { wanted: 'stopped', ...(generation !== undefined && { generation }) } as const
        await host.hypervisor.annotate(vm, change, operation)
        const progress = operation.progress.bind(operation)
        const { graceMs } = host.config.stop
        await host.vms.stop(vm, { signal: operation.signal, progress, graceMs })
      },
      undo: onceLookedUp(async (operation, { before, ran }) => {
        const record = await require(operation)
        if (ran) await host.vms.start(record, operation)
        await host.hypervisor.annotate(vm, { wanted: before.wanted }, operation)
      })
    },
    {
      name: 'put the disks in',
      apply: async (operation) => {
        const { specification, placement } = swapIn(operation)
        // Checkpoints are of the old disks: the next backup finds them to be of no use, unless these come back.
        await clearWhenFree(host, vm, operation)
        await redefine(await require(operation), { specification, placement }, host, operation)
      },
      undo: onceLookedUp(async (operation, { before }) => {
        const record = await require(operation)
        if (record.placement.rootVolume === before.placement.rootVolume && sameData(record, before)) return
        await host.hypervisor.cutPower(vm, operation)
        await redefine(record, before, host, operation)
      })
    },
    {
      name: start === false ? 'leave it off' : 'start and wait until it is ready',
      apply: async (operation) => {
        if (start !== false) {
          await host.vms.start(await require(operation), operation)
          await host.vms.awaitReady(swapIn(operation), operation)
          await host.hypervisor.annotate(vm, { wanted: 'running' }, operation)
        }
      },
      // The old disks may be gone from here on.
      final: true,
      undo: onceLookedUp((operation) => host.hypervisor.cutPower(vm, operation))
    },
    {
      name: 'remove the old disks',
      apply: async (operation) => {
        const { before, placement } = swapIn(operation)
        await toEnd('the key of an old disk could not be destroyed', operation, async () => {
          await host.keys.sealed.destroyKeys(keysOnlyIn(before.placement, placement), operation)
        })
        for (const volume of volumesOnlyIn(before.placement, placement))
          await toEnd('an old disk could not be removed', operation, () =>
            host.hypervisor.removeVolume(volume, operation)
          )
      }
    }
  ]
}

/** There is nothing to undo where the first step did not come to its end. */
function onceLookedUp(undo: (operation: Operation, swap: Swap) => Promise<void>): NonNullable<Step['undo']> {
  return async (operation) => {
    if (operation.notes.before !== undefined) await undo(operation, swapIn(operation))
  }
}

function swapIn({ notes }: Operation): Swap {
  return notes as unknown as Swap
}

function swapOf(
  { specification, placement, wanted, state }: VmRecord,
  disks: RestorePlan['disks'],
  { id, keys }: { id: string; keys: Pick<Placement, 'rootKey' | 'dataKey'> }
): Omit<Swap, keyof RestorePlan> & { specification: VmSpecification; notRestored: string[] } {
  const token = backupToken(id)
  const rootBytes = sizeOf(disks, 'root')
  const dataBytes = sizeOf(disks, 'data')
  const named = (role: string) => restoredVolumeName(specification, { token, role })
  const has = placement.dataVolume === null ? ['root'] : ['root', 'data']
  return {
    before: { specification, placement, wanted },
    ran: state !== 'stopped' && state !== 'crashed',
    specification: {
      ...specification,
      ...(rootBytes !== undefined && { rootDiskBytes: rootBytes }),
      ...(dataBytes !== undefined && { dataDiskBytes: dataBytes })
    },
    placement: {
      ...withoutKeys(placement),
      ...keysOf(rootBytes === undefined ? placement : keys, 'rootKey'),
      ...keysOf(dataBytes === undefined ? placement : keys, 'dataKey'),
      ...(rootBytes !== undefined && { rootVolume: named('root'), rootStandsAlone: true }),
      ...(dataBytes !== undefined && { dataVolume: named('data') })
    },
    notRestored: has.filter((role) => !disks.some((disk) => disk.role === role))
  }
}

async function redefine(
  { generation, wanted, backupSchedule }: VmRecord,
  { specification, placement }: Pick<VmRecord, 'specification' | 'placement'>,
  host: Host,
  operation: Operation
): Promise<void> {
  // The drive of a seed that is done with stays, so that other devices keep their places in the machine.
  const seedPath = specification.seed === undefined ? null : host.seeds.path(specification.uuid)
  const kept = { generation, wanted, ...(backupSchedule && { backupSchedule }) }
  await host.hypervisor.define({ specification, placement, ...kept, seedPath }, operation)
}

function withoutKeys({ rootKey: _root, dataKey: _data, ...rest }: Placement): Placement {
  return rest
}

/** Nothing at all where the disk is not encrypted. */
function keysOf(
  from: Pick<Placement, 'rootKey' | 'dataKey'>,
  which: 'rootKey' | 'dataKey'
): Pick<Placement, 'rootKey' | 'dataKey'> {
  const id = from[which]
  return id === undefined ? {} : { [which]: id }
}

function keysOnlyIn(placement: Placement, other: Placement): (string | undefined)[] {
  const others = [other.rootKey, other.dataKey]
  return [placement.rootKey, placement.dataKey].filter((id) => !others.includes(id))
}

function volumeOf(placement: Placement, role: 'root' | 'data'): { volume: string; key: string | undefined } {
  const volume = role === 'root' ? placement.rootVolume : placement.dataVolume
  const key = role === 'root' ? placement.rootKey : placement.dataKey
  if (volume !== null) return { volume, key }
  throw new HostletError('E_INTERNAL', `no volume is named for the ${role} disk`)
}

function volumesOnlyIn(placement: Placement, other: Placement): string[] {
  const others = [other.rootVolume, other.dataVolume]
  return [placement.rootVolume, placement.dataVolume].filter(
    (volume) => volume !== null && !others.includes(volume)
  ) as string[]
}

function sameData(record: Pick<VmRecord, 'placement'>, other: Pick<VmRecord, 'placement'>): boolean {
  return record.placement.dataVolume === other.placement.dataVolume
}

/** The restore is done by then: what stays is told, and goes with its VM. */
async function toEnd(fault: string, operation: Operation, work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    operation.signal.throwIfAborted()
    operation.log.warn({ error }, fault)
  }
}
