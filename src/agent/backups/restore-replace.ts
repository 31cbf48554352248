// The steps of a restore that puts disks into a VM that exists.

import { HostletError } from '../../errors.ts'
import type { VmRestoreParams } from '../../protocol/backup.ts'
import type { Host } from '../host/host.ts'
import type { Placement, VmRecord } from '../host/hypervisor.ts'
import { backupToken, restoredVolumeName } from '../host/names.ts'
import { beforeOf, DiskSwap, onceLookedUp, type Swap, swapIn } from '../lifecycle/disk-swap.ts'
import type { Operation, Step } from '../operations/verb.ts'
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
        const record = await swap.require(operation)
        return { ...found, ...swapOf(record, found.disks, operation) }
      }
    },
    {
      name: 'restore the disks beside the old ones',
      apply: async (operation) => {
        const { disks, placement, snapshot } = swapIn(operation) as RestoreSwap
        await requireRoom(disks, host, operation)
        const volumes = disks.map(({ role }) => ({ role, volume: volumeOf(placement, role) }))
        return await host.backups.restorer.toVolumes({ ...params, snapshot }, volumes, operation)
      },
      undo: onceLookedUp((operation, made) => swap.removeNew(operation, made))
    },
    swap.switchOff(),
    swap.putIn(),
    swap.settle({ start: start !== false }),
    swap.dropOld()
  ]
}

function swapOf(
  record: VmRecord,
  disks: RestorePlan['disks'],
  { id }: Operation
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
      ...placement,
      ...(rootBytes !== undefined && { rootVolume: named('root'), rootStandsAlone: true }),
      ...(dataBytes !== undefined && { dataVolume: named('data') })
    },
    notRestored: has.filter((role) => !disks.some((disk) => disk.role === role))
  }
}

function volumeOf(placement: Placement, role: 'root' | 'data'): string {
  const volume = role === 'root' ? placement.rootVolume : placement.dataVolume
  if (volume !== null) return volume
  throw new HostletError('E_INTERNAL', `no volume is named for the ${role} disk`)
}
