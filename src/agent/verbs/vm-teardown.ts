// vm.teardown: removes a VM with everything that provision made, whole or half.

import { HostletError } from '../../errors.ts'
import { Type } from '../../lib/schema.ts'
import { strict, Uuid, VmName } from '../../protocol/names.ts'
import { clearWhenFree } from '../backups/clear.ts'
import type { Host } from '../host/host.ts'
import type { VmRecord, Wait } from '../host/hypervisor.ts'
import { possibleMacs } from '../host/placement.ts'
import { defineVerb, type Operation, type StepNotes } from '../operations/verb.ts'
import type { VerbDocument } from './document.ts'
import { refuseStale, subjectOf } from './subject.ts'

const removedMax = 64

export const vmTeardown = defineVerb<Host>()({
  name: 'vm.teardown',
  summary: 'Removes a VM, its disks, address and seed. Succeeds when there is nothing left to remove.',
  lock: 'vm',
  backups: 'end',
  changes: true,
  deadlineMs: 600_000,
  afterCrash: 'resume',
  params: Type.Object({ vm: VmName }, strict),
  result: Type.Object(
    {
      vm: VmName,
      uuid: Uuid,
      /** What there was: definition, disks, address. */
      removed: Type.Array(Type.String({ maxLength: 256 }), { maxItems: removedMax }),
      /** Whether the VM was defined when the teardown began. */
      existed: Type.Boolean()
    },
    strict
  ),

  async check({ vm }, host, operation) {
    const { generation } = subjectOf(operation, vm)
    const record = await recordOf(vm, host, operation)
    if (record !== undefined) refuseStale(record, generation)
    else await host.vms.refuseForeign(vm, operation)
  },

  steps: ({ vm }, host) => [
    {
      name: 'have it stay off',
      apply: async (operation) => {
        const record = await recordOf(vm, host, operation)
        // After a crash the definition may be gone already: what was noted before stays true.
        if (record === undefined) return { existed: operation.notes.existed === true }
        const { generation } = subjectOf(operation, vm)
        await host.hypervisor.annotate(vm, { generation, wanted: 'stopped' }, operation)
        return { existed: true }
      }
    },
    {
      name: 'cut the power',
      apply: async (operation) => {
        if (await recordOf(vm, host, operation)) await host.hypervisor.cutPower(vm, operation)
      }
    },
    {
      // Jobs and scratch files; checkpoints go with the definition. The backups themselves outlive the VM.
      name: 'remove what backups left',
      apply: async (operation) => {
        if (await recordOf(vm, host, operation)) await clearWhenFree(host, vm, operation)
      }
    },
    {
      name: 'remove the address, and the network where the VM has its own',
      apply: async (operation) => removed(operation, await removeReservations(vm, host, operation))
    },
    {
      name: 'remove the disks',
      apply: async (operation) => {
        const { uuid } = subjectOf(operation, vm)
        return removed(operation, await host.storage.removeDisks({ name: vm, uuid }, operation))
      }
    },
    {
      name: 'remove the seed and the console log',
      apply: async (operation) => {
        const { uuid } = subjectOf(operation, vm)
        await host.seeds.remove(uuid)
        await host.consoles.remove(uuid)
      }
    },
    {
      // Last: as long as it stands, a teardown that was cut short finds the rest.
      name: 'remove the definition',
      apply: async (operation) => {
        if ((await recordOf(vm, host, operation)) === undefined) return
        await host.hypervisor.undefine(vm, operation)
        return removed(operation, [`definition ${vm}`])
      }
    }
  ],

  outcome: ({ vm }, _host, operation) => {
    const { uuid } = subjectOf(operation, vm)
    const { removed: list, existed } = operation.notes
    const names = Array.isArray(list) ? list.map(String).slice(0, removedMax) : []
    return Promise.resolve({ vm, uuid, removed: names, existed: existed === true })
  }
})

/** The VM of the command; undefined when it is gone. Throws E_CONFLICT when the name belongs to another VM of ours. */
async function recordOf(vm: string, host: Host, operation: Operation): Promise<VmRecord | undefined> {
  const { uuid } = subjectOf(operation, vm)
  const record = await host.hypervisor.findVm(vm, operation)
  if (record === undefined || record.specification.uuid === uuid) return record
  throw new HostletError(
    'E_CONFLICT',
    `the VM ${vm} on this host is ${record.specification.uuid}, the command is about ${uuid}. Nothing was removed.`,
    { details: { vm, uuid: record.specification.uuid } }
  )
}

/** By MAC, which follows from the UUID: also the reservation of a VM whose definition is gone. */
async function removeReservations(vm: string, host: Host, operation: Operation): Promise<string[]> {
  const record = await recordOf(vm, host, operation)
  const { uuid } = subjectOf(operation, vm)
  const macs = new Set([...possibleMacs(uuid), ...(record ? [record.placement.macAddress] : [])])
  const gone: string[] = []
  const shared = new Set([...host.placements.networkNames, ...(record ? [record.placement.network] : [])])
  for (const network of shared) {
    for (const { macAddress, address } of await reservationsOf(network, host, operation)) {
      if (!macs.has(macAddress)) continue
      await host.hypervisor.removeReservation(network, macAddress, operation)
      gone.push(`address ${address}`)
    }
  }
  return [...gone, ...(await removeOwnNetworks(uuid, host, operation))]
}

/** Also of a VM whose definition is gone: the names follow from the UUID. */
async function removeOwnNetworks(uuid: string, host: Host, operation: Operation): Promise<string[]> {
  const names = new Set(host.placements.ownNetworksOf(uuid))
  const there = (await host.hypervisor.listNetworks(operation)).filter(({ name }) => names.has(name))
  for (const { name } of there) await host.hypervisor.removeNetwork(name, operation)
  return there.map(({ name }) => `network ${name}`)
}

/** A profile that no VM ever had on this host has no network yet. */
async function reservationsOf(network: string, host: Host, wait: Wait) {
  try {
    return await host.hypervisor.listReservations(network, wait)
  } catch (error) {
    if (error instanceof HostletError && error.code === 'E_NOT_FOUND') return []
    throw error
  }
}

function removed(operation: Operation, names: readonly string[]): StepNotes {
  const before = Array.isArray(operation.notes.removed) ? operation.notes.removed : []
  return { removed: [...before, ...names] }
}

export const document: VerbDocument = {
  errors: {
    E_CONFLICT:
      "the name belongs to another VM or to a domain that is not hostlet's; neither is touched, nothing is removed",
    E_STALE: 'the VM has carried out a newer command',
    E_UNAVAILABLE: 'libvirt is away'
  },
  crash: 'Runs on until nothing is left.',
  remarks: [
    'The power is cut without asking the guest: its disks are removed anyway. Stop it first where the guest should say goodbye.',
    'Also removes what a half-made VM left: disks by name and UUID, the address by the MAC that follows from the UUID.',
    'A backup that runs or waits is cancelled: its result says so.',
    'Backups of the VM stay in their repositories: it can be restored from them.',
    'Base images stay: other VMs may use them. What no VM uses is removed when the room for images is needed.'
  ],
  example: { vm: 'web-1' }
}
