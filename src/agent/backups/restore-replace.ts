// The steps of a restore that puts disks into a VM that exists.

import { HostletError } from '../../errors.ts'
import type { VmRestoreParams } from '../../protocol/backup.ts'
import type { Host } from '../host/host.ts'
import type { Placement, VmRecord, Wait } from '../host/hypervisor.ts'
import { backupToken, restoredVolumeName } from '../host/names.ts'
import { beforeOf, DiskSwap, onceLookedUp, type Swap, swapIn } from '../lifecycle/disk-swap.ts'
import type { Step } from '../operations/verb.ts'
import { requireGrowthWithinLimits } from '../policy/limits.ts'
import { policyPath } from '../policy/paths.ts'
import { lookUp, type RestorePlan, requireRoom, sizeOf } from './restore-plan.ts'

/** What the first step leaves behind. */
type RestoreSwap = Swap & RestorePlan

export function replaceSteps(params: VmRestoreParams, host: Host): readonly Step[] {
  const { vm, uuid, start } = params
  const swap = new DiskSwap({ vm, uuid, host })
  return [
    {
      name: 'look the snapshot up',
      apply: async (operation) => {
        const { backedUp: _not, ...found } = await lookUp(params, host, operation)
        const record = await swap.requireBefore(operation)
        // For either disk: the backup may hold one that the VM has not.
        const keys = host.placements.diskKeys({ ...record.specification, dataDiskBytes: 0 })
        const made = swapOf(record, found.disks, { id: operation.id, keys })
        await requireSizes(made, host, operation)
        return { ...found, ...made }
      }
    },
    {
      name: 'restore the disks beside the old ones',
      apply: async (operation) => {
        await swap.requireBefore(operation)
        const { disks, placement, snapshot, specification } = swapIn(operation) as RestoreSwap
        await requireRoom(disks, host, operation)
        const volumes = disks.map(({ role }) => ({ role, ...volumeOf(placement, role) }))
        const query = { ...params, snapshot }
        return await host.backups.restorer.toVolumes(query, { vm: specification, volumes }, operation)
      },
      undo: onceLookedUp((operation, made) => swap.removeNew(operation, made))
    },
    swap.switchOff(),
    swap.putIn(),
    swap.settle({ start: start !== false }),
    swap.dropOld()
  ]
}

/** Only the backup tells how large the disks will be. */
async function requireSizes({ before, specification: to }: Swap, host: Host, wait: Wait): Promise<void> {
  const path = host.config.backup?.policy ?? policyPath
  const from = before.specification
  requireGrowthWithinLimits(path, { from, to }, await host.hypervisor.listVms(wait))
}

export function swapOf(
  record: VmRecord,
  disks: RestorePlan['disks'],
  { id, keys }: { id: string; keys: Pick<Placement, 'rootKey' | 'dataKey'> }
): Swap & { notRestored: string[] } {
  const { specification, placement } = record
  const token = backupToken(id)
  const rootBytes = sizeOf(disks, 'root')
  const dataBytes = sizeOf(disks, 'data')
  const named = (role: string) => restoredVolumeName(specification, { token, role })
  const has = placement.dataVolume === null ? ['root'] : ['root', 'data']
  return {
    ...beforeOf(record),
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

function volumeOf(placement: Placement, role: 'root' | 'data'): { volume: string; key: string | undefined } {
  const volume = role === 'root' ? placement.rootVolume : placement.dataVolume
  const key = role === 'root' ? placement.rootKey : placement.dataKey
  if (volume !== null) return { volume, key }
  throw new HostletError('E_INTERNAL', `no volume is named for the ${role} disk`)
}
