// The steps that give a VM other disks: it keeps its old ones until it is ready with the new ones, and has them back if it is not.

import { HostletError } from '../../errors.ts'
import type { VmSpecification } from '../../protocol/vm.ts'
import { clearWhenFree } from '../backups/clear.ts'
import type { Host } from '../host/host.ts'
import type { Placement, VmRecord, Wait } from '../host/hypervisor.ts'
import { isMade, Making } from '../host/making.ts'
import { refuseRetained } from '../host/retained.ts'
import type { Operation, Step } from '../operations/verb.ts'

/** The VM as it was, and as it will be: kept in the notes of the operation, by its first step. */
export interface Swap {
  readonly before: Pick<VmRecord, 'specification' | 'placement' | 'wanted'>
  readonly ran: boolean
  readonly specification: VmSpecification
  readonly placement: Placement
  /** Expiry of the lease that the VM had when it was off, 0 without one. */
  readonly leaseBefore?: number
}

export interface SwapOptions {
  readonly vm: string
  /** Of the VM, where the command names it. */
  readonly uuid?: string
  readonly host: Host
}

export class DiskSwap {
  readonly #options: SwapOptions
  readonly #making: Making

  constructor(options: SwapOptions) {
    this.#options = options
    this.#making = new Making(options.host.hypervisor)
  }

  /** Throws E_NOT_FOUND, and E_CONFLICT for another VM of the name or one that is only kept to be erased. */
  async require({ signal, subject }: Operation): Promise<VmRecord> {
    const { vm, host, uuid = subject?.uuid } = this.#options
    return refuseRetained(await host.vms.require(vm, { signal, uuid }))
  }

  /** Before the VM is touched. Throws E_CONFLICT when it was already, which an older copy of the journal does not know. */
  async requireBefore(operation: Operation): Promise<VmRecord> {
    const record = await this.require(operation)
    if (operation.subject === undefined || record.generation < operation.subject.generation) return record
    const { vm } = this.#options
    throw new HostletError(
      'E_CONFLICT',
      `VM ${vm} has carried out this command already, as its own metadata say: the agent's records are older. It was left as it is; look at it, and ask anew where something is missing.`,
      { details: { vm } }
    )
  }

  /** It was ready with its new disks: from then on the old ones may be gone. */
  isSettled(record: VmRecord, swap: Swap): boolean {
    return sameDisks(record, swap) && !sameDisks(record, swap.before) && isMade(record)
  }

  switchOff(): Step {
    const { vm, host } = this.#options
    return {
      name: 'switch it off',
      apply: async (operation) => {
        const swap = swapIn(operation)
        if (sameDisks(await this.require(operation), swap) && !sameDisks(swap, swap.before)) return
        const generation = operation.subject?.generation
        const change = { wanted: 'stopped', ...(generation !== undefined && { generation }) } as const
        await host.hypervisor.annotate(vm, change, operation)
        const progress = operation.progress.bind(operation)
        const { graceMs } = host.config.stop
        await host.vms.stop(vm, { signal: operation.signal, progress, graceMs })
      },
      undo: onceLookedUp(async (operation, swap) => {
        const { before, ran } = swap
        const record = await this.require(operation)
        if (this.isSettled(record, swap)) return
        // It keeps the new disks, see `putIn`.
        if (!sameDisks(record, before) && (await this.#goneOf(before, operation)).length > 0) return
        if (ran) await host.vms.start(record, operation)
        await host.hypervisor.annotate(vm, { wanted: before.wanted }, operation)
      })
    }
  }

  putIn(): Step {
    const { vm, host } = this.#options
    return {
      name: 'put the disks in',
      apply: async (operation) => {
        const swap = swapIn(operation)
        const { specification, placement } = swap
        if (this.isSettled(await this.require(operation), swap)) return
        // Checkpoints are of the old disks: the next backup finds them to be of no use, unless these come back.
        await clearWhenFree(host, vm, operation)
        await redefine(await this.require(operation), { specification, placement }, host, operation)
        return { leaseBefore: await leaseOf(placement, host, operation) }
      },
      undo: onceLookedUp(async (operation, swap) => {
        const { before } = swap
        const record = await this.require(operation)
        if (sameDisks(record, before) || this.isSettled(record, swap)) return
        await this.#requireOld(before, operation)
        await host.hypervisor.cutPower(vm, operation)
        await redefine(record, before, host, operation)
      })
    }
  }

  /** The old disks may be gone once it is done. `start: false` leaves the VM off, and believes in the new ones unseen. */
  settle({ start, readyWithinMs }: { start: boolean; readyWithinMs?: number | undefined }): Step {
    const { vm, host } = this.#options
    return {
      name: start ? 'start and wait until it is ready' : 'leave it off',
      apply: async (operation) => {
        if (!start) return
        const swap = swapIn(operation)
        const record = await this.require(operation)
        if (this.isSettled(record, swap)) return
        await host.vms.start(record, operation)
        const { leaseBefore } = swap
        const { signal } = operation
        const progress = operation.progress.bind(operation)
        await host.vms.awaitReady(swap, { signal, progress, readyWithinMs, leaseBefore })
        await this.#making.announce(vm, operation)
      },
      final: true,
      undo: onceLookedUp(async (operation, swap) => {
        await this.#making.takeBack(vm, operation)
        if (!this.isSettled(await this.require(operation), swap))
          await host.hypervisor.cutPower(vm, operation)
      })
    }
  }

  dropOld(): Step {
    return {
      name: 'remove the old disks',
      apply: async (operation) => {
        const { before, placement } = swapIn(operation)
        const unused = await this.#unused(disksOnlyIn(before.placement, placement), operation)
        for (const disk of unused) await this.#drop(disk, operation)
      }
    }
  }

  /** Removes what was made for the new disks. */
  async removeNew(operation: Operation, { before, placement }: Swap): Promise<void> {
    const unused = await this.#unused(disksOnlyIn(placement, before.placement), operation)
    for (const disk of unused) await this.#remove(disk, operation)
  }

  /** Those that the VM does not have now, whatever the journal says. */
  async #unused(disks: readonly Disk[], wait: Wait): Promise<readonly Disk[]> {
    const { vm, host } = this.#options
    const placement = (await host.hypervisor.findVm(vm, wait))?.placement
    return disks.filter(({ volume }) => volume !== placement?.rootVolume && volume !== placement?.dataVolume)
  }

  /** Disks that are not there any more. */
  async #goneOf({ placement }: Pick<VmRecord, 'placement'>, wait: Wait): Promise<string[]> {
    const volumes = await this.#options.host.hypervisor.listVolumes(wait)
    const there = new Set(volumes.map(({ name }) => name))
    const names = [placement.rootVolume, placement.dataVolume]
    return names.filter((name) => name !== null).filter((name) => !there.has(name))
  }

