// The HTTPS server: TLS settings, validation, authentication and errors once for all routes.

import { constants, createHash, randomUUID } from 'node:crypto'
import { Ajv2020 } from 'ajv/dist/2020.js'
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { HostletError } from '../../errors.ts'
import { idempotencyHeader, requestBytesMax } from '../../protocol/api.ts'
import type { Repeatable } from '../store/store.ts'
import { type Actor, assertTier } from './api-keys.ts'
import { apiCall, type RequestContext } from './audited.ts'
import { answerBrokenRequest, answerTo } from './errors.ts'
import { FailureLimiter, failureWindowMs } from './failure-limiter.ts'
import { planning, queryOf, splitQuery } from './planning.ts'
import { type Route, type Services, TextAnswer } from './route.ts'

/** How long a request may take to arrive, head and body. */
const requestTimeoutMs = 30_000
const handshakeTimeoutMs = 10_000
/** When to ask again of what is full now. */
const busyWaitSeconds = 10
/** Names the request in the answer, the log and the audit. */
const requestIdHeader = 'request-id'
const headersBytesMax = 16 * 1024
const pathPartBytesMax = 256
/** Sockets of agents and askers together; the system refuses more. */
const connectionsMax = 12_000

/**
 * TLS 1.3 only, keys agreed on over elliptic curves (after X25519 with ML-KEM, where the peer has it), and no session is
 * resumed: who resumes one shows that it was there before, not that it holds the certificate's key now.
 */
export const tlsRules = {
  minVersion: 'TLSv1.3',
  ecdhCurve: 'X25519MLKEM768:X25519:P-256:P-384',
  secureOptions: constants.SSL_OP_NO_TICKET
} as const

export interface ServerOptions {
  readonly services: Services
  readonly routes: readonly Route[]
  readonly tls: { readonly key: string; readonly cert: string; readonly ca: string }
  /** Aborted when the scheduler stops: long waits end. */
  readonly stopping: AbortSignal
}

export function createServer(options: ServerOptions): FastifyInstance {
  const server = createInstance(options.tls)
  const contexts = new WeakMap<FastifyRequest, RequestContext>()
  const failures = new FailureLimiter(options.services.clock)
  acceptJson(server)
  validateWith(server)
  server.setNotFoundHandler((request) => {
    throw new HostletError(
      'E_NOT_FOUND',
      `there is no ${request.method} ${pathOf(request)}. See /openapi.json.`
    )
  })
  server.setErrorHandler(async (error, request, reply) => {
    await auditFailure(error, request, contexts.get(request), options)
    sendError({ error, request, reply, failures, options })
    return reply
  })
  for (const route of options.routes) addRoute(server, route, contexts, options)
  return server
}

/** TLS 1.3 only. Client certificates are asked for; routes and the agent socket decide who needs one. */
function createInstance(tls: ServerOptions['tls']): FastifyInstance {
  const instance = fastify({
    logger: false,
    genReqId: () => randomUUID(),
    bodyLimit: requestBytesMax,
    exposeHeadRoutes: false,
    forceCloseConnections: true,
    requestTimeout: requestTimeoutMs,
    routerOptions: { maxParamLength: pathPartBytesMax },
    frameworkErrors: (error, _request, reply) => sendFrameworkError(error, reply as unknown as FastifyReply),
    clientErrorHandler: answerBrokenRequest,
    https: {
      ...tls,
      ...tlsRules,
      requestCert: true,
      rejectUnauthorized: false,
      handshakeTimeout: handshakeTimeoutMs,
      maxHeaderSize: headersBytesMax
    }
  })
  instance.server.maxConnections = connectionsMax
  return instance as unknown as FastifyInstance
}

function sendFrameworkError(thrown: unknown, reply: FastifyReply): void {
  const { status, error } = answerTo(thrown)
  void reply.status(status).send({ error: error.toReport() })
}

/** Only JSON; a body of no bytes is no body. */
function acceptJson(server: FastifyInstance): void {
  server.removeAllContentTypeParsers()
  server.addContentTypeParser(
    'application/json',
    { parseAs: 'string' },
    async (_request: unknown, text: string) => {
      if (text === '') return undefined
      try {
        return JSON.parse(text) as unknown
      } catch (cause) {
        throw new HostletError('E_BAD_REQUEST', 'the body is not JSON', { cause })
      }
    }
  )
}

/** Unknown keys are refused, nothing is removed; only queries and paths, which are text, are read as numbers. */
function validateWith(server: FastifyInstance): void {
  const settings = {
    strict: true,
    strictRequired: false,
    allowUnionTypes: true,
    useDefaults: true,
    verbose: true
  } as const
  const body = new Ajv2020({ ...settings, discriminator: true })
  const text = new Ajv2020({ ...settings, coerceTypes: true })
  server.setValidatorCompiler<object>(({ schema, httpPart }) =>
    (httpPart === 'body' ? body : text).compile(schema)
  )
}

