// Finished packs on their way to the repository: a few at a time, and all of them durable before anyone relies on them.

import { packName } from '../format/pack.ts'
import type { PackContent } from '../format/pack-builder.ts'
import type { ObjectStore } from '../repository/store.ts'

export interface UploadOptions {
  readonly store: ObjectStore
  readonly vm: string
  /** Packs on their way at a time, before `room` makes callers wait. */
  readonly inFlightMax: number
  readonly signal: AbortSignal
  /** The first failure of the store. The owner aborts the signal; nothing more can come of this backup. */
  readonly onFailure: (error: unknown) => void
}

export class Uploads {
  readonly #options: UploadOptions
  readonly #running = new Set<Promise<void>>()
  #storedBytes = 0
  #packs = 0

  constructor(options: UploadOptions) {
    this.#options = options
  }

  get storedBytes(): number {
    return this.#storedBytes
  }

  get packs(): number {
    return this.#packs
  }

  /** Resolves when a further pack may be sent. */
  async room(): Promise<void> {
    while (this.#running.size >= this.#options.inFlightMax) await Promise.race(this.#running)
    this.#options.signal.throwIfAborted()
  }

  /** Begins to store a pack. `release` gets its buffer back when it is stored. */
  send(pack: PackContent, release: () => void): void {
    const task: Promise<void> = this.#store(pack)
      .then(release, this.#options.onFailure)
      .finally(() => this.#running.delete(task))
    this.#running.add(task)
  }

  /** Resolves when nothing is on its way any more, whatever became of it. */
  async settled(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running)
  }

  async #store(pack: PackContent): Promise<void> {
    const { store, vm, signal } = this.#options
    await store.put(packName(vm, pack), [pack.content], { signal })
    this.#storedBytes += pack.content.length
    this.#packs++
  }
}
