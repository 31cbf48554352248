// The steps that give a VM a new root disk made of another image; its data disk, address and user stay.

import { HostletError } from '../../errors.ts'
import type { VmReimageParams } from '../../protocol/lifecycle.ts'
import type { Seed, VmSpecification } from '../../protocol/vm.ts'
import { seedContentOf } from '../guest/seed-content.ts'
import type { Host } from '../host/host.ts'
import type { VmRecord } from '../host/hypervisor.ts'
import { backupToken, restoredVolumeName } from '../host/names.ts'
import { withoutSecrets } from '../host/placement.ts'
import type { Operation, Step } from '../operations/verb.ts'
import { beforeOf, DiskSwap, onceLookedUp, type Swap, swapIn } from './disk-swap.ts'

export function reimageSteps(params: VmReimageParams, host: Host): readonly Step[] {
  const { vm, image, readyWithinMs } = params
  const swap = new DiskSwap({ vm, host })
  return [
    {
      name: 'look at the VM',
      apply: async (operation) => ({
        ...swapOf(await swap.requireBefore(operation), params, { host, operation })
      })
    },
    {
      name: 'fetch the image',
      apply: async (operation) => {
        await swap.requireBefore(operation)
        const { virtualSizeBytes } = await host.images.ensure(image, operation)
        requireRoomFor(virtualSizeBytes, swapIn(operation).specification)
      }
    },
    {
      name: 'make the new root disk beside the old one',
      apply: async (operation) => {
        await swap.requireBefore(operation)
        const { specification, placement } = swapIn(operation)
        await host.storage.createRootDisk(specification, placement, operation)
      },
      undo: onceLookedUp((operation, made) => swap.removeNew(operation, made))
    },
    swap.switchOff(),
    {
      name: 'write the seed',
      apply: async (operation) => {
        const { specification, placement } = swapIn(operation)
        if (specification.seed === undefined) return
        if (swap.isSettled(await swap.require(operation), swapIn(operation))) return
        const seeded = { ...specification, seed: { ...specification.seed, ...params.seed } }
        await host.seeds.write(seeded, placement, await seedContentOf(seeded, host), operation)
      },
      undo: onceLookedUp(async (_operation, { before }) => host.seeds.remove(before.specification.uuid))
    },
    swap.putIn(),
    swap.settle({ start: true, readyWithinMs }),
    {
      name: 'take the seed out',
      apply: async (operation) => {
        const { specification } = swapIn(operation)
        if (specification.seed === undefined) return
        await host.hypervisor.ejectSeed(vm, operation)
        await host.seeds.remove(specification.uuid)
      }
    },
    swap.dropOld()
  ]
}

export function swapOf(
  record: VmRecord,
  { image, seed }: VmReimageParams,
  { host, operation }: { host: Host; operation: Operation }
): Swap {
  const { specification, placement } = record
  const { rootStandsAlone: _restored, rootKey: _old, ...kept } = placement
  const { rootKey } = host.placements.diskKeys(specification)
  const rootVolume = restoredVolumeName(specification, { token: backupToken(operation.id), role: 'root' })
  return {
    ...beforeOf(record),
    specification: withoutSecrets({ ...specification, image, ...seedOf(specification.seed, seed) }),
    placement: { ...kept, rootVolume, ...(rootKey !== undefined && { rootKey }) }
  }
}

/** A VM without a seed gets one only if the command brings it. */
function seedOf(known: Seed | undefined, given: Seed | undefined): { seed?: Seed } {
  return known === undefined && given === undefined ? {} : { seed: { ...known, ...given } }
}

export function requireRoomFor(virtualSizeBytes: number, { name, rootDiskBytes }: VmSpecification): void {
  if (virtualSizeBytes <= rootDiskBytes) return
  throw new HostletError(
    'E_BAD_REQUEST',
    `the root disk of VM ${name} has ${rootDiskBytes} bytes, its image needs ${virtualSizeBytes}. Ask for a larger root disk.`,
    { details: { vm: name, rootDiskBytes, imageBytes: virtualSizeBytes } }
  )
}
