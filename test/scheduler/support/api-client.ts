// Asks the scheduler's API over real TLS, and holds every error to its schema.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { type RequestOptions, request } from 'node:https'
import { ApiError } from '../../../src/protocol/api.ts'
import { compile } from '../../../src/protocol/validate.ts'

const readError = compile(ApiError, 'error of the API')

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: unknown
}

export interface AskOptions {
  readonly method?: string
  readonly path: string
  readonly key?: string | undefined
  readonly json?: unknown
  /** Instead of `json`: these bytes, with this content type. */
  readonly raw?: { readonly text: string; readonly type?: string }
  readonly headers?: Readonly<Record<string, string>>
  readonly tls?: Pick<RequestOptions, 'key' | 'cert'>
}

export class ApiClient {
  readonly url: string
  readonly #ca: string
  readonly #key: string | undefined

  constructor(options: { url: string; caFile: string; key?: string | undefined }) {
    this.url = options.url
    this.#ca = readFileSync(options.caFile, 'utf8')
    this.#key = options.key
  }

  get ca(): string {
    return this.#ca
  }

  async ask({ method = 'GET', path, key = this.#key, json, raw, headers, tls }: AskOptions): Promise<Answer> {
    const text = raw?.text ?? (json === undefined ? undefined : JSON.stringify(json))
    const type = raw === undefined ? 'application/json' : raw.type
    const sent = request(new URL(path, this.url), {
      ...tls,
      ca: this.#ca,
      method,
      agent: false,
      headers: {
        ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
        ...(text === undefined || type === undefined ? {} : { 'content-type': type }),
        ...(text === undefined ? {} : { 'content-length': String(Buffer.byteLength(text)) }),
        ...headers
      }
    })
    return new Promise((resolve, reject) => {
      sent.on('error', reject)
      sent.on('response', (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('error', reject)
        response.on('end', () => {
          const answer = Buffer.concat(chunks).toString()
          const isJson = response.headers['content-type']?.startsWith('application/json')
          const body: unknown = isJson ? JSON.parse(answer) : answer
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body })
        })
      })
      sent.end(text)
    })
  }

  /** The body of a success, typed as the caller says; anything else fails the test. */
  async get<Body>(path: string, options: Omit<AskOptions, 'path'> = {}): Promise<Body> {
    return this.#success<Body>({ ...options, path })
  }

  async post<Body>(path: string, json: unknown = {}, options: Omit<AskOptions, 'path'> = {}): Promise<Body> {
    return this.#success<Body>({ ...options, path, method: 'POST', json })
  }

  async delete<Body>(path: string): Promise<Body> {
    return this.#success<Body>({ path, method: 'DELETE' })
  }

  /** The error of a failure, which must have the form that all have. */
  async failure(options: AskOptions): Promise<ApiError['error'] & { status: number }> {
    const { status, body } = await this.ask(options)
    assert.ok(status >= 400, `${options.path} answered ${status}`)
    return { ...readError(body).error, status }
  }

  async #success<Body>(options: AskOptions): Promise<Body> {
    const { status, body } = await this.ask(options)
    assert.ok(status < 300, `${options.method ?? 'GET'} ${options.path}: ${status} ${JSON.stringify(body)}`)
    return body as Body
  }
}
