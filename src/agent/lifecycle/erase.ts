// The steps that erase a VM: its keys first, then its volumes and everything else, and the host's word on it at the end.

import { asHostletError, HostletError } from '../../errors.ts'
import type { EraseCertificate } from '../../protocol/lifecycle.ts'
import { clearWhenFree } from '../backups/clear.ts'
import type { KnownBackups } from '../backups/erasure.ts'
import type { Host } from '../host/host.ts'
import type { VmRecord, Wait } from '../host/hypervisor.ts'
import { shortId } from '../host/names.ts'
import { possibleMacs } from '../host/placement.ts'
import type { Operation, Step, StepNotes } from '../operations/verb.ts'
import { subjectOf } from '../verbs/subject.ts'
import type { EraseFacts } from './erase-certificates.ts'
import { offSince, writeEarly, writeLate } from './stay-off.ts'

export interface Erase {
  readonly vm: string
  readonly host: Host
  /** Whether its backups go too. */
  backups(operation: Operation): boolean
  /** Where it is known beforehand that they stay. */
  readonly keepsBackups?: boolean
}

type Key = EraseCertificate['keys'][number]
type Volume = EraseCertificate['volumes'][number]

/** What the steps leave behind, each for those after it; what was found is noted before any of it is gone. */
interface EraseNotes {
  readonly existed?: boolean
  readonly startedAt?: number
  /** With the outcome that they have once they are destroyed. */
  readonly keys?: readonly Key[]
  readonly volumes?: readonly {
    readonly name: string
    readonly encrypted: boolean
    readonly there: boolean
  }[]
  readonly volumesGone?: readonly Volume[]
  readonly known?: KnownBackups
  readonly backups?: EraseCertificate['backups']
  readonly removed?: readonly string[]
  readonly certificate?: string
  readonly certificateFault?: string
}

const reasonCharactersMax = 1_024

/** Told before the reason where an erase fails once its keys may be gone. */
export const eraseFailure =
  'The erase was begun and is not undone: keys that it destroyed stay destroyed, and disks that had them cannot be read any more. Tear the VM down again for the rest. What stopped it:'

export function eraseSteps(erase: Erase): readonly Step[] {
  const { vm, host } = erase
  return [
    {
      name: 'have it stay off',
      apply: async (operation) => {
        const record = await recordOf(vm, host, operation)
        const { existed = false, startedAt = host.clock.now() } = notesOf(operation)
        // After a crash the definition may be gone already: what was noted before stays true.
        if (record === undefined) return { existed, startedAt }
        return {
          existed: true,
          startedAt,
          ...(await writeEarly(host, vm, offSince(operation, vm), operation))
        }
      }
    },
    {
      name: 'cut the power',
      apply: async (operation) => {
        if (!(await recordOf(vm, host, operation))) return
        await host.hypervisor.cutPower(vm, operation)
        await writeLate(host, vm, offSince(operation, vm), operation)
      }
    },
    {
      // Jobs and scratch files; checkpoints go with the definition.
      name: 'remove what backups left',
      apply: async (operation) => {
        if (await recordOf(vm, host, operation)) await clearWhenFree(host, vm, operation)
      }
    },
    {
      name: 'note what there is',
      apply: async (operation) => {
        const { uuid } = subjectOf(operation, vm)
        const known = await host.backups.erasure.look(uuid, operation)
        return { ...(await present(erase, operation)), known }
      },
      // From here on keys may be gone: turning back would leave a VM that nobody can read, and no certificate.
      final: true
    },
    { name: 'destroy the keys', apply: (operation) => destroyKeys(erase, operation) },
    {
      name: 'remove the address, and the network where the VM has its own',
      apply: async (operation) => removed(operation, await removeReservations(vm, host, operation))
    },
    { name: 'remove the disks', apply: (operation) => removeVolumes(erase, operation) },
    {
      name: 'remove the seed and the logs',
      apply: async (operation) => {
        const { uuid } = subjectOf(operation, vm)
        await host.seeds.remove(uuid)
        await host.consoles.remove(uuid)
        await host.qemuLogs.remove(vm)
      }
    },
    {
      name: 'erase its backups where that was asked',
      idle: erase.keepsBackups === true,
      apply: (operation) => settleBackups(erase, operation)
    },
    {
      // As long as it stands, an erase that was cut short finds the rest.
      name: 'remove the definition',
      apply: async (operation) => {
        if ((await recordOf(vm, host, operation)) === undefined) return
        await host.hypervisor.undefine(vm, operation)
        return removed(operation, [`definition ${vm}`])
      }
    },
    {
      name: 'sign the certificate',
      apply: async (operation) => ({ ...(await host.certificates.make(factsOf(vm, operation))) })
    }
  ]
}

