// The steps of a restore that makes a VM, or a throw-away machine that shows whether a backup boots.

import { HostletError } from '../../errors.ts'
import type { VmRestoreParams } from '../../protocol/backup.ts'
import type { VmSpecification } from '../../protocol/vm.ts'
import type { Host } from '../host/host.ts'
import type { VmRecord, Wait } from '../host/hypervisor.ts'
import { isMade, isPastItsDisks, Making, mayUndo } from '../host/making.ts'
import { macAddressOf } from '../host/names.ts'
import { releaseAddress, unclaim } from '../host/own-network.ts'
import { isClaimOf } from '../host/placement.ts'
import type { Operation, Step } from '../operations/verb.ts'
import { lazily, lookUp, planOf, type RestorePlan, requireRoom, sizeOf } from './restore-plan.ts'
import type { VolumeToRestore } from './restorer.ts'

export function newVmSteps(params: VmRestoreParams, host: Host): readonly Step[] {
  const generationOf = ({ subject }: Operation) => subject?.generation ?? 0
  const making = new Making(host.hypervisor)
  const made = (plan: RestorePlan): MadeVm => ({ ...params, plan, host, generationOf, making })
  return [
    {
      name: 'look the snapshot up',
      apply: async (operation) => {
        const { backedUp, ...found } = await lookUp(params, host, operation)
        const { vm: name, uuid, profile = backedUp.profile } = params
        host.placements.profile(profile)
        const asked = specificationOf(backedUp, found.disks, { name, uuid, profile })
        const specification = await host.firewall.fitted(asked, await host.hypervisor.listVms(operation))
        if (params.start !== false) {
          host.vms.requireMemory(specification)
          await host.resources.check(specification, operation)
        }
        return {
          ...found,
          specification,
          notRestored: sizeOf(found.disks, 'data') ? [] : missing(specification)
        }
      }
    },
    lazily('claim name, user and address', (plan) => claimStep(made(plan))),
    lazily('reserve the address', (plan) => reserveStep(made(plan))),
    lazily('restore the disks', (plan) => disksStep(made(plan))),
    ...(params.start === false
      ? []
      : [
          lazily('start', (plan) => startStep(made(plan))),
          lazily('wait until it is ready', (plan) => readyStep(made(plan)))
        ])
  ]
}

/** A VM that is being made of a backup. */
export interface MadeVm {
  readonly target: string
  readonly source: string
  readonly plan: RestorePlan
  readonly host: Host
  readonly making: Making
  /** See Placement. */
  readonly trial?: true
  generationOf(operation: Operation): number
}

/** Of another name, on disks of the size that the backup has. */
export function specificationOf(
  backedUp: VmSpecification,
  disks: RestorePlan['disks'],
  as: { name: string; uuid: string; profile: string }
): VmSpecification {
  const rootDiskBytes = sizeOf(disks, 'root')
  if (rootDiskBytes === undefined)
    throw new HostletError(
      'E_BAD_REQUEST',
      'the snapshot holds no root disk, of which alone a VM can be made. Put its disks into the VM with "replace", or export them.'
    )
  const dataDiskBytes = sizeOf(disks, 'data')
  return { ...backedUp, ...as, rootDiskBytes, ...(dataDiskBytes !== undefined && { dataDiskBytes }) }
}

function missing({ dataDiskBytes }: VmSpecification): string[] {
  return dataDiskBytes === undefined ? [] : ['data']
}

/** As of vm.provision: from the definition alone everything else can be found and removed. */
export function claimStep({ source, plan, host, trial, generationOf }: MadeVm): Step {
  const { specification } = plan
  return {
    name: 'claim',
    apply: async (operation) => {
      await host.placements.claim(
        {
          specification,
          generation: generationOf(operation),
          // The drive of a seed that is not there: without it other devices would change their places in the machine.
          seedPath: specification.seed === undefined ? null : host.seeds.path(specification.uuid),
          rootStandsAlone: true,
          macAddress: macAddressOf(source),
          ...(trial && { trial })
        },
        operation
      )
    },
    undo: async (operation) => {
      const record = await undoable({ plan, host, generationOf }, operation)
      if (record !== undefined) await unclaim(record, host, operation)
    }
  }
}

