/** Session: wires channel, calls, events and streams of one socket together and ends them together. */
import { Calls } from './calls.ts'
import { Channel, type Wire } from './channel.ts'
import type { Clock } from './clock.ts'
import { ConnectionError } from './errors.ts'
import { Events } from './events.ts'
import { type Frame, messageTypes } from './framing.ts'
import { connectClose } from './protocol/connect.ts'
import { Streams } from './streams.ts'

export interface SessionOptions {
  readonly clock: Clock
  readonly callDeadlineMs: number
  readonly onProblem: (problem: Error) => void
}

export class Session {
  readonly channel: Channel
  readonly calls: Calls
  readonly events: Events
  readonly streams: Streams
  readonly #closed = Promise.withResolvers<ConnectionError | null>()
  #closing: Promise<void> | null = null

  constructor(wire: Wire, { clock, callDeadlineMs, onProblem }: SessionOptions) {
    this.channel = new Channel(wire, {
      clock,
      handlers: {
        onFrame: (frame) => this.#receive(frame),
        onClosed: (reason) => this.#end(reason)
      }
    })
    this.calls = new Calls((frame) => this.channel.send(frame), {
      clock,
      isTaken: (serial) => this.streams.has(serial)
    })
    this.events = new Events({ calls: this.calls, clock, deadlineMs: callDeadlineMs, onProblem })
    this.streams = new Streams({ channel: this.channel, calls: this.calls, clock })
  }

  get closed(): Promise<ConnectionError | null> {
    return this.#closed.promise
  }

  /** Tells libvirtd, waits for its answer at most `deadlineMs`, and closes in any case. Calling again changes nothing. */
  close(deadlineMs: number): Promise<void> {
    this.#closing ??= this.#close(deadlineMs)
    return this.#closing
  }

  async #close(deadlineMs: number): Promise<void> {
    if (this.channel.closed) return
    this.calls.refuse(
      new ConnectionError('E_UNAVAILABLE', 'the connection to libvirt was closed by its owner')
    )
    await new Promise<void>((resolve) => {
      const done = () => resolve()
      this.calls.submit({
        procedure: connectClose,
        args: {},
        deadlineMs,
        urgent: true,
        onResult: done,
        onError: done
      })
    })
    this.channel.destroy(null)
  }

  /** By type first: an event's serial may equal that of a call. */
  #receive(frame: Frame): void {
    try {
      if (frame.type === messageTypes.reply) this.calls.receive(frame)
      else if (frame.type === messageTypes.message) this.events.receive(frame)
      else this.streams.receive(frame)
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error
      this.channel.destroy(error)
    }
  }

  #end(reason: ConnectionError | null): void {
    const wanted = this.#closing !== null || reason === null
    const ending =
      reason ?? new ConnectionError('E_INTERRUPTED', 'the connection to libvirt was closed by its owner')
    this.calls.end(ending)
    this.streams.end(ending)
    this.#closed.resolve(wanted ? null : reason)
  }
}
