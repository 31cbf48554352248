// What must hold once a world has come to rest.

import type { VmRecord } from '../../src/agent/host/hypervisor.ts'
import { diskOwner, shortId } from '../../src/agent/host/names.ts'
import { checkChain } from '../../src/agent/trail/check-chain.ts'
import { listTrail, readSegment, trailDirectory } from '../../src/agent/trail/segments.ts'
import { operationStatesEnded } from '../../src/protocol/api.ts'
import type { CommandRecord, Store } from '../../src/scheduler/store/store.ts'
import type { HostMachine } from './host-machine.ts'
import type { Promises } from './promises.ts'

const listMax = 10_000
const wait = { signal: new AbortController().signal }

export interface Rest {
  readonly promises: Promises
  readonly store: Store
  /** Those that are still in the fleet. */
  readonly machines: readonly HostMachine[]
}

/** Why it is not at rest yet; undefined once it is. */
export async function unrest({ store, machines }: Rest): Promise<string | undefined> {
  for (const machine of machines) {
    const { journal, name, hostId } = machine
    if (journal === undefined) return `${name} is not running`
    if ((await store.hosts.find(hostId))?.report?.state !== 'connected') return `${name} is not connected`
    const open = journal.unfinished()
    if (open.length > 0)
      return `${name} has not ended ${open.map(({ id, claims }) => `${claims.verb} ${id}`)}`
    const untold = journal.unacknowledged()
    if (untold.length > 0) return `${name} has not told ${untold.map(({ command }) => command)}`
  }
  const { items } = await store.commands.list({}, listMax)
  const open = items.filter(({ state }) => !operationStatesEnded.includes(state))
  if (open.length > 0)
    return `the scheduler waits for ${open.map(({ id, verb, state }) => `${verb} ${id} ${state}`)}`
  return undefined
}

/** For so long a look at libvirt that hung before all was quiet may keep the next one waiting. */
export const viewsMsMax = 120_000

export async function viewsAgree(rest: Rest): Promise<boolean> {
  for (const machine of rest.machines) {
    await rest.promises.look(machine)
    if ((await viewFault(machine, rest)) !== undefined) return false
  }
  return true
}

export async function checkAtRest(rest: Rest): Promise<void> {
  const { promises, store, machines } = rest
  const { items } = await store.commands.list({}, listMax)
  for (const machine of machines) {
    await promises.look(machine)
    await checkLeaks(machine, promises, items)
    const fault = await viewFault(machine, rest)
    if (fault !== undefined) promises.break('viewsAgree', fault)
  }
  checkResults(items, rest)
  for (const machine of machines) await checkTrail(machine, rest)
  checkDone(items, rest)
}

function checkResults(records: readonly CommandRecord[], { promises, machines }: Rest): void {
  const byId = new Map(records.map((record) => [record.id, record]))
  for (const [id, { machine, hostId, at }] of promises.acknowledged) {
    const record = byId.get(id)
    if (record === undefined) {
      promises.break('acknowledgedEnds', `the scheduler has lost ${id}`)
      continue
    }
    if (machine.hostId !== hostId || !machines.includes(machine) || (machine.lostStateAt ?? -1) >= at)
      continue
    const result = machine.journal?.find(id)?.result
    if (result === undefined) promises.break('acknowledgedEnds', `${hostId} has no result of ${id}`)
    else if (record.state !== result.outcome)
      promises.break(
        'acknowledgedEnds',
        `${record.verb} ${id} is ${result.outcome} on ${hostId}, and ${record.state} at the scheduler: ${record.error?.message}`
      )
  }
  for (const { id, verb, state, error } of records) {
    const effects = promises.effects.get(id) ?? []
    if (effects.length > 0 && isUntaken(state, error))
      promises.break('refusedHasNone', `${verb} ${id} had an effect (${effects[0]?.kind}): ${error?.message}`)
  }
}

/** What each host wrote down of its commands, and what the scheduler thinks of it. */
async function checkTrail(machine: HostMachine, { promises, store }: Rest): Promise<void> {
  const noted = new Set<unknown>()
  const { fault } = checkChain(listTrail(trailDirectory(machine.statePath)).segments, {
    read: readSegment,
    onEntry: ({ kind, command }) => {
      if (command !== undefined) noted.add(`${kind} ${command}`)
      return undefined
    }
  })
  const refused = fault ?? (await store.trails.fault(machine.hostId))
  if (refused !== undefined)
    promises.break('accountedFor', `the audit trail of ${machine.hostId} is not whole: ${refused.message}`)
  for (const [id, taken] of promises.acknowledged)
    if (taken.machine === machine && (machine.lostStateAt ?? -1) < taken.at)
      for (const kind of ['command.accepted', 'operation.ended'])
        if (!noted.has(`${kind} ${id}`))
          promises.break('accountedFor', `the audit trail of ${machine.hostId} has no ${kind} of ${id}`)
}

