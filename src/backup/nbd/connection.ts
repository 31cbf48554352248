// An NBD export to read, write and ask about, over one or more connections.

import { HostletError } from '../../errors.ts'
import { type Clock, systemClock } from '../../lib/clock.ts'
import type { Wait } from '../disk.ts'
import { Channel, requestsInFlightMax } from './channel.ts'
import { Coverage } from './coverage.ts'
import { checkWanted, type ExportInfo } from './handshake.ts'
import { command } from './protocol.ts'
import { type Request, type StatusRun, unanswered } from './requests.ts'
import type { NbdAddress } from './socket.ts'

export type { ExportInfo } from './handshake.ts'
export type { StatusRun } from './requests.ts'
export type { NbdAddress } from './socket.ts'

export type NbdOptions = NbdAddress & {
  readonly exportName: string
  /** Metadata contexts to ask for; the server may know none of them. */
  readonly contexts?: readonly string[]
  /** Aborts the connecting only. */
  readonly signal: AbortSignal
  /** More than one is used only where the server says that several see the same bytes. */
  readonly connections?: number
  readonly clock?: Clock
  /** For the handshake, and for each request; a server that takes longer is given up. */
  readonly deadlineMs?: number
}

export interface NbdConnection {
  readonly info: ExportInfo
  /** Requests of up to `requestBytes` that are worth having in flight. */
  readonly requestsInFlightMax: number
  /**
   * Fills `target`. When it has settled, however it has, nothing writes to `target` any more. Throws E_BAD_REQUEST outside of
   * the disk or off its block size, E_UNAVAILABLE when the server is lost or cannot read, E_PROTOCOL, E_TIMEOUT.
   */
  read(offset: number, target: Uint8Array, wait: Wait): Promise<void>
  /** `data` must not change before it has settled. E_CAPACITY when the disk's store is full. */
  write(offset: number, data: Uint8Array, wait: Wait): Promise<void>
  /** Throws E_UNSUPPORTED where the server cannot. */
  writeZeroes(offset: number, length: number, wait: Wait): Promise<void>
  /** What all connections have written is on disk. */
  flush(wait: Wait): Promise<void>
  /**
   * Runs from `offset` on, by context; each list covers at least one byte and at most `length` (below 4 GiB). Asked of the
   * server as one request.
   */
  blockStatus(offset: number, length: number, wait: Wait): Promise<ReadonlyMap<string, readonly StatusRun[]>>
  close(): Promise<void>
}

const deadlineMsDefault = 60_000
const connectionsMax = 16
/** A larger read or write is sent as several, over all connections. */
export const requestBytes = 1024 * 1024
const lengthMax = 0xffff_ffff

/** Connects and agrees on contexts. Throws E_UNAVAILABLE, E_NOT_FOUND for an unknown export, E_PROTOCOL, E_TIMEOUT. */
export async function connectNbd(options: NbdOptions): Promise<NbdConnection> {
  const { exportName, contexts = [], signal, connections = 1 } = options
  const { clock = systemClock, deadlineMs = deadlineMsDefault } = options
  checkWanted(exportName, contexts)
  signal.throwIfAborted()
  const open = () => Channel.open({ address: options, exportName, contexts, clock, deadlineMs }, signal)
  const channels = [await open()] as [Channel, ...Channel[]]
  const { info } = channels[0]
  const wanted = info.multipleConnections ? Math.min(connections, connectionsMax) : 1
  try {
    while (channels.length < wanted) channels.push(checkSame(await open(), info))
  } catch (error) {
    await closeAll(channels)
    throw error
  }
  return new Pool(channels)
}

function checkSame(channel: Channel, { sizeBytes, contexts }: ExportInfo): Channel {
  if (channel.info.sizeBytes === sizeBytes && channel.info.contexts.size === contexts.size) return channel
  void channel.close()
  throw new HostletError('E_PROTOCOL', 'two connections to one NBD export differ in what they say of it')
}

async function closeAll(channels: readonly Channel[]): Promise<void> {
  await Promise.all(channels.map((channel) => channel.close()))
}

class Pool implements NbdConnection {
  readonly #channels: readonly [Channel, ...Channel[]]
  readonly #requestBytes: number
  readonly info: ExportInfo
  readonly requestsInFlightMax: number

