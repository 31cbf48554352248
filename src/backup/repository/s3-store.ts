// Objects at an S3 service: one request for most, several parts for large ones, conditional writes only where they were seen to work.

import { randomUUID } from 'node:crypto'
import type { GetObjectCommandOutput, ListObjectsV2CommandOutput } from '@aws-sdk/client-s3'
import { HostletError } from '../../errors.ts'
import type { Wait } from '../disk.ts'
import { checkLength, clampRange, contentBytes, noSuchObject, objectExists } from './object-bounds.ts'
import { isObjectName, segmentsOf, splitPrefix } from './object-name.ts'
import type { StoreContext, StoreSettings } from './open-store.ts'
import { bodyBytes, S3Requests } from './s3-client.ts'
import { factsOf } from './s3-errors.ts'
import { type PartsToPut, putInParts } from './s3-multipart.ts'
import { type ObjectEntry, type ObjectStore, objectBytesMax } from './store.ts'

/** Objects of more bytes are sent in parts, so that a broken connection costs one part. */
export const partsFromBytes = 32 * 1024 * 1024
/** S3 allows no smaller parts than 5 MiB, but for the last. */
export const partBytesDefault = 16 * 1024 * 1024
export const uploadAgeMsMax = 86_400_000
const keysPerPage = 1_000
const bucketPattern = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/

export interface S3Tuning {
  readonly partsFromBytes?: number
  readonly partBytes?: number
  /** Unfinished uploads that are older are of writers that died. */
  readonly uploadAgeMsMax?: number
  readonly attemptsMax?: number
  readonly random?: () => number
}

export class S3Store implements ObjectStore {
  readonly description: string
  readonly #bucket: string
  readonly #prefix: string
  readonly #requests: S3Requests
  readonly #tuning: S3Tuning
  #swept = false
  #hasConditionalWrites: Promise<boolean> | undefined

  private constructor(bucket: string, prefix: string, requests: S3Requests, tuning: S3Tuning) {
    this.#bucket = bucket
    this.#prefix = prefix
    this.#requests = requests
    this.#tuning = tuning
    this.description = describe(bucket, prefix)
  }

  /** Sends nothing yet. Throws E_BAD_REQUEST for an address or endpoint that cannot be, E_AUTH without credentials. */
  static async open(url: URL, settings: StoreSettings, context: StoreContext, tuning: S3Tuning = {}) {
    const bucket = url.host
    const path = url.pathname.replace(/^\/+|\/+$/g, '')
    if (!bucketPattern.test(bucket) || (path !== '' && !isObjectName(path)))
      throw new HostletError('E_BAD_REQUEST', 'the address of an S3 repository is "s3://bucket/prefix"')
    checkEndpoint(settings.endpoint)
    const prefix = path === '' ? '' : `${path}/`
    const description = describe(bucket, prefix)
    const { credentials } = settings
    if (credentials === undefined)
      throw new HostletError(
        'E_AUTH',
        `there are no credentials for ${description}. Give them in a file or as a systemd credential.`
      )
    const { clock, log } = context
    const { attemptsMax, random } = tuning
    const requests = new S3Requests({ settings, credentials, description, clock, log, attemptsMax, random })
    return new S3Store(bucket, prefix, requests, tuning)
  }

