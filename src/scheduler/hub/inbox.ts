// The messages of one connection, handled one after the other; the sender is slowed down when too many wait.

/** Messages that wait before the socket is paused. */
export const inboxMessagesMax = 64

export interface InboxOptions<Item> {
  handle(item: Item): Promise<void>
  /** Called when too many wait. */
  pause(): void
  /** Called when few wait again. */
  resume(): void
}

export class Inbox<Item> {
  readonly #options: InboxOptions<Item>
  readonly #items: Item[] = []
  #running: Promise<void> | undefined
  #paused = false

  constructor(options: InboxOptions<Item>) {
    this.#options = options
  }

  /** `handle` owns its errors: it must not reject. */
  push(item: Item): void {
    this.#items.push(item)
    if (this.#items.length >= inboxMessagesMax && !this.#paused) {
      this.#paused = true
      this.#options.pause()
    }
    this.#running ??= this.#run()
  }

  /** Resolves when everything that came so far is handled. */
  async settled(): Promise<void> {
    await this.#running
  }

  async #run(): Promise<void> {
    for (let item = this.#items.shift(); item !== undefined; item = this.#items.shift()) {
      await this.#options.handle(item)
      if (this.#paused && this.#items.length <= inboxMessagesMax / 2) {
        this.#paused = false
        this.#options.resume()
      }
    }
    this.#running = undefined
  }
}
