// One client of an S3 service: how Amazon's library is set up, and requests with deadlines, a bound and retries.

import { Agent as HttpAgent } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import { Readable } from 'node:stream'
import type { S3Client } from '@aws-sdk/client-s3'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline, untilAborted } from '../../lib/deadline.ts'
import { Limiter } from '../../lib/limiter.ts'
import type { Logger } from '../../lib/log.ts'
import type { Wait } from '../disk.ts'
import type { StoreCredentials, StoreSettings } from './open-store.ts'
import { attemptsMaxDefault, withRetries } from './retry.ts'
import { s3Error } from './s3-errors.ts'

type Library = typeof import('@aws-sdk/client-s3')

/** Each holds a part in memory. */
const requestsMax = 8
const waitingMax = 1_024
const connectMsMax = 10_000
/** Without a byte in either direction. */
const idleMsMax = 30_000
const requestMsMax = 60_000
/** Slower lines than this cannot carry backups. */
const bytesPerMsMin = 64
const regionDefault = 'us-east-1'

export interface S3ClientOptions {
  readonly settings: StoreSettings
  readonly credentials: StoreCredentials
  readonly description: string
  readonly clock: Clock
  readonly log?: Logger | undefined
  readonly attemptsMax?: number | undefined
  readonly random?: (() => number) | undefined
}

export interface S3Request {
  /** What the request is about, for errors and logs. */
  readonly name: string
  readonly wait: Wait
  /** Expected in either direction: gives the deadline of each attempt. */
  readonly bytes?: number
}

export class S3Requests {
  readonly #options: S3ClientOptions
  readonly #agents: readonly [HttpAgent, HttpsAgent]
  readonly #line = new Limiter({ concurrencyMax: requestsMax, waitingMax })
  #loaded: Promise<{ library: Library; client: S3Client }> | undefined

  constructor(options: S3ClientOptions) {
    this.#options = options
    const { ca } = options.settings
    const shared = { keepAlive: true, maxSockets: requestsMax }
    this.#agents = [new HttpAgent(shared), new HttpsAgent({ ...shared, ...(ca !== undefined && { ca }) })]
  }

  /**
   * Runs the work, which sends requests by the client with the signal it is given, until it succeeds or fails for good.
   * An attempt whose deadline passes is tried again; the outcome of such a request is unknown.
   */
  async run<Value>(
    { name, wait, bytes = 0 }: S3Request,
    work: (tools: {
      library: Library
      client: S3Client
      signal: AbortSignal
      attempt: number
    }) => Promise<Value>
  ): Promise<Value> {
    wait.signal.throwIfAborted()
    const { description, clock, log, attemptsMax = attemptsMaxDefault, random } = this.#options
    this.#loaded ??= this.#load()
    const loaded = await this.#loaded
    using ticket = this.#line.enter()
    await ticket.turn(wait.signal)
    return await withRetries(
      async (attempt) => {
        const ms = requestMsMax + bytes / bytesPerMsMin
        using deadline = startDeadline({ clock, ms, what: `${name} in ${description}`, signal: wait.signal })
        const { signal } = deadline
        return await untilAborted(work({ ...loaded, signal, attempt }), signal)
      },
      (thrown) => asUnavailable(s3Error(thrown, description, name)),
      {
        clock,
        signal: wait.signal,
        attemptsMax,
        ...(random !== undefined && { random }),
        onRetry: (error, attempt) =>
          log?.warn({ repository: description, name, attempt, error }, 'storage retry')
      }
    )
  }

  async close(): Promise<void> {
    // Where the library could not be loaded there is nothing to close; whoever asked for it was told.
    const loaded = await this.#loaded?.catch(() => undefined)
    loaded?.client.destroy()
    for (const agent of this.#agents) agent.destroy()
  }

  async #load() {
    const library = await import('@aws-sdk/client-s3')
    return { library, client: this.#newClient(library) }
  }

  /** Everything is said, so that the library looks for nothing in files, the environment or the cloud's metadata. */
  #newClient(library: Library): S3Client {
    const { endpoint, region = regionDefault, pathStyle = endpoint !== undefined } = this.#options.settings
    const [httpAgent, httpsAgent] = this.#agents
    return new library.S3Client({
      region,
      ...(endpoint !== undefined && { endpoint }),
      forcePathStyle: pathStyle,
      credentials: { ...this.#options.credentials },
      maxAttempts: 1,
      retryMode: 'standard',
      defaultsMode: 'standard',
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      requestHandler: { httpAgent, httpsAgent, connectionTimeout: connectMsMax, socketTimeout: idleMsMax }
    })
  }
}

/** A request whose deadline has passed every time is a service that does not answer. */
function asUnavailable({ error, retryable }: ReturnType<typeof s3Error>) {
  if (error.code !== 'E_TIMEOUT') return { error, retryable }
  const text = `${error.message}. Check the endpoint and the network.`
  return { error: new HostletError('E_UNAVAILABLE', text, { cause: error }), retryable }
}

/** The bytes of an answer, as many as it says it has. Ends with the signal, also in the middle. */
export async function bodyBytes(
  body: unknown,
  { bytesMax, length, signal }: { bytesMax: number; length: number | undefined; signal: AbortSignal }
): Promise<Buffer> {
  if (!(body instanceof Readable)) throw new TypeError('an answer without a body')
  const abort = () => body.destroy(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  try {
    const chunks: Buffer[] = []
    let bytes = 0
    for await (const chunk of body) {
      bytes += chunk.length
      if (bytes > bytesMax) throw tooLong(bytesMax)
      chunks.push(chunk)
    }
    // Whoever cuts an answer short may close the connection in good order.
    if (length !== undefined && bytes !== length) throw new Error('the answer ended early')
    return Buffer.concat(chunks, bytes)
  } finally {
    signal.removeEventListener('abort', abort)
    body.destroy()
  }
}

function tooLong(bytesMax: number): HostletError {
  return new HostletError(
    'E_CORRUPT',
    `an object has more than ${bytesMax} bytes. It was not written by hostlet.`
  )
}
