// Opens an image where its URL says: over HTTPS with a few redirects, or a file of this host.

import { readFile } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { getCACertificates } from 'node:tls'
import type { Dispatcher } from 'undici'
import { type ErrorCode, HostletError } from '../../errors.ts'
import { openImageFile, requireAllowedFile } from './image-file.ts'

export const redirectsMax = 5
const connectTimeoutMs = 15_000
const answerTimeoutMs = 30_000
/** Longest silence in the middle of a download. */
const silenceTimeoutMs = 60_000

export interface ImageContent {
  readonly stream: Readable
  /** Undefined where the server does not say. */
  readonly lengthBytes: number | undefined
}

export interface ImageSourceOptions {
  readonly allowFileUrls: readonly string[]
  /** PEM file of a private CA, besides the public ones. */
  readonly ca?: string | undefined
}

export class ImageSource {
  readonly #options: ImageSourceOptions
  #client: Promise<{ agent: Dispatcher; request: typeof import('undici').request }> | undefined

  constructor(options: ImageSourceOptions) {
    this.#options = options
  }

  /** Whether this host would fetch from there at all, cached or not. Throws E_BAD_REQUEST, E_AUTH. */
  async permit(text: string): Promise<void> {
    const url = parseUrl(text)
    if (url.protocol === 'file:') await requireAllowedFile(url, this.#options.allowFileUrls)
  }

  /** Throws E_BAD_REQUEST, E_AUTH, E_NOT_FOUND, E_UNAVAILABLE; the signal's reason when aborted. */
  async open(text: string, signal: AbortSignal): Promise<ImageContent> {
    const url = parseUrl(text)
    if (url.protocol === 'file:') return await openImageFile(url, this.#options.allowFileUrls)
    let next = url
    for (let redirects = 0; redirects <= redirectsMax; redirects++) {
      const answer = await this.#get(next, signal)
      if (answer instanceof URL) next = answer
      else return answer
    }
    throw new HostletError('E_UNAVAILABLE', `image ${shown(url)}: more than ${redirectsMax} redirects`)
  }

  async close(): Promise<void> {
    await (await this.#client?.catch(() => undefined))?.agent.destroy()
  }

  /** The content, or where it is to be found instead. */
  async #get(url: URL, signal: AbortSignal): Promise<ImageContent | URL> {
    try {
      const { agent, request } = await this.#connected()
      const { statusCode, headers, body } = await request(url, { dispatcher: agent, signal })
      if (statusCode === 200) return { stream: body, lengthBytes: lengthOf(headers['content-length']) }
      // What stays unread would hold its connection.
      body.on('error', () => undefined).destroy()
      if (statusCode >= 301 && statusCode <= 308 && typeof headers.location === 'string')
        return parseRedirect(headers.location, url)
      throw new HostletError(codeOf(statusCode), `image ${shown(url)}: the server answers ${statusCode}`)
    } catch (error) {
      throw downloadFailure(error, url, signal)
    }
  }

  /** Loaded when a first image is fetched: most starts of an agent fetch none. */
  #connected() {
    this.#client ??= this.#connect()
    this.#client.catch(() => {
      this.#client = undefined
    })
    return this.#client
  }

  async #connect() {
    const { Agent, request } = await import('undici')
    const { ca } = this.#options
    const own = ca === undefined ? [] : [await readFile(ca, 'utf8')]
    const trusted = [...new Set([...getCACertificates('default'), ...getCACertificates('system'), ...own])]
    const agent = new Agent({
      connect: { ca: trusted, timeout: connectTimeoutMs },
      headersTimeout: answerTimeoutMs,
      bodyTimeout: silenceTimeoutMs
    })
    return { agent, request }
  }
}

/** A failure of the transfer: nothing happened, and it may work later. */
export function downloadFailure(error: unknown, url: URL | string, signal: AbortSignal): unknown {
  if (signal.aborted) return signal.reason
  if (error instanceof HostletError) return error
  const cause = error as NodeJS.ErrnoException
  const why = cause.code ?? cause.message
  const next = certificateFaults.test(why)
    ? "The server's certificate is not accepted: check it, or name its CA in images.ca of the agent's configuration."
    : 'Check the address and the network of this host.'
  return new HostletError('E_UNAVAILABLE', `image ${shown(url)} cannot be fetched (${why}). ${next}`, {
    cause
  })
}

/** OpenSSL's and Node's codes for a server that is not who it should be. */
const certificateFaults = /CERT|^UNABLE_TO_(GET_ISSUER|VERIFY)|^HOSTNAME_MISMATCH|^INVALID_CA|^PATH_LENGTH/

function parseUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol === 'file:') return url
  if (url?.protocol !== 'https:')
    throw new HostletError('E_BAD_REQUEST', 'an image needs an https:// or file:// address')
  // It would be kept in the VM's metadata and in logs.
  if (url.username !== '' || url.password !== '')
    throw new HostletError(
      'E_BAD_REQUEST',
      `image ${shown(url)}: an address must not contain a user or password`
    )
  return url
}

function parseRedirect(location: string, from: URL): URL {
  const url = URL.canParse(location, from) ? new URL(location, from) : undefined
  if (url?.protocol === 'https:') return url
  throw new HostletError('E_UNAVAILABLE', `image ${shown(from)}: the server redirects away from HTTPS`)
}

function lengthOf(header: string | string[] | undefined): number | undefined {
  return typeof header === 'string' && /^[0-9]{1,15}$/.test(header) ? Number(header) : undefined
}

const statusCodes: Readonly<Partial<Record<number, ErrorCode>>> = {
  401: 'E_AUTH',
  403: 'E_AUTH',
  404: 'E_NOT_FOUND',
  410: 'E_NOT_FOUND'
}

function codeOf(status: number): ErrorCode {
  return statusCodes[status] ?? 'E_UNAVAILABLE'
}

/** Without the query, which in signed addresses is a secret. */
function shown(url: URL | string): string {
  const { protocol, host, pathname } = new URL(url)
  return `${protocol}//${host}${pathname}`
}
