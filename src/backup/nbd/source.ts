// A disk behind an NBD server as something to read: which parts are zeros, which changed, and their bytes.

import { HostletError } from '../../errors.ts'
import { type Clock, systemClock } from '../../lib/clock.ts'
import type { DiskSource, Extent, Wait } from '../disk.ts'
import { connectNbd, type NbdAddress, type NbdConnection, type StatusRun } from './connection.ts'
import { violation } from './faults.ts'
import { allocationContext, allocationFlag, dirtyBitmapContext, dirtyFlag } from './protocol.ts'
import { StatusThrift } from './status-thrift.ts'

export type NbdSourceOptions = NbdAddress & {
  readonly exportName: string
  /** Name of the bitmap on the server: what it marks is dirty. Without one everything is. */
  readonly dirtyBitmap?: string
  /** Aborts the opening only. */
  readonly signal: AbortSignal
  /** For data; used where the server allows several. */
  readonly connections?: number
  readonly clock?: Clock
  readonly deadlineMs?: number
}

/** A dirty run shorter than this is read without asking whether it is zeros: that would cost as much. */
const askedBytesLeast = 1024 * 1024
/** The most that a question can be about, in whole blocks of any size: a bitmap is cheap to look at. */
const bitmapRangeBytes = 0xffff_0000

/**
 * Opens an export to read it. Throws E_NOT_FOUND when there is no such export or no such bitmap (then all is to be compared), and
 * what `connectNbd` throws.
 */
export async function openNbdSource(options: NbdSourceOptions): Promise<DiskSource> {
  const { dirtyBitmap, clock = systemClock, connections = 1 } = options
  if (dirtyBitmap === undefined) {
    const data = await connectNbd({ ...options, contexts: [allocationContext] })
    return new NbdSource({ data, changes: undefined, clock })
  }
  const context = dirtyBitmapContext(dirtyBitmap)
  // A server answers a question of status for all contexts of a connection, and allocation may be costly: the bitmap has a
  // connection of its own, so that clean ranges cost next to nothing.
  const map = await connectNbd({ ...options, connections: 1, contexts: [context] })
  try {
    if (map.info.contexts.size === 0)
      throw new HostletError('E_NOT_FOUND', `the NBD server has no bitmap "${dirtyBitmap}" for this disk`)
    const data = map.info.multipleConnections
      ? await connectNbd({ ...options, connections, contexts: [allocationContext] })
      : map
    return new NbdSource({ data, changes: { map, context }, clock })
  } catch (error) {
    await map.close()
    throw error
  }
}

interface Parts {
  readonly data: NbdConnection
  readonly changes: { readonly map: NbdConnection; readonly context: string } | undefined
  readonly clock: Clock
}

interface Range {
  readonly offset: number
  readonly length: number
}

class NbdSource implements DiskSource {
  readonly #data: NbdConnection
  readonly #changes: Parts['changes']
  readonly #clock: Clock
  readonly sizeBytes: number
  readonly readsInFlightMax: number

  constructor({ data, changes, clock }: Parts) {
    this.#data = data
    this.#changes = changes
    this.#clock = clock
    this.sizeBytes = data.info.sizeBytes
    this.readsInFlightMax = data.requestsInFlightMax
  }

  extents(wait: Wait): AsyncIterable<Extent> {
    return joined(this.#changes === undefined ? this.#allExtents(wait) : this.#changedExtents(wait))
  }

  async read(offset: number, target: Uint8Array, wait: Wait): Promise<void> {
    await this.#data.read(offset, target, wait)
  }

  async close(): Promise<void> {
    await Promise.all([this.#data.close(), this.#changes?.map.close()])
  }

  #allExtents(wait: Wait): AsyncIterable<Extent> {
    return this.#zeroExtents({ offset: 0, length: this.sizeBytes }, new StatusThrift(), wait)
  }

  async *#changedExtents(wait: Wait): AsyncIterable<Extent> {
    const thrift = new StatusThrift()
    for await (const { dirty, ...range } of this.#bitmapRuns(wait)) {
      if (dirty && range.length >= askedBytesLeast) yield* this.#zeroExtents(range, thrift, wait)
      else yield { ...range, zero: false, dirty }
    }
  }

  async *#bitmapRuns(wait: Wait): AsyncIterable<Range & { readonly dirty: boolean }> {
    if (this.#changes === undefined) return
    const { map, context } = this.#changes
    for (let offset = 0; offset < this.sizeBytes; ) {
      const runs = await statusOf(map, context, {
        ...{ offset, length: Math.min(bitmapRangeBytes, this.sizeBytes - offset) },
        wait
      })
      for (const { length, flags } of runs) {
        yield { offset, length, dirty: (flags & dirtyFlag) !== 0 }
        offset += length
      }
    }
  }

  /** A dirty range, cut into what reads as zeros and what does not. */
  async *#zeroExtents(
    { offset: start, length }: Range,
    thrift: StatusThrift,
    wait: Wait
  ): AsyncIterable<Extent> {
    const end = start + length
    const known = [...this.#data.info.contexts.values()].includes(allocationContext)
    for (let offset = start; offset < end; ) {
      const left = end - offset
      const unasked = known ? Math.min(left, thrift.unaskedBytes) : left
      if (unasked > 0) {
        thrift.passed(unasked)
        yield { offset, length: unasked, zero: false, dirty: true }
        offset += unasked
        continue
      }
      for (const run of await this.#askForZeros(offset, left, { thrift, wait })) {
        yield { offset, length: run.length, zero: (run.flags & allocationFlag.zero) !== 0, dirty: true }
        offset += run.length
      }
    }
  }

  async #askForZeros(
    offset: number,
    left: number,
    { thrift, wait }: { readonly thrift: StatusThrift; readonly wait: Wait }
  ): Promise<readonly StatusRun[]> {
    const startedAt = this.#clock.monotonic()
    const length = Math.min(left, thrift.rangeBytes)
    const runs = await statusOf(this.#data, allocationContext, { offset, length, wait })
    const zeroBytes = runs.reduce((sum, run) => sum + (run.flags & allocationFlag.zero ? run.length : 0), 0)
    thrift.answered({ tookMs: this.#clock.monotonic() - startedAt, zeroBytes })
    return runs
  }
}

async function statusOf(
  connection: NbdConnection,
  context: string,
  { offset, length, wait }: Range & { readonly wait: Wait }
): Promise<readonly StatusRun[]> {
  const runs = (await connection.blockStatus(offset, length, wait)).get(context) ?? []
  const { blockBytesLeast, sizeBytes } = connection.info
  let end = offset
  for (const run of runs) end += run.length
  const aligned = runs.every(
    (run, index) => run.length % blockBytesLeast === 0 || (index === runs.length - 1 && end === sizeBytes)
  )
  if (end > offset && aligned) return runs
  await connection.close()
  throw violation('status that ends within a block', { offset, length })
}

/** Neighbours alike become one. */
async function* joined(extents: AsyncIterable<Extent>): AsyncIterable<Extent> {
  let last: Extent | undefined
  for await (const extent of extents) {
    if (last !== undefined && last.zero === extent.zero && last.dirty === extent.dirty)
      last = { ...last, length: last.length + extent.length }
    else {
      if (last !== undefined) yield last
      last = extent
    }
  }
  if (last !== undefined) yield last
}