/** The result that all ways of erasing have in common. */
export function erasedResult(vm: string, operation: Operation) {
  const { uuid } = subjectOf(operation, vm)
  const {
    removed: gone = [],
    existed = false,
    volumesGone = [],
    certificate,
    certificateFault
  } = notesOf(operation)
  return {
    vm,
    uuid,
    removed: gone.slice(0, 128),
    remaining: volumesGone.filter(({ outcome }) => outcome === 'failed').map(({ name }) => name),
    existed,
    ...(certificate !== undefined && { certificate }),
    ...(certificateFault !== undefined && { certificateFault })
  }
}

/** The VM of the operation; undefined when it is gone. Throws E_CONFLICT when its name or its UUID is that of another VM. */
export async function recordOf(vm: string, host: Host, operation: Operation): Promise<VmRecord | undefined> {
  const { uuid } = subjectOf(operation, vm)
  const record = await host.hypervisor.findVm(vm, operation)
  if (record === undefined) {
    await refuseUuidOfOther({ vm, uuid }, host, operation)
    return await refuseQuarantined({ vm, uuid }, host, operation)
  }
  if (record.specification.uuid === uuid) return record
  throw new HostletError(
    'E_CONFLICT',
    `the VM ${vm} on this host is ${record.specification.uuid}, the command is about ${uuid}. Nothing was removed.`,
    { details: { vm, uuid: record.specification.uuid } }
  )
}

/** Keys, seed, address and backups go by UUID: under a wrong name they would be those of a VM that stands. */
async function refuseUuidOfOther(
  { vm, uuid }: { vm: string; uuid: string },
  host: Host,
  operation: Operation
): Promise<void> {
  const other = (await host.hypervisor.listVms(operation)).find(
    ({ specification }) => specification.uuid === uuid
  )
  // Between the two looks the VM itself may have been defined.
  if (other === undefined || other.specification.name === vm) return
  const { name } = other.specification
  throw new HostletError(
    'E_CONFLICT',
    `there is no VM ${vm} on this host, and ${uuid} is VM ${name}. Nothing was removed. Ask for ${name} if that is the one to go.`,
    { details: { vm, uuid, name } }
  )
}

/** What of it lies here is that of a domain which is not touched, whatever its name is. */
async function refuseQuarantined(
  { vm, uuid }: { vm: string; uuid: string },
  host: Host,
  operation: Operation
): Promise<undefined> {
  const foreign = await host.hypervisor.listForeign(operation)
  const found = foreign.find((domain) => domain.uuid === uuid || domain.name === vm)
  if (found === undefined) return undefined
  throw new HostletError(
    'E_CONFLICT',
    `VM ${vm} cannot be erased: domain ${found.name} (${found.uuid}) is not touched, since ${found.detail ?? "it is not hostlet's"} Nothing was removed.`,
    { details: { vm, domain: found.name } }
  )
}

function notesOf({ notes }: Operation): EraseNotes {
  return notes as EraseNotes
}

function removed(operation: Operation, names: readonly string[]): StepNotes {
  return { removed: [...(notesOf(operation).removed ?? []), ...names] }
}

/** Keys and volumes that the host has of the VM, and those that its definition names: what is missing is told too. */
async function present(
  { vm, host }: Erase,
  operation: Operation
): Promise<Pick<EraseNotes, 'keys' | 'volumes'>> {
  const { uuid } = subjectOf(operation, vm)
  const record = await recordOf(vm, host, operation)
  const held = host.keys.disks
    .listOf(uuid)
    .map(({ id, volume }): Key => ({ id, volume, outcome: 'destroyed' }))
  const named = record === undefined ? [] : disksOf(record)
  const lost = named.flatMap(({ key, name }): Key[] =>
    key === undefined || held.some(({ id }) => id === key)
      ? []
      : [{ id: key, volume: name, outcome: 'absent' }]
  )
  const keys = [...held, ...lost]
  const there = await volumesOf({ name: vm, uuid }, host, operation)
  const volumes = new Set([...there, ...named.map(({ name }) => name)])
  return {
    keys,
    volumes: [...volumes].map((name) => ({
      name,
      encrypted: keys.some(({ volume }) => volume === name),
      there: there.includes(name)
    }))
  }
}

function disksOf({ placement }: VmRecord): { name: string; key: string | undefined }[] {
  const { rootVolume, rootKey, dataVolume, dataKey } = placement
  return [
    { name: rootVolume, key: rootKey },
    ...(dataVolume === null ? [] : [{ name: dataVolume, key: dataKey }])
  ]
}

