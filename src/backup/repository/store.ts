// The port to where backups are kept: named objects that appear whole or not at all. One contract suite holds every implementation to it.

import type { Wait } from '../disk.ts'

/** Longest object, in bytes: a pack with its table. */
export const objectBytesMax = 64 * 1024 * 1024

export interface ObjectEntry {
  readonly name: string
  readonly sizeBytes: number
  /** Milliseconds since the epoch by the store's own clock: for age, never for order. */
  readonly modifiedAt: number
}

/**
 * Names are segments of `[A-Za-z0-9._-]` joined by slashes, none of them `.` or `..`. Every method throws HostletError:
 * E_UNAVAILABLE for what another try may mend (after the store's own retries), E_AUTH for refused credentials, E_CAPACITY
 * for a full store, E_NOT_FOUND and E_CONFLICT as they say, E_CORRUPT for bytes that are not those that were stored.
 */
export interface ObjectStore {
  /** Address without credentials, for logs and errors. */
  readonly description: string
  /**
   * Stores an object, durable when it resolves; an object of the name is replaced whole. With `ifAbsent` it throws
   * E_CONFLICT when there is one, also where two do so at once; a store that cannot promise that throws E_UNSUPPORTED.
   */
  put(
    name: string,
    content: readonly Uint8Array[],
    wait: Wait & { readonly ifAbsent?: boolean }
  ): Promise<void>
  /** The object, or a range of it (shorter where the object ends). Throws E_NOT_FOUND. */
  get(
    name: string,
    wait: Wait & { readonly range?: { readonly offset: number; readonly length: number } }
  ): Promise<Uint8Array>
  /** The last `length` bytes of an object and its whole size, in one request. Throws E_NOT_FOUND. */
  getEnd(name: string, length: number, wait: Wait): Promise<{ content: Uint8Array; sizeBytes: number }>
  /** Objects whose names begin with `prefix`, in no order. Half-made ones are never listed. */
  list(prefix: string, wait: Wait): AsyncIterable<ObjectEntry>
  /** No effect when there is none. */
  remove(name: string, wait: Wait): Promise<void>
  close(): Promise<void>
}
