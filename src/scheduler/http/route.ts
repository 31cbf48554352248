// What a route is: method, path, who may ask, its schemas and its handler. The server and the OpenAPI document are made of these.

import type { Socket } from 'node:net'
import type { Clock } from '../../lib/clock.ts'
import type { KeyedLock } from '../../lib/keyed-lock.ts'
import type { Logger } from '../../lib/log.ts'
import type { Static, TSchema } from '../../lib/schema.ts'
import type { ApiTier } from '../../protocol/api.ts'
import type { Audit } from '../audit.ts'
import type { Commands } from '../commands.ts'
import type { SchedulerConfig } from '../config.ts'
import type { ConsoleSessions } from '../console/sessions.ts'
import type { Authority } from '../identity/authority.ts'
import type { FleetMetrics } from '../metrics/fleet-metrics.ts'
import type { SchedulerTallies } from '../metrics/scheduler-tallies.ts'
import type { Repeatable, Store } from '../store/store.ts'
import type { FleetTrust } from '../trust/fleet-trust.ts'
import type { Actor, ApiKeys } from './api-keys.ts'
import type { SecondFactors } from './second-factors.ts'
import type { Sessions } from './sessions.ts'

/** What handlers may use. */
export interface Services {
  readonly config: SchedulerConfig
  readonly store: Store
  /** Held by whoever chooses a host until that is in the store. */
  readonly placing: KeyedLock
  readonly commands: Pick<Commands, 'approve' | 'create' | 'endAllOf' | 'wait'>
  readonly authority: Pick<Authority, 'caHash' | 'certificatePem' | 'issueHostCertificate'>
  readonly trust: FleetTrust
  readonly agents: { disconnect(host: string, reason: string): void }
  readonly keys: ApiKeys
  readonly sessions: Sessions
  readonly factors: SecondFactors
  readonly consoles: ConsoleSessions
  readonly audit: Audit
  readonly metrics: FleetMetrics
  readonly tallies: SchedulerTallies
  readonly clock: Clock
  readonly log: Logger
  readonly version: string
  readonly startedAt: number
  /** `https:` addresses of this scheduler, best first. */
  addresses(): readonly string[]
  /** The whole OpenAPI document. */
  openApi(): Record<string, unknown>
}

export interface Call<Params, Query, Body> {
  readonly params: Params
  readonly query: Query
  readonly body: Body
  /** Undefined only where the route is open to all. */
  readonly actor: Actor | undefined
  /** Says who the asker of an open route turned out to be, for the audit. */
  tellActor(actor: Actor): void
  /** The key itself, where that is what the asker showed. Never to be kept. */
  readonly shownKey: string | undefined
  /** From where it was asked. */
  readonly address: string
  readonly socket: Socket
  /** What the asker would rather have, as its Accept header says. */
  readonly accept: string | undefined
  /** Aborted when the asker goes away or the scheduler stops. */
  readonly signal: AbortSignal
  readonly repeatable: Repeatable | undefined
}

export interface Route {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  /** With `{name}` for parameters, as OpenAPI writes them. */
  readonly path: string
  /** `open`: without an API key. `own`: with any, whatever it may do besides, for what is the asker's own. */
  readonly tier: ApiTier | 'open' | 'own'
  readonly summary: string
  readonly status: 200 | 201 | 202
  readonly params: TSchema | undefined
  readonly query: TSchema | undefined
  readonly body: TSchema | undefined
  readonly reply: TSchema
  /** False where it may do something besides making a command: then it takes no `dryRun`. */
  readonly dryRun?: false
  handle(call: Call<unknown, unknown, unknown>, services: Services): Promise<unknown>
}

/** An answer that is no JSON. */
export class TextAnswer {
  readonly type: string
  readonly text: string

  constructor(type: string, text: string) {
    this.type = type
    this.text = text
  }
}

/** An answer that comes with headers of its own. */
export class HeadedAnswer<Body> {
  readonly body: Body
  readonly headers: Readonly<Record<string, string>>

  constructor(body: Body, headers: Readonly<Record<string, string>>) {
    this.body = body
    this.headers = headers
  }
}

/** An answer that is no JSON and too long for one piece: sent as it comes, compressed where the asker takes that. */
export class StreamAnswer {
  readonly type: string
  readonly pieces: AsyncIterable<string>

  constructor(type: string, pieces: AsyncIterable<string>) {
    this.type = type
    this.pieces = pieces
  }
}

type StaticOf<Schema> = Schema extends TSchema ? Static<Schema> : undefined

interface RouteOptions<Params, Query, Body, Reply> {
  readonly tier: Route['tier']
  readonly summary: string
  readonly status?: Route['status']
  readonly params?: Params
  readonly query?: Query
  readonly body?: Body
  readonly reply: Reply
  readonly dryRun?: false
  handle(
    call: Call<StaticOf<Params>, StaticOf<Query>, StaticOf<Body>>,
    services: Services
  ): Promise<StaticOf<Reply> | TextAnswer | StreamAnswer | HeadedAnswer<StaticOf<Reply>>>
}

/** Declares a route as `GET /v1/hosts/{id}`, with the types of its handler inferred from its schemas. */
export function defineRoute<
  Reply extends TSchema,
  Params extends TSchema | undefined = undefined,
  Query extends TSchema | undefined = undefined,
  Body extends TSchema | undefined = undefined
>(
  line: `${Route['method']} /${string}`,
  { handle, params, query, body, status = 200, ...rest }: RouteOptions<Params, Query, Body, Reply>
): Route {
  const [method, path] = line.split(' ') as [Route['method'], string]
  // The server hands over what has passed the schemas, so the types hold.
  const checked = handle as Route['handle']
  return { ...rest, method, path, status, params, query, body, handle: checked }
}
