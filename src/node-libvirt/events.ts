/** Events: shares registrations among subscriptions and hands each event to its own, early ones included. */
import { Buffer } from 'node:buffer'
import type { CallOptions, Calls } from './calls.ts'
import type { Clock } from './clock.ts'
import { ConnectionError } from './errors.ts'
import { type EventDeclaration, type EventKind, kindOfMessage } from './event-kinds.ts'
import type { Frame } from './framing.ts'
import { programs } from './protocol/procedure.ts'
import { type Listener, Registration } from './registration.ts'
import type { AnyType, Infer } from './xdr/schema.ts'

/** Events kept while the reply to a registration is awaited: some arrive before it. */
export const EVENTS_EARLY_MAX = 1024
export const SUBSCRIPTIONS_MAX = 256
const CALLBACK_ID_BYTES = 4

export interface SubscribeOptions extends CallOptions {
  /** Only this object's events: a domain, network, pool, device or secret as the event's kind asks. */
  readonly object?: unknown
}

/** Dispose it to stop listening. The last of an event and object tells libvirt, and awaits its answer. */
export type Subscription = AsyncDisposable

export interface EventsOptions {
  readonly calls: Pick<Calls, 'submit'>
  readonly clock: Clock
  readonly deadlineMs: number
  /** Hears of events that were lost or whose listener threw. */
  readonly onProblem: (problem: Error) => void
}

export class Events {
  readonly #options: EventsOptions
  /** By event and object: libvirt refuses to register the same twice on one connection. */
  readonly #registrations = new Map<string, Registration>()
  readonly #byCallback = new Map<string, Registration>()
  readonly #early: Frame[] = []
  #subscriptions = 0

  constructor(options: EventsOptions) {
    this.#options = options
  }

  /** Listeners run while the socket is read, in the order of the server's events: they must not block. */
  async subscribe<P extends AnyType>(
    event: EventDeclaration<P>,
    listener: (payload: Infer<P>) => void,
    { object = null, signal, deadlineMs = this.#options.deadlineMs }: SubscribeOptions = {}
  ): Promise<Subscription> {
    const kind = kindOfMessage(event.message.number)
    if (!kind) throw unknownEvent(event)
    if (signal?.aborted) throw cancelled(signal)
    if (this.#subscriptions >= SUBSCRIPTIONS_MAX) {
      throw new ConnectionError('E_BUSY', `${SUBSCRIPTIONS_MAX} subscriptions exist already`)
    }
    const registration = this.#registration(kind, event, object)
    const joined = Promise.withResolvers<void>()
    const entry: Listener = { deliver: listener as (payload: unknown) => void, joined }
    this.#subscriptions++
    registration.add(entry)
    try {
      await this.#within(joined.promise, { signal, deadlineMs })
      return this.#subscription(registration, entry)
    } catch (error) {
      this.#subscriptions--
      // Whether libvirt then lets go of the callback concerns nobody here.
      registration.remove(entry).catch(this.#options.onProblem)
      throw error
    }
  }

  receive(frame: Frame): void {
    const kind = kindOfMessage(frame.procedure)
    if (frame.program !== programs.remote || !kind || frame.payload.length < CALLBACK_ID_BYTES) return
    const registration = this.#byCallback.get(callbackKey(kind, callbackIdOf(frame)))
    if (registration) registration.deliver(frame)
    else if (this.#registering) this.#keep(frame)
  }

  get #registering(): boolean {
    return this.#registrations.values().some((registration) => registration.registering)
  }

  #registration(kind: EventKind, event: EventDeclaration, object: unknown): Registration {
    const key = registrationKey(kind, event, object)
    const existing = this.#registrations.get(key)
    if (existing) return existing
    const { calls, onProblem } = this.#options
    const registration: Registration = new Registration({
      kind,
      event,
      object,
      calls,
      onProblem,
      onRegistered: (callbackId) => {
        this.#byCallback.set(callbackKey(kind, callbackId), registration)
        this.#deliverEarly(registration, callbackId)
      },
      onDeregistered: (callbackId) => this.#byCallback.delete(callbackKey(kind, callbackId)),
      onEnded: () => {
        this.#registrations.delete(key)
        this.#forgetEarly()
      }
    })
    this.#registrations.set(key, registration)
    return registration
  }

  #subscription(registration: Registration, entry: Listener): Subscription {
    let disposed = false
    return {
      [Symbol.asyncDispose]: async () => {
        if (disposed) return
        disposed = true
        this.#subscriptions--
        await this.#within(registration.remove(entry), { deadlineMs: this.#options.deadlineMs })
      }
    }
  }

  #keep(frame: Frame): void {
    if (this.#early.length >= EVENTS_EARLY_MAX) {
      const message = `an event was lost: ${EVENTS_EARLY_MAX} came before the reply to their registration`
      this.#options.onProblem(new ConnectionError('E_BUSY', message))
    } else {
      this.#early.push({ ...frame, payload: Buffer.from(frame.payload) })
    }
  }

  #deliverEarly(registration: Registration, callbackId: number): void {
    const { messageNumbers } = registration.kind
    for (const frame of this.#early.splice(0)) {
      const own = messageNumbers.has(frame.procedure) && callbackIdOf(frame) === callbackId
      if (own) registration.deliver(frame)
      else this.#early.push(frame)
    }
    this.#forgetEarly()
  }

  /** Nobody else can claim them. */
  #forgetEarly(): void {
    if (!this.#registering) this.#early.length = 0
  }

  /** The call itself has no deadline, as several may wait for it: each has its own, and what comes late is undone. */
  #within<T>(
    answer: Promise<T>,
    { signal, deadlineMs }: { signal?: AbortSignal | undefined; deadlineMs: number }
  ): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    const onAbort = () => reject(cancelled(signal))
    const cancelTimer = this.#options.clock.after(deadlineMs, () => {
      reject(new ConnectionError('E_TIMEOUT', `libvirtd did not answer within ${deadlineMs} ms`))
    })
    signal?.addEventListener('abort', onAbort, { once: true })
    answer.then(resolve, reject)
    return promise.finally(() => {
      cancelTimer()
      signal?.removeEventListener('abort', onAbort)
    })
  }
}

/** Callback ids are counted for each kind of object apart. */
function callbackKey(kind: EventKind, callbackId: number): string {
  return `${kind.name}/${callbackId}`
}

function callbackIdOf(frame: Frame): number {
  return frame.payload.readInt32BE(0)
}

/** libvirt tells objects apart by their UUID, and devices, which have none, by their name. */
function registrationKey(kind: EventKind, event: EventDeclaration, object: unknown): string {
  const all = `${kind.name}/${event.id}`
  if (object === null) return all
  const { uuid, name } = object as { readonly uuid?: unknown; readonly name?: unknown }
  return `${all}/${uuid instanceof Uint8Array ? Buffer.from(uuid).toString('hex') : name}`
}

function cancelled(signal: AbortSignal | undefined): ConnectionError {
  return new ConnectionError('E_CANCELLED', 'the subscription was cancelled', { cause: signal?.reason })
}

function unknownEvent({ message: { number, program } }: EventDeclaration): ConnectionError {
  const message = `message ${number} of program ${program} is no event that can be subscribed to`
  return new ConnectionError('E_UNSUPPORTED', message)
}
