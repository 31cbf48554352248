// The messages of one connection, handled one after the other; the sender is slowed down when too much waits.

import { messageBytesMax } from '../../protocol/messages.ts'

/** Messages that wait before the socket is paused. */
export const inboxMessagesMax = 64
/** Bytes that wait before the socket is paused, however few messages they are. */
export const inboxBytesMax = 2 * messageBytesMax

export interface InboxOptions<Item> {
  handle(item: Item): Promise<void>
  /** Called when too much waits. */
  pause(): void
  /** Called when little waits again. */
  resume(): void
}

export class Inbox<Item> {
  readonly #options: InboxOptions<Item>
  readonly #items: { readonly item: Item; readonly bytes: number }[] = []
  #bytes = 0
  #running: Promise<void> | undefined
  #paused = false

  constructor(options: InboxOptions<Item>) {
    this.#options = options
  }

  /** `handle` owns its errors: it must not reject. */
  push(item: Item, bytes: number): void {
    this.#items.push({ item, bytes })
    this.#bytes += bytes
    if (this.#fill >= 1 && !this.#paused) {
      this.#paused = true
      this.#options.pause()
    }
    this.#running ??= this.#run()
  }

  /** Resolves when everything that came so far is handled. */
  async settled(): Promise<void> {
    await this.#running
  }

  /** 1 at the nearer of the bounds. */
  get #fill(): number {
    return Math.max(this.#items.length / inboxMessagesMax, this.#bytes / inboxBytesMax)
  }

  async #run(): Promise<void> {
    for (let next = this.#items.shift(); next !== undefined; next = this.#items.shift()) {
      this.#bytes -= next.bytes
      await this.#options.handle(next.item)
      if (this.#paused && this.#fill <= 0.5) {
        this.#paused = false
        this.#options.resume()
      }
    }
    this.#running = undefined
  }
}
