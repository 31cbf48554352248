// The scheduler's HTTP API from the side that asks: one method a request, answers checked against their schema.

import { randomUUID } from 'node:crypto'
import { Agent, request as httpsRequest } from 'node:https'
import { type ErrorCode, type ErrorDetails, HostletError, isErrorCode } from '../errors.ts'
import type { Static, TSchema } from '../lib/schema.ts'
import type { Connection } from './connection.ts'
import { noSuchThing } from './given-names.ts'
import { readAnswer } from './read-answer.ts'

/** Longest answer that is read. */
export const answerBytesMax = 64 * 1024 * 1024
/** How long an answer may take besides what the request itself asks to wait. */
export const answerTimeoutMs = 20_000

/** As src/protocol/api.ts has it, which is loaded later. */
const keyExpiresHeader = 'hostlet-key-expires'

export interface ApiRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  readonly path: string
  readonly query?: Readonly<Record<string, string | number | undefined>>
  readonly body?: unknown
  readonly signal: AbortSignal
  /** How long the scheduler was asked to wait before it answers. */
  readonly waitMs?: number
}

type Declared = typeof import('../protocol/api.ts')
/** The schemas of answers, by the names under which src/protocol/api.ts exports them. */
export type AnswerName = {
  [Name in keyof Declared]: Declared[Name] extends TSchema ? Name : never
}[keyof Declared]
export type Answer<Name extends AnswerName> = Static<Extract<Declared[Name], TSchema>>
type Check = (value: unknown) => unknown

/** Where to ask; without a key only what is open to all. */
export type ApiPlace = Omit<Connection, 'apiKey'> & { readonly apiKey: string | undefined }

export class ApiClient implements Disposable {
  readonly connection: ApiPlace
  /** When the key of the connection ends, once an answer has said that it is soon. */
  keyExpiresAt: number | undefined
  readonly #agent: Agent
  readonly #checks = new Map<AnswerName, Promise<Check>>()

  constructor(connection: ApiPlace) {
    this.connection = connection
    // An agent of its own takes no proxy from the environment: keys and commands go to the scheduler itself.
    this.#agent = new Agent({
      keepAlive: true,
      maxSockets: 4,
      minVersion: 'TLSv1.3',
      ...(connection.ca === undefined ? {} : { ca: connection.ca })
    })
  }

  /**
   * Throws the scheduler's own error; E_UNAVAILABLE when none answers, E_AUTH when its certificate is not the expected
   * one, E_TIMEOUT, E_PROTOCOL for what is no answer of a scheduler, and the signal's reason.
   */
  async ask<Name extends AnswerName>(request: ApiRequest, name: Name): Promise<Answer<Name>> {
    // The schemas load while the scheduler thinks.
    const [{ status, text }, check] = await Promise.all([this.#exchange(request), this.#check(name)])
    const value = parse(text, this.connection.url)
    if (status >= 400) throw inWords(reported(value, status, this.connection.url), request)
    try {
      return check(value) as Answer<Name>
    } catch (cause) {
      throw new HostletError(
        'E_PROTOCOL',
        `the scheduler at ${this.connection.url.origin} answered in another form than expected: ${(cause as Error).message}. ` +
          'Compare "hostlet version" with the scheduler’s.',
        { cause }
      )
    }
  }

  [Symbol.dispose](): void {
    this.#agent.destroy()
  }

  #check(name: AnswerName): Promise<Check> {
    const known = this.#checks.get(name)
    if (known !== undefined) return known
    const loading = loadCheck(name)
    this.#checks.set(name, loading)
    return loading
  }

  #exchange(request: ApiRequest): Promise<{ status: number; text: string }> {
    const { url } = this.connection
    const body = request.body === undefined ? undefined : JSON.stringify(request.body)
    const timeoutMs = answerTimeoutMs + (request.waitMs ?? 0)
    const deadline = AbortSignal.timeout(timeoutMs)
    return new Promise((resolve, reject) => {
      const fail = (error: unknown) => {
        if (request.signal.aborted) reject(request.signal.reason)
        else if (deadline.aborted)
          reject(new HostletError('E_TIMEOUT', `${url.origin} did not answer within ${timeoutMs / 1_000} s.`))
        else reject(unreachable(error, this.connection))
      }
      const outgoing = httpsRequest(
        pathOf(url, request),
        {
          agent: this.#agent,
          method: request.method,
          signal: AbortSignal.any([request.signal, deadline]),
          headers: this.#headers(request, body)
        },
        (answer) => {
          this.#noteEnd(answer.headers[keyExpiresHeader])
          readAnswer(answer, { outgoing, bytesMax: answerBytesMax }, { resolve, fail })
        }
      )
      outgoing.on('error', fail)
      outgoing.end(body)
    })
  }

  #noteEnd(header: string | string[] | undefined): void {
    const at = typeof header === 'string' ? Date.parse(header) : Number.NaN
    if (!Number.isNaN(at)) this.keyExpiresAt = at
  }

  #headers(request: ApiRequest, body: string | undefined): Record<string, string> {
    return {
      accept: 'application/json',
      ...(this.connection.apiKey !== undefined && { authorization: `Bearer ${this.connection.apiKey}` }),
      // Names the request, so that one that is delivered twice takes effect once.
      ...(request.method === 'GET' ? {} : { 'idempotency-key': randomUUID() }),
      ...(body === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)) })
    }
  }
}