  async put(name: string, content: readonly Uint8Array[], wait: Wait & { readonly ifAbsent?: boolean }) {
    segmentsOf(name)
    const bytes = contentBytes(name, content)
    const { partsFromBytes: fromBytes = partsFromBytes, partBytes = partBytesDefault } = this.#tuning
    const body = content.length === 1 && content[0] ? content[0] : Buffer.concat(content, bytes)
    if (wait.ifAbsent) await this.#putIfAbsent(name, body, wait)
    else if (bytes <= fromBytes) await this.#putWhole(name, body, wait)
    else await putInParts(this.#requests, this.#partsToPut(name, body, wait, partBytes))
  }

  async get(
    name: string,
    wait: Wait & { readonly range?: { readonly offset: number; readonly length: number } }
  ): Promise<Uint8Array> {
    segmentsOf(name)
    const { range } = wait
    if (range === undefined) return (await this.#read(name, undefined, wait, objectBytesMax)).content
    const { length } = clampRange(range, Number.MAX_SAFE_INTEGER)
    // S3 has no empty ranges: one byte is read, and dropped.
    const end = range.offset + Math.max(1, length) - 1
    const answer = await this.#read(name, `bytes=${range.offset}-${end}`, wait, Math.max(1, length))
    return answer.content.subarray(0, length)
  }

  async getEnd(name: string, length: number, wait: Wait) {
    segmentsOf(name)
    checkLength(length)
    const { content, sizeBytes } = await this.#read(
      name,
      `bytes=-${Math.max(1, length)}`,
      wait,
      Math.max(1, length)
    )
    return { content: content.subarray(Math.max(0, content.length - length)), sizeBytes }
  }

  async *list(prefix: string, wait: Wait): AsyncGenerator<ObjectEntry> {
    splitPrefix(prefix)
    let token: string | undefined
    do {
      const page = await this.#page(prefix, token, wait)
      yield* entriesOf(page, this.#prefix)
      if (page.IsTruncated && (!page.NextContinuationToken || page.NextContinuationToken === token))
        throw new HostletError('E_PROTOCOL', `the service of ${this.description} lists without an end`)
      token = page.IsTruncated ? page.NextContinuationToken : undefined
    } while (token !== undefined)
  }

  async remove(name: string, wait: Wait): Promise<void> {
    segmentsOf(name)
    await this.#requests.run({ name, wait }, async ({ library, client, signal }) => {
      await client.send(new library.DeleteObjectCommand(this.#key(name)), { abortSignal: signal })
    })
  }

  async close(): Promise<void> {
    await this.#requests.close()
  }

  #key(name: string): { Bucket: string; Key: string } {
    return { Bucket: this.#bucket, Key: this.#prefix + name }
  }

  #partsToPut(name: string, body: Uint8Array, wait: Wait, partBytes: number): PartsToPut {
    // Once: an upload of ours shows the time of the service.
    const sweep = this.#swept
      ? undefined
      : { prefix: this.#prefix, ageMsMax: this.#tuning.uploadAgeMsMax ?? uploadAgeMsMax }
    this.#swept = true
    return { ...this.#key(name), name, body, partBytes, wait, sweep }
  }

  /** The signature covers the SHA-256 of the body, which the service checks: what is stored is what was sent. */
  async #putWhole(name: string, body: Uint8Array, wait: Wait, onAttempt?: (attempt: number) => void) {
    await this.#requests.run(
      { name, wait, bytes: body.length },
      async ({ library, client, signal, attempt }) => {
        onAttempt?.(attempt)
        const condition = onAttempt === undefined ? {} : { IfNoneMatch: '*' }
        const command = new library.PutObjectCommand({ ...this.#key(name), Body: body, ...condition })
        await client.send(command, { abortSignal: signal })
      }
    )
  }

  async #putIfAbsent(name: string, body: Uint8Array, wait: Wait): Promise<void> {
    this.#hasConditionalWrites ??= this.#probe(wait).catch((error) => {
      this.#hasConditionalWrites = undefined
      throw error
    })
    if (!(await this.#hasConditionalWrites))
      throw new HostletError('E_UNSUPPORTED', `the service of ${this.description} has no conditional writes`)
    await this.#putConditional(name, body, wait)
  }

  async #putConditional(name: string, body: Uint8Array, wait: Wait): Promise<void> {
    let attempts = 0
    try {
      await this.#putWhole(name, body, wait, (attempt) => {
        attempts = attempt
      })
    } catch (error) {
      if (!(error instanceof HostletError) || error.code !== 'E_CONFLICT') throw error
      // An earlier attempt whose answer was lost may be what is there.
      if (attempts > 1 && body.length > 0 && Buffer.from(body).equals(await this.get(name, wait))) return
      throw objectExists(name, this.description, error)
    }
  }

  /** Whether the second of two conditional writes is refused. Services that do not know the condition ignore it. */
  async #probe(wait: Wait): Promise<boolean> {
    const name = `probes/${randomUUID()}`
    try {
      await this.#putWhole(name, Buffer.from('1'), wait, () => undefined)
      await this.#putWhole(name, Buffer.from('2'), wait, () => undefined)
      return false
    } catch (error) {
      if (!(error instanceof HostletError)) throw error
      if (error.code === 'E_CONFLICT') return true
      if (error.code === 'E_UNSUPPORTED') return false
      throw error
    } finally {
      await this.remove(name, wait)
    }
  }

  async #read(name: string, range: string | undefined, wait: Wait, bytesMax: number) {
    return await this.#requests.run({ name, wait, bytes: bytesMax }, async ({ library, client, signal }) => {
      const command = new library.GetObjectCommand({ ...this.#key(name), ...(range && { Range: range }) })
      try {
        const answer = await client.send(command, { abortSignal: signal })
        return await contentOf(answer, { name, range, bytesMax, signal })
      } catch (thrown) {
        const { name: said, status } = factsOf(thrown)
        if (said === 'NoSuchKey' || said === 'NotFound') throw noSuchObject(name, this.description)
        // The range begins where the object ends.
        if (range && (said === 'InvalidRange' || status === 416))
          return { content: Buffer.alloc(0), sizeBytes: 0 }
        throw thrown
      }
    })
  }

  async #page(prefix: string, token: string | undefined, wait: Wait): Promise<ListObjectsV2CommandOutput> {
    return await this.#requests.run({ name: `${prefix}*`, wait }, async ({ library, client, signal }) => {
      const command = new library.ListObjectsV2Command({
        Bucket: this.#bucket,
        Prefix: this.#prefix + prefix,
        MaxKeys: keysPerPage,
        ...(token !== undefined && { ContinuationToken: token })
      })
      return await client.send(command, { abortSignal: signal })
    })
  }
}