function addRoute(
  server: FastifyInstance,
  route: Route,
  contexts: WeakMap<FastifyRequest, RequestContext>,
  { services, stopping }: ServerOptions
): void {
  const { params, body } = route
  const querystring = queryOf(route) ?? noQuery
  server.route({
    method: route.method,
    url: route.path.replaceAll(/\{(\w+)\}/g, ':$1'),
    schema: { querystring, ...(params && { params }), ...(body && { body }) },
    // Before the body is read: who may not ask costs nothing.
    onRequest: async (request, reply) => {
      reply.header(requestIdHeader, request.id)
      const context = { actor: undefined, startedAt: services.clock.monotonic(), isAudited: false }
      contexts.set(request, context)
      await authenticate(request, route, context, services)
    },
    preValidation: async (request) => {
      if (route.body !== undefined) request.body ??= {}
    },
    handler: async (request, reply) => {
      const actor = contexts.get(request)?.actor
      const { query, dryRun } = splitQuery(request.query)
      const answer = await route.handle(
        {
          params: request.params,
          query,
          body: request.body,
          actor,
          socket: request.raw.socket,
          accept: request.headers.accept,
          signal: AbortSignal.any([stopping, goneSignal(reply)]),
          // What was only planned must not answer for the request itself.
          repeatable: dryRun ? undefined : repeatableOf(request, actor)
        },
        dryRun ? planning(services) : services
      )
      await auditAnswer(answer, request, { context: contexts.get(request), status: route.status, services })
      if (answer instanceof TextAnswer) return reply.type(answer.type).send(answer.text)
      return reply.status(route.status).send(answer)
    },
    onResponse: async (request, reply) => {
      const { method, routeOptions } = request
      const fields = {
        method,
        path: routeOptions.url,
        status: reply.statusCode,
        request: request.id,
        key: contexts.get(request)?.actor?.id
      }
      if (method === 'GET') services.log.debug(fields, 'request answered')
      else services.log.info(fields, 'request answered')
    }
  })
}

/** Routes without a query refuse one: a misspelt filter must not look like an answer. */
const noQuery = { type: 'object', additionalProperties: false }

async function authenticate(
  request: FastifyRequest,
  route: Route,
  context: RequestContext,
  { keys }: Services
): Promise<void> {
  if (route.tier === 'open') return
  context.actor = await keys.identify(request.headers.authorization)
  assertTier(context.actor, route.tier)
}

/**
 * Before the answer goes out. Where it can't be written the call fails although it took effect: its asker looks, or asks again
 * under the same Idempotency-Key.
 */
async function auditAnswer(
  answer: unknown,
  request: FastifyRequest,
  done: { context: RequestContext | undefined; status: number; services: Services }
): Promise<void> {
  const { context, status, services } = done
  if (context === undefined) return
  context.isAudited = true
  await services.audit.call(apiCall(request, context, { status, answer, now: services.clock.monotonic() }))
}

async function auditFailure(
  thrown: unknown,
  request: FastifyRequest,
  context: RequestContext | undefined,
  { services }: ServerOptions
): Promise<void> {
  if (context === undefined || context.isAudited) return
  context.isAudited = true
  const { status, error } = answerTo(thrown)
  const end = { status, code: error.code, now: services.clock.monotonic() }
  try {
    await services.audit.call(apiCall(request, context, end))
  } catch (fault) {
    services.log.error({ request: request.id, error: fault }, 'refused request could not be written down')
  }
}

function repeatableOf(request: FastifyRequest, actor: Actor | undefined): Repeatable | undefined {
  const key = request.headers[idempotencyHeader]
  if (key === undefined || actor === undefined || request.method === 'GET') return undefined
  if (typeof key !== 'string' || !/^[\x21-\x7e]{1,128}$/.test(key))
    throw new HostletError(
      'E_BAD_REQUEST',
      'the Idempotency-Key must be 1 to 128 printable characters without spaces'
    )
  const hash = createHash('sha256')
    .update(`${request.method} ${request.url}\n${JSON.stringify(request.body ?? null, withoutSecrets)}`)
    .digest()
  return { scope: actor.id, key, hash }
}

/** The hash is kept: of a short secret among known words it would let its reader try one after the other. */
function withoutSecrets(key: string, value: unknown): unknown {
  return key === 'userData' && typeof value === 'string' ? '[secret]' : value
}

function goneSignal(reply: FastifyReply): AbortSignal {
  const controller = new AbortController()
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished)
      controller.abort(new HostletError('E_CANCELLED', 'the asker went away before the answer'))
  })
  return controller.signal
}

interface Failure {
  readonly error: unknown
  readonly request: FastifyRequest
  readonly reply: FastifyReply
  readonly failures: FailureLimiter
  readonly options: ServerOptions
}

function sendError({ error: thrown, request, reply, failures, options }: Failure): void {
  const { log } = options.services
  const { status, error } = answerTo(thrown)
  if (status === 401 && failures.exceeds(request.ip)) {
    const wait = new HostletError('E_BUSY', 'too many failed attempts from this address. Wait a minute.')
    void reply
      .status(429)
      .header('retry-after', failureWindowMs / 1000)
      .send({ error: wait.toReport() })
    return
  }
  const fields = { method: request.method, path: request.routeOptions.url, code: error.code }
  if (error.code === 'E_INTERNAL') log.error({ ...fields, error: error.cause ?? error }, 'request failed')
  else if (status === 401) log.warn({ ...fields, remote: request.ip, ...error.details }, 'request refused')
  if (status === 429) reply.header('retry-after', busyWaitSeconds)
  void reply.status(status).send({ error: error.toReport() })
}

function pathOf(request: FastifyRequest): string {
  return (request.url.split('?')[0] ?? '/').slice(0, pathPartBytesMax)
}