async function loadCheck(name: AnswerName): Promise<Check> {
  const [{ compile }, schemas] = await Promise.all([
    import('../protocol/validate.ts'),
    import('../protocol/api.ts')
  ])
  return compile(schemas[name] as TSchema, name)
}

/** A path of the API; what a person typed can't lead out of its segment. Throws E_BAD_REQUEST. */
export function apiPath(...segments: readonly string[]): string {
  for (const segment of segments)
    if (segment === '' || segment === '.' || segment === '..')
      throw new HostletError('E_BAD_REQUEST', `"${segment}" is not a name.`)
  return `/v1/${segments.map(encodeURIComponent).join('/')}`
}

function pathOf(base: URL, request: ApiRequest): URL {
  const url = new URL(request.path, base)
  for (const [key, value] of Object.entries(request.query ?? {}))
    if (value !== undefined) url.searchParams.set(key, String(value))
  return url
}

function parse(text: string, url: URL): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new HostletError(
      'E_PROTOCOL',
      `${url.origin} did not answer as a hostlet scheduler does. Is the address right?`,
      {
        cause
      }
    )
  }
}

function reported(value: unknown, status: number, url: URL): HostletError {
  const report = (value as { error?: { code?: unknown; message?: unknown; details?: unknown } } | null)?.error
  if (isErrorCode(report?.code) && typeof report.message === 'string')
    return new HostletError(report.code, report.message, { details: detailsOf(report.details) })
  return new HostletError(
    'E_PROTOCOL',
    `${url.origin} answered with status ${status} and no error of a scheduler.`
  )
}

/** What the scheduler calls a parameter is a word of the command line here. */
function inWords(error: HostletError, { path }: ApiRequest): HostletError {
  if (error.code !== 'E_BAD_REQUEST' || !error.message.startsWith('params: ')) return error
  return noSuchThing(path) ?? error
}

/** The plain facts among what came. */
function detailsOf(value: unknown): ErrorDetails {
  const isFact = ([, fact]: [string, unknown]) =>
    fact === null || ['string', 'number', 'boolean'].includes(typeof fact)
  return Object.fromEntries(Object.entries(value ?? {}).filter(isFact)) as ErrorDetails
}

/** Node's codes for what can go wrong below HTTP; what is not listed counts as unreachable. */
const faults: Readonly<Record<string, (connection: ApiPlace) => readonly [ErrorCode, string]>> = {
  ECONNREFUSED: ({ url }) => [
    'E_UNAVAILABLE',
    `no scheduler listens at ${url.origin}. Is it running, and is the port right?`
  ],
  ENOTFOUND: ({ url }) => [
    'E_UNAVAILABLE',
    `the name ${url.hostname} is not known here. Is the scheduler’s address right?`
  ],
  EAI_AGAIN: ({ url }) => [
    'E_UNAVAILABLE',
    `the name ${url.hostname} could not be looked up. Does this machine reach its DNS?`
  ],
  ERR_TLS_CERT_ALTNAME_INVALID: ({ url }) => [
    'E_AUTH',
    `the certificate of ${url.origin} is for other names than ${url.hostname}. Use a name of the scheduler’s configuration ("names").`
  ],
  CERT_HAS_EXPIRED: ({ url }) => [
    'E_AUTH',
    `the certificate of ${url.origin} has expired. Restart the scheduler, or check the clocks.`
  ],
  CERT_NOT_YET_VALID: ({ url }) => [
    'E_AUTH',
    `the certificate of ${url.origin} is not valid yet. Check the clocks of both machines.`
  ],
  EPROTO: ({ url }) => [
    'E_PROTOCOL',
    `${url.origin} does not speak TLS 1.3. Is this a scheduler’s address and port?`
  ],
  ERR_SSL_WRONG_VERSION_NUMBER: ({ url }) => [
    'E_PROTOCOL',
    `${url.origin} does not speak TLS. Is this a scheduler’s address and port?`
  ]
}
const untrusted = [
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'CERT_SIGNATURE_FAILURE'
]

export function unreachable(error: unknown, connection: ApiPlace): HostletError {
  const { code = '', message } = error as NodeJS.ErrnoException
  const [kind, text] = untrusted.includes(code)
    ? untrustedText(connection)
    : (faults[code]?.(connection) ?? [
        'E_UNAVAILABLE' as const,
        `the scheduler at ${connection.url.origin} cannot be reached (${code || message}). Check the address and the network between.`
      ])
  return new HostletError(kind, text, { cause: error })
}

function untrustedText({ url, caFile }: ApiPlace): readonly [ErrorCode, string] {
  const signer = caFile === undefined ? 'a CA that this machine trusts' : `the CA in ${caFile}`
  const next =
    caFile === undefined
      ? 'Give the scheduler’s CA with --ca-file or HOSTLET_CA_FILE.'
      : 'Fetch the CA anew, or check the address.'
  return ['E_AUTH', `the certificate of ${url.origin} is not signed by ${signer}. ${next}`]
}
