// The facts of an explanation as the scheduler tells them: what it knows of deliveries, and what hosts last said.

import { asHostletError, HostletError } from '../../errors.ts'
import type { HostDetail, HostView, OperationView, VmView } from '../../protocol/api.ts'
import type { PlacementView } from '../../protocol/placement.ts'
import { type Answer, type AnswerName, type ApiClient, apiPath } from '../api-client.ts'
import type { HostFacts, LastEvent, OperationFacts, VmFacts, Why } from './facts.ts'
import { explainHost } from './host.ts'
import { explainOperation } from './operation.ts'
import { placingVerbs, withPlacement } from './placement.ts'
import { type Subject, uuidPattern } from './subject.ts'
import { explainVm, goneVm } from './vm.ts'

const operationsAsked = 20

/** Throws E_NOT_FOUND for what the scheduler does not know. */
export async function whyOfScheduler(
  client: ApiClient,
  { name, isHost }: Subject,
  { signal, now }: { readonly signal: AbortSignal; readonly now: number }
): Promise<Why> {
  if (name === undefined)
    throw new HostletError(
      'E_BAD_REQUEST',
      'say of what: a VM, an operation or a host. Without a name it is this host, asked with --local.'
    )
  const asker = new Asker(client, signal, now)
  if (isHost) return await asker.host(name)
  if (uuidPattern.test(name)) return await asker.operation(name)
  return (await asker.vm(name)) ?? (await asker.hostOrNothing(name))
}

class Asker {
  readonly #client: ApiClient
  readonly #signal: AbortSignal
  readonly #now: number

  constructor(client: ApiClient, signal: AbortSignal, now: number) {
    this.#client = client
    this.#signal = signal
    this.#now = now
  }

