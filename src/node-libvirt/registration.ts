/** Registration: one callback at libvirt, shared by all who listen to the same event of the same object. */
import type { Calls } from './calls.ts'
import { ConnectionError, type LibvirtError } from './errors.ts'
import type { EventDeclaration, EventKind } from './event-kinds.ts'
import type { Frame } from './framing.ts'
import { decodeAll, XdrError } from './xdr/schema.ts'

/**
 * `deregistering` matters as much as `registering`: libvirtd works on several calls at once, and would refuse a new
 * registration that overtakes the end of the old one.
 */
type State = 'off' | 'registering' | 'on' | 'deregistering'

const NO_CALLBACK = -1

export interface Listener {
  readonly deliver: (payload: unknown) => void
  /** Settled when libvirt has answered the registration. */
  readonly joined: PromiseWithResolvers<void>
}

export interface RegistrationOptions {
  readonly kind: EventKind
  readonly event: EventDeclaration
  /** Null for the events of all objects. */
  readonly object: unknown
  readonly calls: Pick<Calls, 'submit'>
  /** Runs before any later frame is read, or an event right behind the reply would be lost. */
  readonly onRegistered: (callbackId: number) => void
  readonly onDeregistered: (callbackId: number) => void
  /** Nobody listens any more, and libvirt knows nothing of it. */
  readonly onEnded: () => void
  readonly onProblem: (problem: Error) => void
}

export class Registration {
  readonly #options: RegistrationOptions
  readonly #listeners = new Set<Listener>()
  #state: State = 'off'
  #callbackId = NO_CALLBACK
  /** Resolves when the deregistration under way has been answered. */
  #left: Promise<void> = Promise.resolve()

  constructor(options: RegistrationOptions) {
    this.#options = options
  }

  get kind(): EventKind {
    return this.#options.kind
  }

  /** Whether events may come before their callback is known. */
  get registering(): boolean {
    return this.#state === 'registering'
  }

  add(listener: Listener): void {
    this.#listeners.add(listener)
    if (this.#state === 'on') listener.joined.resolve()
    else this.#advance()
  }

  /** Resolves at once while others listen, else when libvirt has let go. */
  async remove(listener: Listener): Promise<void> {
    if (!this.#listeners.delete(listener)) return
    this.#advance()
    if (this.#state === 'deregistering') await this.#left
  }

  /** All listeners get the same object. One that throws stops neither the other listeners nor the frames behind the event. */
  deliver(frame: Frame): void {
    if (this.#state !== 'on') return
    const { event, onProblem } = this.#options
    let payload: unknown
    try {
      payload = decodeEvent(event, frame)
    } catch (problem) {
      onProblem(problem as Error)
      return
    }
    for (const listener of [...this.#listeners]) {
      try {
        listener.deliver(payload)
      } catch (cause) {
        onProblem(cause instanceof Error ? cause : new Error('a listener of libvirt events threw', { cause }))
      }
    }
  }

  /** Does what brings libvirt closer to what the listeners want, one call at a time. */
  #advance(): void {
    const wanted = this.#listeners.size > 0
    if (this.#state === 'off' && wanted) this.#register()
    else if (this.#state === 'off') this.#options.onEnded()
    else if (this.#state === 'on' && !wanted) this.#deregister()
  }

  #register(): void {
    const { calls, kind, event, object, onRegistered } = this.#options
    this.#state = 'registering'
    calls.submit({
      procedure: kind.register,
      args: { eventId: event.id, [kind.objectArgument]: object },
      // Each listener waits as long as it likes; the callback's id is needed in any case, to end it.
      deadlineMs: null,
      onResult: ({ callbackId }) => {
        this.#state = 'on'
        this.#callbackId = callbackId
        onRegistered(callbackId)
        for (const { joined } of this.#listeners) joined.resolve()
        this.#advance()
      },
      onError: (error) => {
        this.#state = 'off'
        for (const { joined } of this.#listeners) joined.reject(error)
        this.#listeners.clear()
        this.#advance()
      }
    })
  }

  #deregister(): void {
    const { calls, kind, onDeregistered, onProblem } = this.#options
    const callbackId = this.#callbackId
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#left = promise
    this.#state = 'deregistering'
    const done = () => {
      this.#state = 'off'
      onDeregistered(callbackId)
      resolve()
      this.#advance()
    }
    calls.submit({
      procedure: kind.deregister,
      args: { callbackId },
      deadlineMs: null,
      onResult: done,
      onError: (error) => {
        if (!isGone(error)) onProblem(error)
        done()
      }
    })
  }
}

function decodeEvent({ message }: EventDeclaration, frame: Frame): unknown {
  if (frame.procedure !== message.number) {
    const what = `message ${frame.procedure} came for a callback of event ${message.number}`
    throw new ConnectionError('E_PROTOCOL', what)
  }
  try {
    return decodeAll(message.payload, frame.payload)
  } catch (cause) {
    if (!(cause instanceof XdrError)) throw cause
    const what = `event ${message.number} does not decode: ${cause.message}`
    throw new ConnectionError('E_PROTOCOL', what, { cause })
  }
}

/** On a connection that is gone there is nothing left to stop. */
function isGone(error: LibvirtError | ConnectionError): boolean {
  return (
    error instanceof ConnectionError && (error.code === 'E_UNAVAILABLE' || error.code === 'E_INTERRUPTED')
  )
}
