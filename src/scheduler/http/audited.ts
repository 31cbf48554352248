// A request of the API as the scheduler's audit tells of it: who asked, what for, from where, and what came of it.

import type { FastifyRequest } from 'fastify'
import type { ApiCall } from '../audit.ts'
import type { Actor } from './api-keys.ts'

/** What a request knows of itself beyond HTTP. */
export interface RequestContext {
  actor: Actor | undefined
  /** Monotonic, in milliseconds. */
  readonly startedAt: number
  /** Its line is written, or need not be. */
  isAudited: boolean
}

const addressCharactersMax = 64

export function apiCall(
  request: FastifyRequest,
  { actor, startedAt }: RequestContext,
  end: {
    readonly status: number
    readonly code?: string
    readonly reason?: string
    readonly key?: string
    readonly answer?: unknown
    readonly now: number
  }
): ApiCall {
  const { status, code, reason, key, answer, now } = end
  const { operation, object, made } = tellingOf(answer)
  const named = namedBy(request) ?? object
  return {
    request: String(request.id),
    ...(actor ? keyFields(actor) : key !== undefined && { key }),
    from: request.ip.slice(0, addressCharactersMax),
    method: request.method,
    route: declaredPath(request.routeOptions.url ?? ''),
    ...(named !== undefined && { object: named }),
    status,
    ...(code !== undefined && { code }),
    ...(reason !== undefined && { reason }),
    ...(operation !== undefined && { operation }),
    ...(made !== undefined && made !== named && { made }),
    durationMs: Math.round(now - startedAt)
  }
}

function keyFields({ id, note, tier, owner, session, factors }: Actor) {
  return {
    ...{ key: id, note, tier },
    ...(owner !== '' && { owner }),
    ...(session !== undefined && { session }),
    factors
  }
}

/** With `{name}` for parameters, as routes are declared. */
export function declaredPath(url: string): string {
  return url.replaceAll(/:(\w+)/g, '{$1}')
}

/** What the path names. */
function namedBy({ params }: FastifyRequest): string | undefined {
  const named = Object.values((params ?? {}) as Readonly<Record<string, unknown>>).map(String)
  return named.length === 0 ? undefined : named.join('/').slice(0, 256)
}

interface Telling {
  readonly operation?: string
  readonly object?: string
  readonly made?: string
}

/** What an answer says to have made; the fields are those of the answers in protocol/api.ts. */
function tellingOf(answer: unknown): Telling {
  if (typeof answer !== 'object' || answer === null) return {}
  const { operation, key, hostId, id } = answer as Readonly<Record<string, unknown>>
  const { id: operationId, vm, host } = (operation ?? {}) as Readonly<Record<string, unknown>>
  const made = (key as { id?: unknown } | undefined)?.id
  const object = [vm, host, made, hostId, id].find((name) => typeof name === 'string')
  return {
    ...(typeof operationId === 'string' && { operation: operationId }),
    ...(typeof object === 'string' && { object }),
    ...(typeof made === 'string' && { made })
  }
}
