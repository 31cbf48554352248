// The one who writes the trail: entries in, one write and one flush for all that wait, and a promise each that holds.

import { asHostletError, HostletError } from '../../errors.ts'
import { type ChainEntry, type EntryFields, type Link, sealEntry } from '../../lib/chain.ts'
import type { Clock } from '../../lib/clock.ts'
import { segmentBytesMax, segmentName } from './segments.ts'

/** Entries that wait for the disk. */
export const waitingMax = 10_000
/** Entries of one write and one flush. */
export const batchMax = 512

/** A file that is appended to. */
export interface TrailFile {
  /** Writes all of it at the end. */
  append(bytes: Buffer): Promise<void>
  /** On disk when it resolves: what was appended before it was called. */
  sync(): Promise<void>
  truncate(bytes: number): Promise<void>
  close(): Promise<void>
}

export interface TrailFiles {
  /** Opens or makes a file of the trail's directory, which is on disk by its name when it resolves. */
  open(name: string): Promise<TrailFile>
}

export interface WriterOptions {
  readonly files: TrailFiles
  readonly clock: Pick<Clock, 'now'>
  /** What is on disk. */
  readonly tail: Link
  /** The file to go on with, and its length; none when one is to be begun. */
  readonly segment?: { readonly name: string; readonly bytes: number } | undefined
  readonly segmentBytesMax?: number
  /** A file was begun. */
  onSegment?(): void
  /** These are on disk. */
  onDurable?(entries: readonly Written[]): void
}

export type Written = Pick<ChainEntry, 'seq' | 'hash' | 'kind'>

interface Waiting {
  readonly at: number
  readonly kind: string
  readonly fields: EntryFields
  resolve(link: Link): void
  reject(reason: unknown): void
}

export class TrailWriter {
  readonly #options: WriterOptions
  #waiting: Waiting[] = []
  #file: { readonly name: string; readonly file: TrailFile } | undefined
  #segment: { readonly name: string; readonly bytes: number } | undefined
  /** More may be in the file than what is known to be there: it is cut before anything else is written. */
  #isRagged = false
  #tail: Link
  #running: Promise<void> | undefined
  #isOpen = true
  #fault: HostletError | undefined

  constructor(options: WriterOptions) {
    this.#options = options
    this.#tail = options.tail
    this.#segment = options.segment
  }

  /** The last entry that is on disk. */
  get tail(): Link {
    return this.#tail
  }

  /** Why the last write failed; undefined once one has succeeded. */
  get fault(): HostletError | undefined {
    return this.#fault
  }

  /**
   * On disk when it resolves: a flush that began after the write has ended. Throws E_CAPACITY for a full disk, E_BUSY when
   * `waitingMax` entries wait, E_UNAVAILABLE for what else keeps a file from being written; then it is not in the trail.
   */
  append(kind: string, fields: EntryFields): Promise<Link> {
    if (!this.#isOpen) return Promise.reject(closed())
    if (this.#waiting.length >= waitingMax) return Promise.reject(tooMany())
    const { promise, resolve, reject } = Promise.withResolvers<Link>()
    this.#waiting.push({ at: this.#options.clock.now(), kind, fields, resolve, reject })
    this.#running ??= this.#run()
    return promise
  }

  /** What waits is written first. */
  async close(): Promise<void> {
    this.#isOpen = false
    await this.#running
    await this.#file?.file.close()
    this.#file = undefined
  }

  /** One batch after the other: what comes while one is flushed is in the next. */
  async #run(): Promise<void> {
    // What this turn of the event loop appends goes together.
    await undefined
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, batchMax)
      try {
        const links = await this.#write(batch)
        this.#fault = undefined
        for (const [index, entry] of batch.entries()) entry.resolve(links[index] ?? this.#tail)
      } catch (thrown) {
        this.#fault = faultOf(thrown, this.#segment?.name)
        for (const entry of batch) entry.reject(this.#fault)
      }
    }
    this.#running = undefined
  }

  async #write(batch: readonly Waiting[]): Promise<readonly Written[]> {
    let tail = this.#tail
    const sealed = batch.map((entry) => {
      const { line, link } = sealEntry(entry, tail)
      tail = link
      return { line, written: { ...link, kind: entry.kind } }
    })
    const { file, bytes } = await this.#open(this.#tail.seq + 1)
    const text = Buffer.from(sealed.map(({ line }) => `${line}\n`).join(''))
    this.#isRagged = true
    await file.append(text)
    await file.sync()
    this.#isRagged = false
    this.#segment = { name: this.#segment?.name ?? '', bytes: bytes + text.length }
    this.#tail = tail
    const written = sealed.map((each) => each.written)
    this.#options.onDurable?.(written)
    return written
  }

  /** The file to append to, at its known length. */
  async #open(next: number): Promise<{ file: TrailFile; bytes: number }> {
    const limit = this.#options.segmentBytesMax ?? segmentBytesMax
    const isFull = this.#segment !== undefined && this.#segment.bytes >= limit
    const segment =
      this.#segment === undefined || isFull ? { name: segmentName(next), bytes: 0 } : this.#segment
    if (this.#file?.name !== segment.name) {
      const file = await this.#options.files.open(segment.name)
      await this.#file?.file.close()
      this.#file = { name: segment.name, file }
      this.#segment = segment
      if (isFull) this.#options.onSegment?.()
    }
    if (this.#isRagged) await this.#file.file.truncate(segment.bytes)
    this.#isRagged = false
    return { file: this.#file.file, bytes: segment.bytes }
  }
}

function faultOf(thrown: unknown, segment: string | undefined): HostletError {
  if (thrown instanceof HostletError) return thrown
  const code = String((thrown as NodeJS.ErrnoException).code ?? 'unknown error')
  const where = `the audit trail${segment === undefined ? '' : ` (audit/${segment})`}`
  if (code === 'ENOSPC' || code === 'EDQUOT')
    return new HostletError(
      'E_CAPACITY',
      `the disk of ${where} is full, and nothing is done that cannot be written down. Free some space in the state directory.`,
      { cause: thrown }
    )
  return new HostletError('E_UNAVAILABLE', `${where} cannot be written (${code}): see "hostlet doctor".`, {
    cause: asHostletError(thrown)
  })
}

function closed(): HostletError {
  return new HostletError('E_UNAVAILABLE', 'the audit trail is closed: the agent stops. Try again later.')
}

function tooMany(): HostletError {
  return new HostletError(
    'E_BUSY',
    `${waitingMax} entries of the audit trail wait for the disk. Try again later.`
  )
}
