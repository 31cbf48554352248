// The HTTPS server: TLS settings, validation, authentication and errors once for all routes.

import { constants, createHash, randomUUID } from 'node:crypto'
import { Ajv2020 } from 'ajv/dist/2020.js'
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { HostletError } from '../../errors.ts'
import { idempotencyHeader, keyExpiresHeader, requestBytesMax } from '../../protocol/api.ts'
import type { Repeatable } from '../store/store.ts'
import { type Actor, assertTier } from './api-keys.ts'
import { apiCall, declaredPath, type RequestContext } from './audited.ts'
import { type Asking, assertNotFromOtherSite, authenticate, shownKey } from './authenticate.ts'
import { answerBrokenRequest, answerTo } from './errors.ts'
import { FailureLimiter, failureWindowMs } from './failure-limiter.ts'
import { planning, queryOf, splitQuery } from './planning.ts'
import { HeadedAnswer, type Route, type Services, StreamAnswer, TextAnswer } from './route.ts'
import { AnswerStreams, sendPieces } from './stream-answer.ts'
import { sendMissingPage, serveWeb } from './web.ts'
import type { WebAssets } from './web-assets.ts'

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
  /** The dashboard; read when somebody asks for it. */
  web(): WebAssets
}

export function createServer(options: ServerOptions): FastifyInstance {
  const server = createInstance(options.tls)
  const contexts = new WeakMap<FastifyRequest, RequestContext>()
  const failures = new FailureLimiter(options.services.clock)
  const streams = new AnswerStreams(options.services)
  acceptJson(server)
  validateWith(server)
  serveWeb(server, options.web)
  server.setNotFoundHandler((request, reply) => {
    if (sendMissingPage(request, reply, options.web)) return
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
  server.addHook('onResponse', async ({ method, routeOptions }, { statusCode: status, elapsedTime }) => {
    const route = routeOptions.url === undefined ? 'other' : declaredPath(routeOptions.url)
    options.services.tallies.request(method, route, { status, seconds: elapsedTime / 1_000 })
  })
  for (const route of options.routes) addRoute(server, route, { contexts, streams }, options)
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
  { contexts, streams }: { contexts: WeakMap<FastifyRequest, RequestContext>; streams: AnswerStreams },
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
      reply.headers({ [requestIdHeader]: request.id, 'cache-control': 'no-store' })
      const context: RequestContext = {
        actor: undefined,
        startedAt: services.clock.monotonic(),
        isAudited: false
      }
      contexts.set(request, context)
      await letIn(request, route, context, services)
      warnOfEnd(reply, context.actor, services)
    },
    preValidation: async (request) => {
      if (route.body !== undefined) request.body ??= {}
    },
    handler: async (request, reply) => {
      const context = contexts.get(request)
      const { query, dryRun } = splitQuery(request.query)
      const call = callOf(request, context, AbortSignal.any([stopping, goneSignal(reply)]))
      // What was only planned must not answer for the request itself.
      const answer = await route.handle(
        { ...call, query, ...(dryRun && { repeatable: undefined }) },
        dryRun ? planning(services) : services
      )
      const { body, headers } = answer instanceof HeadedAnswer ? answer : { body: answer, headers: {} }
      if (body instanceof StreamAnswer) streams.admit(reply, context?.actor?.id ?? '')
      await auditAnswer(body, request, { context, status: route.status, services })
      if (body instanceof StreamAnswer) return sendPieces(body, request, reply)
      if (body instanceof TextAnswer) return reply.type(body.type).send(body.text)
      return reply.status(route.status).headers(headers).send(body)
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

function callOf(
  request: FastifyRequest,
  context: RequestContext | undefined,
  signal: AbortSignal
): Omit<Parameters<Route['handle']>[0], 'query'> {
  const { params, body, headers, ip: address, raw } = request
  const actor = context?.actor
  return {
    ...{ params, body, actor, signal, address, socket: raw.socket, accept: headers.accept },
    shownKey: shownKey(headers),
    tellActor: (known) => {
      if (context !== undefined) context.actor = known
    },
    repeatable: repeatableOf(request, actor)
  }
}

/** Routes without a query refuse one: a misspelt filter must not look like an answer. */
const noQuery = { type: 'object', additionalProperties: false }

function warnOfEnd(reply: FastifyReply, actor: Actor | undefined, { clock, config }: Services): void {
  const { keyExpiresAt } = actor ?? {}
  if (keyExpiresAt !== undefined && keyExpiresAt - clock.now() < config.people.keyWarningMs)
    reply.header(keyExpiresHeader, new Date(keyExpiresAt).toISOString())
}

/** Who is known but may not is known to the audit all the same. */
async function letIn(
  request: FastifyRequest,
  { tier }: Route,
  context: RequestContext,
  services: Services
): Promise<void> {
  const asking: Asking = { method: request.method, headers: request.headers, address: request.ip }
  assertNotFromOtherSite(asking)
  if (tier === 'open') return
  context.actor = await authenticate(asking, services)
  if (tier !== 'own') assertTier(context.actor, tier)
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
  const { reason, key } = error.details
  const end = {
    ...{ status, code: error.code, now: services.clock.monotonic() },
    ...(typeof reason === 'string' && { reason }),
    ...(typeof key === 'string' && { key })
  }
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
  if (status === 401 || status === 403) options.services.tallies.failedLogin(error.details.reason)
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
  if (status === 429) reply.header('retry-after', waitSeconds(error, options.services.clock.now()))
  void reply.status(status).send({ error: error.toReport() })
}

/** Until the error itself says, or a while. */
function waitSeconds({ details: { until } }: HostletError, now: number): number {
  return typeof until === 'number' ? Math.max(1, Math.ceil((until - now) / 1000)) : busyWaitSeconds
}

function pathOf(request: FastifyRequest): string {
  return (request.url.split('?')[0] ?? '/').slice(0, pathPartBytesMax)
}