  constructor(channels: readonly [Channel, ...Channel[]]) {
    this.#channels = channels
    this.info = channels[0].info
    this.#requestBytes = Math.min(requestBytes, this.info.payloadBytesMax)
    this.requestsInFlightMax = channels.length * requestsInFlightMax
  }

  async read(offset: number, target: Uint8Array, { signal }: Wait): Promise<void> {
    this.#check('read', offset, target.length)
    await this.#inPieces(target.length, (start, length) => {
      const piece = target.subarray(start, start + length)
      const base = { name: 'read', type: command.read, offset: offset + start, length }
      return this.#ask(
        { ...unanswered, ...base, kind: 'read', target: piece, coverage: new Coverage(length) },
        signal
      )
    })
  }

  async write(offset: number, data: Uint8Array, { signal }: Wait): Promise<void> {
    this.#check('write', offset, data.length)
    await this.#inPieces(data.length, (start, length) => {
      const payload = data.subarray(start, start + length)
      const base = { name: 'write', type: command.write, offset: offset + start, length }
      return this.#ask({ ...unanswered, ...base, kind: 'plain', payload }, signal)
    })
  }

  async writeZeroes(offset: number, length: number, { signal }: Wait): Promise<void> {
    if (!this.info.canWriteZeroes)
      throw new HostletError('E_UNSUPPORTED', 'the NBD server cannot write zeros by itself')
    this.#check('write of zeros', offset, length)
    await this.#plain('write of zeros', command.writeZeroes, { offset, length, signal })
  }

  async flush({ signal }: Wait): Promise<void> {
    if (!this.info.canFlush) return
    // A flush of one connection covers the others' finished writes where the server promises that; ours are one at least.
    await this.#plain('flush', command.flush, { offset: 0, length: 0, signal })
  }

  async blockStatus(
    offset: number,
    length: number,
    { signal }: Wait
  ): Promise<ReadonlyMap<string, readonly StatusRun[]>> {
    this.#check('question of status', offset, length)
    const { contexts } = this.info
    if (contexts.size === 0)
      throw new HostletError('E_UNSUPPORTED', 'no metadata context was agreed with the NBD server')
    const answers = new Map<number, StatusRun[]>()
    const base = { name: 'question of status', type: command.blockStatus, offset, length }
    await this.#ask({ ...unanswered, ...base, kind: 'status', answers }, signal)
    return new Map([...answers].map(([id, runs]) => [contexts.get(id) ?? '', runs]))
  }

  async close(): Promise<void> {
    await closeAll(this.#channels)
  }

  #plain(
    name: string,
    type: number,
    { signal, ...range }: { readonly offset: number; readonly length: number; readonly signal: AbortSignal }
  ): Promise<void> {
    return this.#ask({ ...unanswered, ...range, name, type, kind: 'plain', payload: undefined }, signal)
  }

  /** Settles when every piece has, since each may still use the caller's memory. */
  async #inPieces(total: number, ask: (start: number, length: number) => Promise<void>): Promise<void> {
    if (total <= this.#requestBytes) return await ask(0, total)
    const pieces: Promise<void>[] = []
    for (let start = 0; start < total; start += this.#requestBytes)
      pieces.push(ask(start, Math.min(this.#requestBytes, total - start)))
    const failed = (await Promise.allSettled(pieces)).find((piece) => piece.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  }

  #ask(request: Request, signal: AbortSignal): Promise<void> {
    return this.#leastLoaded().ask(request, signal)
  }

  #leastLoaded(): Channel {
    let [best] = this.#channels
    for (const channel of this.#channels) {
      // One lost connection means a lost server: its error is what everyone should see.
      if (channel.failed) return channel
      if (channel.load < best.load) best = channel
    }
    return best
  }

  #check(what: string, offset: number, length: number): void {
    const { sizeBytes, blockBytesLeast } = this.info
    const inside = offset >= 0 && length > 0 && length <= lengthMax && offset + length <= sizeBytes
    const aligned = offset % blockBytesLeast === 0 && length % blockBytesLeast === 0
    if (inside && aligned && Number.isSafeInteger(offset) && Number.isSafeInteger(length)) return
    throw new HostletError(
      'E_BAD_REQUEST',
      `a ${what} of ${length} bytes at ${offset} does not fit a disk of ${sizeBytes} bytes in blocks of ${blockBytesLeast}`
    )
  }
}
