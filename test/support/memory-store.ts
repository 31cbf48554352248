// An object store in memory for tests: the port's promises, objects in plain view, and faults on demand.

import {
  clampRange,
  contentBytes,
  noSuchObject,
  objectExists
} from '../../src/backup/repository/object-bounds.ts'
import { segmentsOf, splitPrefix } from '../../src/backup/repository/object-name.ts'
import type { ObjectEntry, ObjectStore } from '../../src/backup/repository/store.ts'
import { HostletError } from '../../src/errors.ts'

export type StoreCall = 'put' | 'get' | 'getEnd' | 'list' | 'remove'

export interface MemoryStoreOptions {
  /** The store's own clock, for `modifiedAt`. */
  readonly now?: () => number
  /** Without them `ifAbsent` throws E_UNSUPPORTED. */
  readonly conditionalWrites?: boolean
  /** Runs before each call takes effect: throw (or reject) to make it fail, wait to make it slow. */
  readonly before?: (call: StoreCall, name: string) => void | Promise<void>
  /** Runs after the effect and before the answer: throw to lose the answer. */
  readonly after?: (call: StoreCall, name: string) => void | Promise<void>
}

interface MemoryObject {
  content: Uint8Array
  modifiedAt: number
}

export class MemoryStore implements ObjectStore {
  readonly description = 'memory'
  /** What is stored, for a test to look at and to damage. */
  readonly objects: Map<string, MemoryObject>
  /** Every call since the start, as "put a/b". */
  readonly calls: string[] = []
  readonly #options: MemoryStoreOptions

  /** Give it the objects of another to see one repository through two stores. */
  constructor(options: MemoryStoreOptions = {}, objects = new Map<string, MemoryObject>()) {
    this.#options = options
    this.objects = objects
  }

  async put(name: string, content: readonly Uint8Array[], wait: { signal: AbortSignal; ifAbsent?: boolean }) {
    segmentsOf(name)
    contentBytes(name, content)
    const bytes = new Uint8Array(Buffer.concat(content))
    await this.#enter('put', name, wait)
    if (wait.ifAbsent && this.#options.conditionalWrites === false)
      throw new HostletError('E_UNSUPPORTED', 'this store has no conditional writes')
    if (wait.ifAbsent && this.objects.has(name)) throw objectExists(name, this.description)
    this.objects.set(name, { content: bytes, modifiedAt: (this.#options.now ?? Date.now)() })
    await this.#options.after?.('put', name)
  }

  async get(name: string, wait: { signal: AbortSignal; range?: { offset: number; length: number } }) {
    segmentsOf(name)
    await this.#enter('get', name, wait)
    const { content } = this.#object(name)
    const { offset, length } = clampRange(wait.range ?? { offset: 0, length: content.length }, content.length)
    await this.#options.after?.('get', name)
    return content.slice(offset, offset + length)
  }

  async getEnd(name: string, length: number, wait: { signal: AbortSignal }) {
    segmentsOf(name)
    await this.#enter('getEnd', name, wait)
    const { content } = this.#object(name)
    const range = clampRange({ offset: Math.max(0, content.length - length), length }, content.length)
    await this.#options.after?.('getEnd', name)
    return { content: content.slice(range.offset), sizeBytes: content.length }
  }

  async *list(prefix: string, wait: { signal: AbortSignal }): AsyncGenerator<ObjectEntry> {
    splitPrefix(prefix)
    await this.#enter('list', prefix, wait)
    // What is there now, as a service answers a page at a time: changes while the caller looks are not seen.
    const entries = [...this.objects].filter(([name]) => name.startsWith(prefix))
    await this.#options.after?.('list', prefix)
    for (const [name, { content, modifiedAt }] of entries) {
      wait.signal.throwIfAborted()
      yield { name, sizeBytes: content.length, modifiedAt }
    }
  }

  async remove(name: string, wait: { signal: AbortSignal }) {
    segmentsOf(name)
    await this.#enter('remove', name, wait)
    this.objects.delete(name)
    await this.#options.after?.('remove', name)
  }

  async close(): Promise<void> {}

  #object(name: string): MemoryObject {
    const object = this.objects.get(name)
    if (object === undefined) throw noSuchObject(name, this.description)
    return object
  }

  async #enter(call: StoreCall, name: string, { signal }: { signal: AbortSignal }): Promise<void> {
    signal.throwIfAborted()
    this.calls.push(`${call} ${name}`)
    await this.#options.before?.(call, name)
    signal.throwIfAborted()
  }
}