/** By name and UUID: also those of a VM whose definition is gone. */
async function volumesOf(
  vm: { name: string; uuid: string },
  { hypervisor }: Host,
  wait: Wait
): Promise<string[]> {
  const prefix = `${shortId(vm)}.`
  const volumes = await hypervisor.listVolumes(wait)
  return volumes.map(({ name }) => name).filter((name) => name.startsWith(prefix))
}

/** What throws here leaves every volume in its place: nothing goes before the keys. */
async function destroyKeys({ vm, host }: Erase, operation: Operation): Promise<StepNotes> {
  const { uuid } = subjectOf(operation, vm)
  const { keys = [] } = notesOf(operation)
  const late = host.keys.disks.listOf(uuid).map(({ id }) => id)
  // By the VM first: of keys that were lost with the state directory nobody here knows whose they are, and the scheduler
  // may still have a copy of them.
  await host.keys.sealed.destroyKeysOf({ uuid }, operation)
  await host.keys.sealed.destroyKeys([...new Set([...keys.map(({ id }) => id), ...late])], operation)
  const gone = keys.filter(({ outcome }) => outcome === 'destroyed')
  return removed(
    operation,
    gone.map(({ id }) => `key ${id}`)
  )
}

/** One that cannot be removed keeps no other from going: it is told, and asked for again by the next teardown. */
async function removeVolumes({ vm, host }: Erase, operation: Operation): Promise<StepNotes> {
  const { uuid } = subjectOf(operation, vm)
  const { volumes = [] } = notesOf(operation)
  const found = await volumesOf({ name: vm, uuid }, host, operation)
  const faults = new Map<string, string>()
  for (const name of found) {
    const fault = await faultOf(() => host.hypervisor.removeVolume(name, operation), operation)
    if (fault !== undefined) faults.set(name, fault)
  }
  const late = found.filter((name) => !volumes.some((volume) => volume.name === name))
  const all = [...volumes, ...late.map((name) => ({ name, encrypted: false, there: true }))]
  const volumesGone = all.map(({ name, encrypted, there }): Volume => {
    const reason = faults.get(name)
    if (reason !== undefined) return { name, encrypted, outcome: 'failed', reason }
    return { name, encrypted, outcome: there ? 'removed' : 'absent' }
  })
  const gone = volumesGone.filter(({ outcome }) => outcome === 'removed').map(({ name }) => name)
  return { volumesGone, ...removed(operation, gone) }
}

/** Undefined when it is done. */
async function faultOf(work: () => Promise<void>, operation: Operation): Promise<string | undefined> {
  try {
    await work()
    return undefined
  } catch (thrown) {
    operation.signal.throwIfAborted()
    const error = asHostletError(thrown)
    // What libvirt itself answered stays as it is; what may pass is thrown, and the step is tried again.
    if (error.code !== 'E_LIBVIRT' && (error.advice === 'retry' || error.advice === 'look')) throw error
    operation.log.error({ error }, 'a volume could not be removed')
    return error.message.slice(0, reasonCharactersMax)
  }
}

async function settleBackups(erase: Erase, operation: Operation): Promise<StepNotes> {
  const { vm, host } = erase
  const { known = { snapshots: [], unknown: [], notListed: 0 } } = notesOf(operation)
  if (!erase.backups(operation))
    return {
      backups: {
        asked: false,
        erased: [],
        remaining: known.snapshots,
        unknown: known.unknown,
        notListed: known.notListed
      }
    }
  return { backups: await host.backups.erasure.erase(subjectOf(operation, vm).uuid, known, operation) }
}

function factsOf(vm: string, operation: Operation): EraseFacts {
  const { keys = [], volumesGone = [], startedAt = 0, backups } = notesOf(operation)
  return {
    vm,
    uuid: subjectOf(operation, vm).uuid,
    operation: operation.id,
    startedAt,
    keys: [...keys],
    volumes: [...volumesGone],
    escrow: keys.map(({ id }) => id),
    backups: backups ?? { asked: false, erased: [], remaining: [], unknown: [], notListed: 0 }
  }
}

/**
 * By MAC, which follows from the UUID: also the reservation of a VM whose definition is gone. What was restored of its
 * backups may have its MAC by now: that stays.
 */
async function removeReservations(vm: string, host: Host, operation: Operation): Promise<string[]> {
  const record = await recordOf(vm, host, operation)
  const { uuid } = subjectOf(operation, vm)
  const macs = new Set([...possibleMacs(uuid), ...(record ? [record.placement.macAddress] : [])])
  const uses = await host.hypervisor.domainUses(operation)
  for (const other of uses) if (other.uuid !== uuid) for (const mac of other.macAddresses) macs.delete(mac)
  const gone: string[] = []
  const networks = new Set([...host.placements.networkNames, ...(record ? [record.placement.network] : [])])
  for (const network of networks) {
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