/** The scheduler says that nothing was done. */
function isUntaken(state: string, error: CommandRecord['error']): boolean {
  return (
    (state === 'failed' || state === 'expired') && /nothing (was done|happened)/i.test(error?.message ?? '')
  )
}

/** The last word on each VM: a provision that is done made it, one that failed left nothing, and so on. */
function checkDone(records: readonly CommandRecord[], { promises, machines }: Rest): void {
  const last = new Map<string, { record: CommandRecord; generation: number }>()
  for (const record of records) {
    const subject = promises.issued.get(record.id)?.claims.subject
    if (subject === undefined || !promises.acknowledged.has(record.id)) continue
    const before = last.get(subject.uuid)
    if (before === undefined || before.generation < subject.generation)
      last.set(subject.uuid, { record, generation: subject.generation })
  }
  for (const [uuid, { record }] of last) {
    const machine = machines.find(({ hostId }) => hostId === record.host)
    if (machine === undefined || machine.lostStateAt !== undefined) continue
    const vm = promises.recordsOf(machine).find(({ specification }) => specification.uuid === uuid)
    const fault = faultOf(record, vm, promises)
    if (fault !== undefined)
      promises.break('doneIsDone', `${record.verb} ${record.id} of ${record.vm} is ${record.state}, ${fault}`)
  }
}

function faultOf(record: CommandRecord, vm: VmRecord | undefined, promises: Promises): string | undefined {
  const { verb, state, error } = record
  if (verb === 'vm.teardown' && state === 'done' && vm !== undefined) return 'and the VM is there'
  if (
    verb === 'vm.provision' &&
    state === 'failed' &&
    vm !== undefined &&
    error?.details?.undoFailed === undefined
  )
    return `and the VM is there: ${error?.message}`
  if (state !== 'done' || verb === 'vm.teardown') return undefined
  if (vm === undefined) return 'and the VM is not there'
  if (promises.wasDisturbedSince(record)) return undefined
  const wantsRunning = verb === 'vm.provision' || verb === 'vm.start' || verb === 'vm.reboot'
  if (wantsRunning && vm.state !== 'running') return `and the VM is ${vm.state}`
  if (verb === 'vm.stop' && vm.state === 'running') return 'and the VM runs'
  return undefined
}

async function checkLeaks(
  machine: HostMachine,
  promises: Promises,
  records: readonly CommandRecord[]
): Promise<void> {
  const { hypervisor, name } = machine
  const vms = promises.recordsOf(machine)
  const excused = new Set(records.flatMap(excuse))
  const owners = new Set(vms.map(({ specification }) => shortId(specification)))
  for (const volume of await hypervisor.listVolumes(wait)) {
    const owner = diskOwner(volume.name)
    if (owner !== undefined && !owners.has(owner) && !excused.has(owner.split('.')[0] ?? ''))
      promises.break('nothingLeaks', `${name} has the volume ${volume.name} of no VM`)
  }
  const macs = new Set(vms.map(({ placement }) => placement.macAddress))
  for (const network of await hypervisor.listNetworks(wait))
    for (const { macAddress, address } of await hypervisor.listReservations(network.name, wait))
      if (!macs.has(macAddress) && excused.size === 0)
        promises.break('nothingLeaks', `${name} has the reservation ${macAddress} ${address} of no VM`)
  if (hypervisor.secrets.size > 0) promises.break('nothingLeaks', `${name} has secrets of no VM`)
}

/** VMs of which the user was told that something is left. */
function excuse({ vm, error, value }: CommandRecord): string[] {
  const told = error?.details?.undoFailed !== undefined || (value?.remaining as unknown[] | undefined)?.length
  return told && vm !== undefined ? [vm] : []
}

/** What the scheduler shows of a host otherwise than it is. */
async function viewFault(machine: HostMachine, { promises, store }: Rest): Promise<string | undefined> {
  const { items } = await store.vms.list({ host: machine.hostId }, listMax)
  const actual = promises.recordsOf(machine)
  for (const { specification, state } of actual) {
    const shown = items.find(({ uuid }) => uuid === specification.uuid)
    if (shown === undefined) return `the scheduler does not know ${specification.name} of ${machine.hostId}`
    if (shown.report?.state !== state || !shown.report.present)
      return `the scheduler shows ${specification.name} as ${shown.report?.state} (${shown.report?.present}), it is ${state}`
  }
  for (const { uuid, name, report } of items)
    if (report?.present === true && !actual.some(({ specification }) => specification.uuid === uuid))
      return `the scheduler shows ${name}, which ${machine.hostId} does not have`
  return undefined
}