  /** Throws E_CONFLICT when there is nothing to go back to. */
  async #requireOld(before: Pick<VmRecord, 'placement'>, wait: Wait): Promise<void> {
    const { vm } = this.#options
    const gone = await this.#goneOf(before, wait)
    if (gone.length === 0) return
    throw new HostletError(
      'E_CONFLICT',
      `VM ${vm} keeps its new disks: of the old ones ${gone.join(', ')} ${gone.length === 1 ? 'is' : 'are'} gone`,
      { details: { vm } }
    )
  }

  /** The swap is done by then: a disk that stays is told, and goes with its VM. */
  async #drop(disk: Disk, operation: Operation): Promise<void> {
    try {
      await this.#remove(disk, operation)
    } catch (error) {
      operation.signal.throwIfAborted()
      operation.log.warn({ error, volume: disk.volume }, 'an old disk could not be removed')
    }
  }

  async #remove(disk: Disk, operation: Operation): Promise<void> {
    const { storage } = this.#options.host
    const { specification } = swapIn(operation).before
    await storage.removeDisk(specification, disk, operation)
  }
}

/** There is nothing to undo where the first step did not come to its end. */
export function onceLookedUp(
  undo: (operation: Operation, swap: Swap) => Promise<void>
): NonNullable<Step['undo']> {
  return async (operation) => {
    if (operation.notes.before !== undefined) await undo(operation, swapIn(operation))
  }
}

export function swapIn({ notes }: Operation): Swap {
  return notes as unknown as Swap
}

export function beforeOf({
  specification,
  placement,
  wanted,
  state
}: VmRecord): Pick<Swap, 'before' | 'ran'> {
  return { before: { specification, placement, wanted }, ran: state !== 'stopped' && state !== 'crashed' }
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

async function leaseOf(
  { network, macAddress }: Placement,
  { hypervisor }: Host,
  wait: Wait
): Promise<number> {
  const leases = await hypervisor.listLeases(network, wait)
  return Math.max(0, ...leases.map((lease) => (lease.macAddress === macAddress ? (lease.expiresAt ?? 0) : 0)))
}

interface Disk {
  readonly volume: string
  readonly key: string | undefined
}

function disksOnlyIn(placement: Placement, other: Placement): Disk[] {
  const { rootVolume, rootKey, dataVolume, dataKey } = placement
  const disks = [
    { volume: rootVolume, key: rootKey },
    ...(dataVolume === null ? [] : [{ volume: dataVolume, key: dataKey }])
  ]
  return disks.filter(({ volume }) => volume !== other.rootVolume && volume !== other.dataVolume)
}

function sameDisks(record: Pick<VmRecord, 'placement'>, other: Pick<VmRecord, 'placement'>): boolean {
  const { rootVolume, dataVolume } = other.placement
  return record.placement.rootVolume === rootVolume && record.placement.dataVolume === dataVolume
}
