// Remembers events as they come and lets a test wait for one of them.

import type { Connection } from '../../../src/node-libvirt/connection.ts'
import type { LibvirtEvent } from '../../../src/node-libvirt/protocol/procedure.ts'
import type { AnyType, Infer } from '../../../src/node-libvirt/xdr/schema.ts'
import type { Coverage } from './coverage.ts'

const WAIT_DEADLINE_MS = 30_000

/** An entry of `domainEvents` and its kin. */
interface EventEntry<P extends AnyType> {
  readonly id: number
  readonly message: LibvirtEvent<P>
}

interface Recorded {
  readonly message: LibvirtEvent
  readonly payload: unknown
}

export class Recorder {
  readonly #coverage: Coverage
  readonly #recorded: Recorded[] = []
  #wake = Promise.withResolvers<void>()

  constructor(coverage: Coverage) {
    this.#coverage = coverage
  }

  /** The subscriptions last as long as the connection. */
  async listen(connection: Pick<Connection, 'on'>, events: Readonly<Record<string, EventEntry<AnyType>>>) {
    for (const event of Object.values(events)) {
      await connection.on(event, (payload) => this.#record(event.message, payload))
    }
  }

  /** The first event of that kind, past or to come, that `matches`. */
  async seen<P extends AnyType>(
    event: EventEntry<P>,
    matches: (payload: Infer<P>) => boolean
  ): Promise<Infer<P>> {
    const [first] = await this.several(event, matches, 1)
    return first as Infer<P>
  }

  /** Waits until there were `count` of them. */
  async several<P extends AnyType>(
    { message }: EventEntry<P>,
    matches: (payload: Infer<P>) => boolean,
    count: number
  ): Promise<Infer<P>[]> {
    const late = Promise.withResolvers<never>()
    const timer = setTimeout(
      () => late.reject(new Error(`event ${message.number} did not come within ${WAIT_DEADLINE_MS} ms`)),
      WAIT_DEADLINE_MS
    )
    try {
      while (true) {
        const payloads = this.#recorded
          .filter((one) => one.message === message)
          .map((one) => one.payload as Infer<P>)
        const found = payloads.filter(matches)
        if (found.length >= count) {
          this.#coverage.saw(message)
          return found
        }
        await Promise.race([this.#wake.promise, late.promise])
      }
    } finally {
      clearTimeout(timer)
    }
  }

  #record(message: LibvirtEvent, payload: unknown): void {
    this.#recorded.push({ message, payload })
    this.#wake.resolve()
    this.#wake = Promise.withResolvers<void>()
  }
}