async function contentOf(
  answer: GetObjectCommandOutput,
  {
    name,
    range,
    bytesMax,
    signal
  }: { name: string; range: string | undefined; bytesMax: number; signal: AbortSignal }
) {
  const length = answer.ContentLength
  const total = /\/(\d+)$/.exec(answer.ContentRange ?? '')?.[1]
  // A service that ignores ranges answers with the whole object, of which only little may be wanted.
  if (range !== undefined && total === undefined && length !== 0)
    throw new HostletError('E_UNSUPPORTED', `the service answers no ranges of objects (at "${name}")`)
  const content = await bodyBytes(answer.Body, { bytesMax, length, signal })
  return { content, sizeBytes: total === undefined ? content.length : Number(total) }
}

function entriesOf(page: ListObjectsV2CommandOutput, prefix: string): ObjectEntry[] {
  return (page.Contents ?? []).flatMap(({ Key, Size, LastModified }) => {
    const name = Key?.slice(prefix.length) ?? ''
    // Others may keep things beside ours, such as markers of folders.
    if (!Key?.startsWith(prefix) || !isObjectName(name)) return []
    return [{ name, sizeBytes: Size ?? 0, modifiedAt: LastModified?.getTime() ?? 0 }]
  })
}

function describe(bucket: string, prefix: string): string {
  return `s3://${bucket}/${prefix}`.replace(/\/$/, '')
}

function checkEndpoint(endpoint: string | undefined): void {
  if (endpoint === undefined) return
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined
  const plain = url?.username === '' && url.password === '' && url.search === ''
  if (plain && ['https:', 'http:'].includes(url.protocol)) return
  throw new HostletError('E_BAD_REQUEST', 'an endpoint is "https://name:port", without credentials')
}
