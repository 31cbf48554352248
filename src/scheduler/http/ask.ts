// The one way from a request to an operation: the same Idempotency-Key first, then a command, then its view.

import type { OperationReply } from '../../protocol/api.ts'
import type { CommandRequest } from '../commands.ts'
import type { CommandRecord, HostRecord, Repeatable } from '../store/store.ts'
import { operationView } from '../views/operation-view.ts'
import { findHost, findVm } from './lookup.ts'
import type { Services } from './route.ts'

export type Ask = Omit<CommandRequest, 'host' | 'repeatable'>

/** Asks a host for something, unless the same was asked for before. `prepare` runs only if not. */
export async function ask(
  { store, commands }: Services,
  repeatable: Repeatable | undefined,
  prepare: () => Promise<Ask & { host: HostRecord }>
): Promise<OperationReply> {
  const earlier = repeatable && (await store.commands.repeated(repeatable))
  const record = earlier ?? (await commands.create({ ...(await prepare()), repeatable }))
  return { operation: await viewOf(store, record) }
}

/**
 * The same for what takes room on a host that is chosen for it: one after the other, so that two do not count on the same
 * room. What one was promised is in the store before the next looks.
 */
export async function askPlaced(
  services: Services,
  repeatable: Repeatable | undefined,
  prepare: () => Promise<Ask & { host: HostRecord }>
): Promise<OperationReply> {
  await using _turn = await services.placing.acquire('a place')
  return await ask(services, repeatable, prepare)
}

/** Asks a host for something of its own, not of one of its VMs. */
export async function askHost(
  services: Services,
  call: { params: { id: string }; repeatable: Repeatable | undefined },
  verb: string,
  asked: Record<string, unknown> = {}
): Promise<OperationReply> {
  return ask(services, call.repeatable, async () => ({
    verb,
    host: await findHost(services.store, call.params.id),
    arguments: asked,
    intent: { kind: 'none' }
  }))
}

/** Asks the host of a VM to change it. */
export async function askOfVm(
  services: Services,
  call: { params: { name: string }; repeatable: Repeatable | undefined },
  change: Pick<Ask, 'verb' | 'intent'> & { arguments?: Record<string, unknown> }
): Promise<OperationReply> {
  return ask(services, call.repeatable, async () => {
    const { name, uuid, host } = await findVm(services.store, call.params.name)
    return {
      ...change,
      host: await findHost(services.store, host),
      vm: { name, uuid },
      arguments: { vm: name, ...change.arguments }
    }
  })
}

/** Asks the host of a VM to look at it, which changes nothing of it and so is of no generation. */
export async function askAboutVm(
  services: Services,
  call: { params: { name: string }; repeatable: Repeatable | undefined },
  verb: string
): Promise<OperationReply> {
  return ask(services, call.repeatable, async () => {
    const { name, host } = await findVm(services.store, call.params.name)
    return {
      verb,
      host: await findHost(services.store, host),
      about: name,
      arguments: { vm: name },
      intent: { kind: 'none' }
    }
  })
}

export async function viewOf(store: Services['store'], record: CommandRecord) {
  const host = await store.hosts.find(record.host)
  const { state, waits = [] } = host?.report ?? {}
  const wait = waits.find(({ command }) => command === record.id)?.wait
  return operationView(record, { hostConnected: state === 'connected', wait })
}