function reserveStep(made: MadeVm): Step {
  const { plan, host } = made
  const { name: vm } = plan.specification
  return {
    name: 'reserve',
    apply: async (operation) => {
      const record = await requireOwn(made, operation)
      const { network, macAddress, address } = record.placement
      await host.hypervisor.ensureNetwork(host.placements.networkOf(record), operation)
      await host.hypervisor.addReservation(network, { macAddress, address, vm }, operation)
    },
    undo: async (operation) => {
      const record = await undoable(made, operation)
      if (record !== undefined) await releaseAddress(record, host, operation)
    }
  }
}

export function disksStep(made: MadeVm): Step {
  const { target, source, plan, host } = made
  const { specification, disks, snapshot } = plan
  return {
    name: 'disks',
    apply: async (operation) => {
      const record = await requireOwn(made, operation)
      if (isPastItsDisks(record)) return { restoredBytes: bytesOf(disks) }
      const { placement } = record
      // Those of an attempt that a crash cut short.
      await host.storage.removeDisks(specification, operation)
      await requireRoom(disks, host, operation)
      const volumes: VolumeToRestore[] = []
      for (const { role } of disks) {
        const volume = role === 'root' ? placement.rootVolume : placement.dataVolume
        const key = role === 'root' ? placement.rootKey : placement.dataKey
        if (volume !== null) volumes.push({ role, volume, key })
      }
      const query = { target, source, snapshot }
      const disksOfVm = { vm: specification, volumes }
      const restored = await host.backups.restorer.toVolumes(query, disksOfVm, operation)
      if (!volumes.some(({ role }) => role === 'data'))
        await host.storage.createDataDisk(specification, placement, operation)
      return restored
    },
    undo: async (operation) => {
      if (await undoable(made, operation)) await host.storage.removeDisks(specification, operation)
    }
  }
}

export function startStep(made: MadeVm): Step {
  const { plan, host, trial } = made
  const { name } = plan.specification
  return {
    name: 'start',
    apply: async (operation) => {
      const record = await requireOwn(made, operation)
      if (trial) return await host.hypervisor.start(name, operation)
      if (!isMade(record)) await host.vms.start(record, operation)
    },
    undo: async (operation) => {
      const record = await own(made, operation)
      if (record !== undefined && !isMade(record)) await host.hypervisor.cutPower(name, operation)
    }
  }
}

function readyStep(made: MadeVm): Step {
  const { plan, host, making } = made
  const { specification } = plan
  return {
    name: 'ready',
    apply: async (operation) => {
      const record = await requireOwn(made, operation)
      if (isMade(record)) return
      // A boot of the host may have switched it off since.
      await host.vms.start(record, operation)
      await host.vms.awaitReady({ specification, placement: record.placement }, operation)
      await making.announce(specification.name, operation)
    },
    undo: async (operation) => {
      const record = await own(made, operation)
      if (record !== undefined) await making.takeBackNew(record, operation)
    }
  }
}

/** The VM of this very operation. Another one of the name is none of its business. */
async function own(
  { plan, host, generationOf }: Pick<MadeVm, 'plan' | 'host' | 'generationOf'>,
  operation: Operation & Wait
): Promise<VmRecord | undefined> {
  const { specification } = plan
  const record = await host.hypervisor.findVm(specification.name, operation)
  const claim = { specification, generation: generationOf(operation) }
  return record && isClaimOf(record, claim) ? record : undefined
}

/** The same, as long as it may be undone. */
async function undoable(
  made: Pick<MadeVm, 'plan' | 'host' | 'generationOf'>,
  operation: Operation
): Promise<VmRecord | undefined> {
  const record = await own(made, operation)
  return record !== undefined && mayUndo(record) ? record : undefined
}

function bytesOf(disks: RestorePlan['disks']): number {
  return disks.reduce((sum, { allocatedBytes }) => sum + allocatedBytes, 0)
}

async function requireOwn(made: MadeVm, operation: Operation): Promise<VmRecord> {
  const record = await own(made, operation)
  if (record !== undefined) return record
  const { name } = planOf(operation).specification
  throw new HostletError(
    'E_CONFLICT',
    `VM ${name} was removed or replaced while it was being restored. Look at the host, then ask anew.`,
    { details: { vm: name } }
  )
}
