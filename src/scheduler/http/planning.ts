// Dry runs: with `dryRun=true` a request that would have a host do something has it only tell what that would be.

import { HostletError } from '../../errors.ts'
import { type TSchema, Type } from '../../lib/schema.ts'
import type { PlanParams } from '../../protocol/plan.ts'
import type { CommandRequest } from '../commands.ts'
import type { Route, Services } from './route.ts'

export const planVerb = 'operation.plan'

/** What every route that makes commands takes beside its own query. */
export const DryRunQuery = {
  dryRun: Type.Optional(
    Type.Boolean({
      description:
        'Do nothing: the operation is operation.plan, and its value the plan of what would be done. An Idempotency-Key is not looked at.'
    })
  )
}

/** Whether the route makes commands, and does nothing besides. */
export function takesDryRun({ status, dryRun }: Pick<Route, 'status' | 'dryRun'>): boolean {
  return status === 202 && dryRun !== false
}

/** The query of a route, with `dryRun` where it takes that. */
export function queryOf(route: Pick<Route, 'query' | 'status' | 'dryRun'>): TSchema | undefined {
  if (!takesDryRun(route)) return route.query
  const { properties = {} } = (route.query ?? {}) as { properties?: Record<string, TSchema> }
  return Type.Object({ ...properties, ...DryRunQuery }, { additionalProperties: false })
}

/** The query without `dryRun`, and what it said. */
export function splitQuery(query: unknown): { readonly query: unknown; readonly dryRun: boolean } {
  const { dryRun, ...rest } = (query ?? {}) as Record<string, unknown>
  return { query: rest, dryRun: dryRun === true }
}

/** Services whose commands are plans: everything else that a route looks at it looks at as ever. */
export function planning(services: Services): Services {
  const { commands } = services
  return {
    ...services,
    commands: {
      create: (request) => commands.create(planOf(request)),
      wait: (...asked) => commands.wait(...asked),
      approve: (...given) => commands.approve(...given),
      endAllOf: (host) => commands.endAllOf(host)
    }
  }
}

/** Of no VM's generation: it changes none, and is in nobody's way. Throws E_UNAVAILABLE for a host that is away. */
function planOf({ host, verb, vm, about, arguments: asked, placement }: CommandRequest): CommandRequest {
  if (host.report?.state !== 'connected')
    throw new HostletError(
      'E_UNAVAILABLE',
      `host ${host.id} is not connected, and only it can tell what ${verb} would do there. See "hostlet host show ${host.id}".`,
      { details: { host: host.id } }
    )
  const params: PlanParams = {
    verb,
    arguments: asked,
    ...(vm && { subject: { vm: vm.name, uuid: vm.uuid } })
  }
  return {
    verb: planVerb,
    host,
    about: vm?.name ?? about,
    arguments: params,
    intent: { kind: 'none' },
    placement,
    repeatable: undefined
  }
}
