// A disk behind an NBD server as something to write.

import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { DiskTarget, Wait } from '../disk.ts'
import { connectNbd, type NbdAddress, type NbdConnection } from './connection.ts'

export type NbdTargetOptions = NbdAddress & {
  readonly exportName: string
  /** Aborts the opening only, and the clearing of what is not blank. */
  readonly signal: AbortSignal
  /** False when the disk may hold something: it is zeroed first. By default it was just made. */
  readonly blank?: boolean
  /** Used where the server promises that a flush of one covers the others. */
  readonly connections?: number
  readonly clock?: Clock
  readonly deadlineMs?: number
}

/** Zeros in one request: quick where the disk is sparse, and far from the deadline where it is not. */
const zeroBytesMax = 256 * 1024 * 1024

/**
 * Opens an export to write it. Throws E_CONFLICT for a read-only one, E_UNSUPPORTED where the server could not say that data is
 * on disk, and what `connectNbd` throws. `abort` leaves what lies behind the server to whoever started that.
 */
export async function openNbdTarget(options: NbdTargetOptions): Promise<DiskTarget> {
  const connection = await connectNbd(options)
  try {
    mustBeWritable(connection)
    if (options.blank === false) await clear(connection, { signal: options.signal })
  } catch (error) {
    await connection.close()
    throw error
  }
  return new NbdTarget(connection)
}

function mustBeWritable({ info }: NbdConnection): void {
  if (info.readOnly) throw new HostletError('E_CONFLICT', 'the NBD server exports this disk read-only')
  if (!info.canFlush)
    throw new HostletError('E_UNSUPPORTED', 'the NBD server cannot flush, so nothing written would be safe')
}

async function clear(connection: NbdConnection, wait: Wait): Promise<void> {
  const { sizeBytes } = connection.info
  for (let offset = 0; offset < sizeBytes; offset += zeroBytesMax)
    await connection.writeZeroes(offset, Math.min(zeroBytesMax, sizeBytes - offset), wait)
}

class NbdTarget implements DiskTarget {
  readonly #connection: NbdConnection
  readonly sizeBytes: number
  readonly writesInFlightMax: number

  constructor(connection: NbdConnection) {
    this.#connection = connection
    this.sizeBytes = connection.info.sizeBytes
    this.writesInFlightMax = connection.requestsInFlightMax
  }

  async write(offset: number, data: Uint8Array, wait: Wait): Promise<void> {
    await this.#connection.write(offset, data, wait)
  }

  async finish(wait: Wait): Promise<void> {
    await this.#connection.flush(wait)
    await this.#connection.close()
  }

  async abort(): Promise<void> {
    await this.#connection.close()
  }
}