  async host(id: string): Promise<Why> {
    const { host, foreign } = await this.#get(apiPath('hosts', id), 'HostDetail')
    const states = ['waiting', 'sent', 'running'] as const
    const lists = await Promise.all(
      states.map((state) =>
        this.#get('/v1/operations', 'OperationList', { host: id, state, limit: operationsAsked })
      )
    )
    const operations = lists.flatMap((list) => list.operations).map(operationFacts)
    return explainHost(hostFacts(host, foreign), { now: this.#now, operations })
  }

  async hostOrNothing(id: string): Promise<Why> {
    try {
      return await this.host(id)
    } catch (error) {
      if (asHostletError(error).code !== 'E_NOT_FOUND') throw error
      throw new HostletError(
        'E_NOT_FOUND',
        `there is no VM and no host "${id}". See "hostlet vm ls" and "hostlet host ls"; operations are named by their ids ("hostlet op ls").`
      )
    }
  }

  async operation(id: string): Promise<Why> {
    const { operation } = await this.#get(apiPath('operations', id), 'OperationReply')
    const holder = await this.#holderOf(operation)
    const why = explainOperation(operationFacts(operation), { now: this.#now, holder })
    return withPlacement(why, await this.#placementOf(operation), id)
  }

  /** Undefined when there is no such VM, and nobody asked for one of late. */
  async vm(name: string): Promise<Why | undefined> {
    const [found, list] = await Promise.all([
      this.#maybe(apiPath('vms', name), 'VmReply'),
      this.#maybe('/v1/operations', 'OperationList', { vm: name, looks: 'false', limit: operationsAsked })
    ])
    const operations = (list?.operations ?? []).toSorted((a, b) => b.createdAt - a.createdAt)
    const id = found?.vm.host ?? operations[0]?.host
    if (id === undefined) return undefined
    const [detail, events] = await Promise.all([
      this.#maybe(apiPath('hosts', id), 'HostDetail'),
      this.#get('/v1/events', 'EventList', { vm: name, newest: 'true', limit: 10 })
    ])
    const holders = await Promise.all(operations.map((each) => this.#holderOf(each)))
    const placed = operations.find(({ verb, state }) => placingVerbs.includes(verb) && isOpen(state))
    const why = explainVm(found === undefined ? goneVm(name) : vmFacts(found.vm), {
      now: this.#now,
      host: detail === undefined ? unknownHost(id) : hostFacts(detail.host, detail.foreign),
      operations: operations.map(operationFacts),
      holders: holders.filter((each) => each !== undefined),
      event: lastOff(events)
    })
    return placed === undefined ? why : withPlacement(why, await this.#placementOf(placed), placed.id)
  }

  /** Undefined for an operation that has an existing VM changed. */
  async #placementOf({ id, verb }: OperationView): Promise<PlacementView | undefined> {
    if (!placingVerbs.includes(verb)) return undefined
    return (await this.#maybe(`${apiPath('operations', id)}/placement`, 'PlacementReply'))?.placement
  }

  /** Undefined for what the host does by itself, of which the scheduler has no record. */
  async #holderOf({ wait }: OperationView): Promise<OperationFacts | undefined> {
    if (wait?.holder === undefined) return undefined
    const found = await this.#maybe(apiPath('operations', wait.holder), 'OperationReply')
    return found && operationFacts(found.operation)
  }

  /** Undefined for what is not there, or cannot be the name of such a thing. */
  async #maybe<Name extends AnswerName>(
    path: string,
    name: Name,
    query: Readonly<Record<string, string | number>> = {}
  ): Promise<Answer<Name> | undefined> {
    try {
      return await this.#get(path, name, query)
    } catch (error) {
      const { code } = asHostletError(error)
      if (code === 'E_NOT_FOUND' || code === 'E_BAD_REQUEST') return undefined
      throw error
    }
  }

  #get<Name extends AnswerName>(
    path: string,
    name: Name,
    query: Readonly<Record<string, string | number>> = {}
  ): Promise<Answer<Name>> {
    return this.#client.ask({ method: 'GET', path, query, signal: this.#signal }, name)
  }
}

/** How a VM came to its host is told while it is made, and later of its operation. */
function isOpen(state: OperationView['state']): boolean {
  return state === 'waiting' || state === 'sent' || state === 'running'
}

/** The last time that it went off, as its host saw it. */
function lastOff({ events }: Answer<'EventList'>): LastEvent | undefined {
  return events.toReversed().find(({ state }) => state === 'stopped' || state === 'crashed')
}

function unknownHost(id: string): HostFacts {
  const reason = 'the scheduler does not know it any more'
  return { id, state: 'revoked', reason, libvirt: 'unknown', conditions: [], foreign: [] }
}

function hostFacts(host: HostView, foreign: HostDetail['foreign']): HostFacts {
  const { id, state, reason, hypervisor, drainingSince, conditions, clockSkewMs, certificateExpiresAt } = host
  const since = state === 'connected' ? host.connectedAt : host.lastSeenAt
  return {
    id,
    state,
    reason,
    ...(since !== undefined && { since }),
    libvirt: hypervisor,
    drainingSince,
    conditions,
    clockSkewMs,
    certificateExpiresAt,
    foreign
  }
}

function vmFacts(vm: VmView): VmFacts {
  const { name, state, reason, wanted, health, drift, retainedUntil, startedAt, fresh } = vm
  const known = { ...(health && { health }), ...(drift && { drift }) }
  // One that its host has not reported yet is not old news.
  const isFresh = fresh || state === 'pending' || state === 'missing'
  return { name, state, reason, wanted, retainedUntil, startedAt, fresh: isFresh, ...known }
}

export function operationFacts(operation: OperationView): OperationFacts {
  const { createdAt, next, step, ...rest } = operation
  const waitsThere = rest.state === 'running' && (rest.wait !== undefined || step === undefined)
  return {
    ...rest,
    ...(step !== undefined && { step }),
    state: waitsThere && step === undefined ? 'queued' : rest.state,
    since: createdAt,
    hint: next
  }
}
