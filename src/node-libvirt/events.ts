/** Events: registers callbacks with libvirt and hands each event to its listener, early ones included. */
import { Buffer } from 'node:buffer'
import type { CallOptions, Calls } from './calls.ts'
import { ConnectionError, type LibvirtError } from './errors.ts'
import { type EventDeclaration, type EventKind, kindOfMessage } from './event-kinds.ts'
import type { Frame } from './framing.ts'
import { programs } from './protocol/procedure.ts'
import { type AnyType, decodeAll, type Infer, XdrError } from './xdr/schema.ts'

/** Events kept while the reply to a registration is awaited: some arrive before it. */
export const EVENTS_EARLY_MAX = 1024
export const SUBSCRIPTIONS_MAX = 256
const CALLBACK_ID_BYTES = 4

export interface SubscribeOptions extends CallOptions {
  /** Only this object's events: a domain, network, pool, device or secret as the event's kind asks. */
  readonly object?: unknown
}

/** Dispose it to stop listening; libvirt is told and its answer awaited. */
export interface Subscription extends AsyncDisposable {
  readonly callbackId: number
}

interface Listener {
  readonly event: EventDeclaration
  readonly deliver: (payload: unknown) => void
}

export interface EventsOptions {
  readonly calls: Pick<Calls, 'submit'>
  readonly deadlineMs: number
  /** Hears of events that were lost or whose listener threw. */
  readonly onProblem: (problem: Error) => void
}

export class Events {
  readonly #calls: Pick<Calls, 'submit'>
  readonly #deadlineMs: number
  readonly #onProblem: (problem: Error) => void
  readonly #listeners = new Map<string, Listener>()
  readonly #early: Frame[] = []
  #registering = 0

  constructor({ calls, deadlineMs, onProblem }: EventsOptions) {
    this.#calls = calls
    this.#deadlineMs = deadlineMs
    this.#onProblem = onProblem
  }

  /** Listeners run while the socket is read, in the order of the server's events: they must not block. */
  subscribe<P extends AnyType>(
    event: EventDeclaration<P>,
    listener: (payload: Infer<P>) => void,
    options: SubscribeOptions = {}
  ): Promise<Subscription> {
    const kind = kindOfMessage(event.message.number)
    if (!kind) return Promise.reject(unknownEvent(event))
    if (this.#listeners.size + this.#registering >= SUBSCRIPTIONS_MAX) {
      return Promise.reject(new ConnectionError('E_BUSY', `${SUBSCRIPTIONS_MAX} subscriptions exist already`))
    }
    const deliver = listener as (payload: unknown) => void
    return this.#register(kind, { event, deliver }, options)
  }

  receive(frame: Frame): void {
    const kind = kindOfMessage(frame.procedure)
    if (frame.program !== programs.remote || !kind || frame.payload.length < CALLBACK_ID_BYTES) return
    const listener = this.#listeners.get(keyOf(kind, frame.payload.readInt32BE(0)))
    if (listener) this.#deliver(listener, frame)
    else if (this.#registering > 0) this.#keep(frame)
  }

  #register(kind: EventKind, listener: Listener, options: SubscribeOptions): Promise<Subscription> {
    const { promise, resolve, reject } = Promise.withResolvers<Subscription>()
    this.#registering++
    this.#calls.submit({
      procedure: kind.register,
      args: { eventId: listener.event.id, [kind.objectArgument]: options.object ?? null },
      signal: options.signal,
      deadlineMs: options.deadlineMs ?? this.#deadlineMs,
      onResult: ({ callbackId }) => {
        // Before any later frame is read, or an event right behind the reply would find no listener.
        this.#listeners.set(keyOf(kind, callbackId), listener)
        this.#deliverEarly(kind, callbackId, listener)
        this.#registered()
        resolve(this.#subscription(kind, callbackId))
      },
      onError: (error) => {
        this.#registered()
        reject(error)
      },
      onLateResult: ({ callbackId }) => void this.#deregister(kind, callbackId).catch(this.#onProblem)
    })
    return promise
  }

  #registered(): void {
    this.#registering--
    if (this.#registering === 0) this.#early.length = 0
  }

  #subscription(kind: EventKind, callbackId: number): Subscription {
    return {
      callbackId,
      [Symbol.asyncDispose]: async () => {
        if (this.#listeners.delete(keyOf(kind, callbackId))) await this.#deregister(kind, callbackId)
      }
    }
  }

  /** On a connection that is gone there is nothing left to stop. */
  #deregister(kind: EventKind, callbackId: number): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    this.#calls.submit({
      procedure: kind.deregister,
      args: { callbackId },
      deadlineMs: this.#deadlineMs,
      onResult: () => resolve(),
      onError: (error) => (isGone(error) ? resolve() : reject(error))
    })
    return promise
  }

  #keep(frame: Frame): void {
    if (this.#early.length >= EVENTS_EARLY_MAX) {
      const message = `an event was lost: ${EVENTS_EARLY_MAX} came before the reply to their registration`
      this.#onProblem(new ConnectionError('E_BUSY', message))
    } else {
      this.#early.push({ ...frame, payload: Buffer.from(frame.payload) })
    }
  }

  #deliverEarly(kind: EventKind, callbackId: number, listener: Listener): void {
    const early = this.#early.splice(0)
    for (const frame of early) {
      const own = kind.messageNumbers.has(frame.procedure) && frame.payload.readInt32BE(0) === callbackId
      if (own) this.#deliver(listener, frame)
      else this.#early.push(frame)
    }
  }

  /** A listener that throws must not stop the frames behind the event. */
  #deliver({ event, deliver }: Listener, frame: Frame): void {
    try {
      if (frame.procedure !== event.message.number) throw wrongMessage(event, frame)
      deliver(decodeAll(event.message.payload, frame.payload))
    } catch (cause) {
      this.#onProblem(
        cause instanceof XdrError
          ? new ConnectionError(
              'E_PROTOCOL',
              `event ${event.message.number} does not decode: ${cause.message}`,
              {
                cause
              }
            )
          : cause instanceof Error
            ? cause
            : new Error('a listener of libvirt events threw', { cause })
      )
    }
  }
}

function keyOf(kind: EventKind, callbackId: number): string {
  return `${kind.name}/${callbackId}`
}

function isGone(error: LibvirtError | ConnectionError): boolean {
  return (
    error instanceof ConnectionError && (error.code === 'E_UNAVAILABLE' || error.code === 'E_INTERRUPTED')
  )
}

function unknownEvent({ message: { number, program } }: EventDeclaration): ConnectionError {
  const message = `message ${number} of program ${program} is no event that can be subscribed to`
  return new ConnectionError('E_UNSUPPORTED', message)
}

function wrongMessage(event: EventDeclaration, frame: Frame): ConnectionError {
  return new ConnectionError(
    'E_PROTOCOL',
    `message ${frame.procedure} came for a callback of event ${event.message.number}`
  )
}
