// Brings an image's bytes into a private file of the host, counted and hashed on the way.

import { Buffer } from 'node:buffer'
import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { rm, statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { HostletError } from '../../errors.ts'
import type { ImageReference } from '../../protocol/vm.ts'
import { downloadFailure, type ImageContent } from './image-source.ts'
import { headerBytesMax, readQcow2Header } from './qcow2-header.ts'

/** What was learned of an image while its bytes went by. */
export interface Digested {
  readonly sha256: string
  readonly sizeBytes: number
  /** The first bytes, enough for a header. */
  readonly head: Buffer
}

export interface DownloadOptions {
  readonly image: ImageReference
  readonly path: string
  readonly bytesMax: number
  readonly signal: AbortSignal
  readonly onBytes: (received: number, expected: number | undefined) => void
}

/**
 * Writes the content to a new file and returns what it is. The file is gone when this throws: E_CAPACITY, E_UNAVAILABLE
 * (cut off), E_CORRUPT (another digest), E_BAD_REQUEST (not what the format says), or the signal's reason.
 */
export async function downloadImage(content: ImageContent, options: DownloadOptions): Promise<Digested> {
  const { image, path, signal } = options
  try {
    await requireRoom(content.lengthBytes, options)
    const gathered = gather(content, options)
    await pipeline(content.stream, gathered.pass, createWriteStream(path, { flags: 'wx', mode: 0o600 }), {
      signal
    })
    const digested = gathered.result()
    requireWhole(digested, content, image)
    return digested
  } catch (error) {
    await rm(path, { force: true })
    throw failureOf(error, options)
  } finally {
    content.stream.on('error', () => undefined).destroy()
  }
}

/** Hashes a stream to its end. */
export async function digestStream(stream: Readable): Promise<Digested> {
  const digest = new Digest()
  for await (const chunk of stream) digest.add(chunk)
  return digest.result()
}

/** The size that a guest sees. Throws E_BAD_REQUEST when the bytes are not of the format, or not to be trusted. */
export function virtualSizeOf(image: ImageReference, { head, sizeBytes }: Digested): number {
  if (image.format === 'qcow2') return readQcow2Header(head).virtualSizeBytes
  if (head.subarray(0, 4).toString('latin1') === 'QFI\xfb')
    throw new HostletError('E_BAD_REQUEST', 'the image cannot be used: it is qcow2, and the command says raw')
  return sizeBytes
}

class Digest {
  readonly #hash = createHash('sha256')
  readonly #head = Buffer.alloc(headerBytesMax)
  #sizeBytes = 0

  add(chunk: Buffer): number {
    if (this.#sizeBytes < headerBytesMax) chunk.copy(this.#head, this.#sizeBytes)
    this.#hash.update(chunk)
    this.#sizeBytes += chunk.length
    return this.#sizeBytes
  }

  result(): Digested {
    const head = this.#head.subarray(0, Math.min(this.#sizeBytes, headerBytesMax))
    return { sha256: this.#hash.digest('hex'), sizeBytes: this.#sizeBytes, head }
  }
}

function gather({ lengthBytes }: ImageContent, { image, bytesMax, onBytes }: DownloadOptions) {
  const digest = new Digest()
  const pass = async function* (source: AsyncIterable<Buffer>) {
    for await (const chunk of source) {
      const received = digest.add(chunk)
      if (received > bytesMax) throw tooLarge(image, bytesMax)
      onBytes(received, lengthBytes)
      yield chunk
    }
  }
  return { pass, result: () => digest.result() }
}

async function requireRoom(lengthBytes: number | undefined, options: DownloadOptions): Promise<void> {
  if (lengthBytes === undefined) return
  if (lengthBytes > options.bytesMax) throw tooLarge(options.image, options.bytesMax)
  const directory = dirname(options.path)
  const { bavail, bsize } = await statfs(directory)
  if (bavail * bsize < lengthBytes)
    throw noRoom(directory, { needed: lengthBytes, available: bavail * bsize })
}

function requireWhole(digested: Digested, content: ImageContent, image: ImageReference): void {
  const { lengthBytes } = content
  if (lengthBytes !== undefined && digested.sizeBytes < lengthBytes) {
    const details = { receivedBytes: digested.sizeBytes, expectedBytes: lengthBytes }
    throw new HostletError('E_UNAVAILABLE', 'the image was cut off on its way. Try again.', { details })
  }
  if (digested.sha256 === image.sha256) return
  throw new HostletError(
    'E_CORRUPT',
    `the image's SHA-256 is ${digested.sha256}, the command says ${image.sha256}. Check the image at its source, and the digest.`,
    { details: { found: digested.sha256, expected: image.sha256 } }
  )
}

function failureOf(error: unknown, { path, image, signal }: DownloadOptions): unknown {
  const code = (error as NodeJS.ErrnoException).code
  if (code === 'ENOSPC' || code === 'EDQUOT') return noRoom(dirname(path), { cause: error })
  return downloadFailure(error, image.url, signal)
}

function tooLarge(image: ImageReference, bytesMax: number): HostletError {
  return new HostletError(
    'E_CAPACITY',
    `image ${image.sha256.slice(0, 12)} is larger than the ${bytesMax} bytes that this host keeps for images (images.cacheBytesMax)`
  )
}

function noRoom(
  directory: string,
  { needed, available, cause }: { needed?: number; available?: number; cause?: unknown }
): HostletError {
  const figures = needed === undefined ? '' : `: ${needed} bytes are needed, ${available} are left`
  return new HostletError(
    'E_CAPACITY',
    `no room for the image in ${directory}${figures}. Free some, or use another host.`,
    {
      cause
    }
  )
}
