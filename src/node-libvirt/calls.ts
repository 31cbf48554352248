/** Calls: sends a bounded number of calls at once, queues the rest by priority, and gives each its reply or its end. */
import { Buffer } from 'node:buffer'
import type { Clock } from './clock.ts'
import { ConnectionError, type LibvirtError } from './errors.ts'
import { encodeFrame, type Frame, messageTypes, statuses } from './framing.ts'
import { type Priority, type Procedure, programs } from './protocol/procedure.ts'
import { decodeReply, decodeResultInSlices, type Reply } from './replies.ts'
import { type AnyType, type Infer, type InferInput, type Type, XdrError } from './xdr/schema.ts'

/**
 * libvirtd stops reading the socket of a client that has five requests running (its default), pings included;
 * four leave one for the close.
 */
export const CALLS_IN_FLIGHT_MAX = 4
/** Low-priority calls are those that a stuck QEMU or disk can hang: one slot is never theirs, so the others go on. */
export const LOW_PRIORITY_IN_FLIGHT_MAX = 3
/** Of each priority, so that low-priority calls which wait for a hung one do not keep the others out. */
export const CALLS_QUEUED_MAX = 1024
/** A longer result is decoded in slices: in a process that has decoded nothing before, 1.6 MB take up to 40 ms. */
const DECODED_AT_ONCE_BYTES_MAX = 131_072
const SERIAL_MAX = 0xffff_ffff

export interface CallOptions {
  /** Gives the call up. libvirt still finishes what it began, so the outcome is unknown. */
  readonly signal?: AbortSignal | undefined
  /** Milliseconds until the call is given up, its time in the queue included. */
  readonly deadlineMs?: number | undefined
}

export interface Submission<A extends AnyType, R extends AnyType> {
  readonly procedure: Procedure<A, R>
  readonly args: InferInput<A>
  readonly signal?: AbortSignal | undefined
  /** Null for a call that ends with its answer or with the connection only. */
  readonly deadlineMs: number | null
  /** Runs beside the limit: for the close only. */
  readonly urgent?: boolean
  /** These run while the reply is read, before any later frame. Only a large result is told later. */
  readonly onResult: (result: Infer<R>) => void
  readonly onError: (error: LibvirtError | ConnectionError) => void
  /** The call succeeded after it had been given up: whatever it made is the caller's to undo. */
  readonly onLateResult?: ((result: Infer<R>) => void) | undefined
}

/** A call that libvirtd works on, whether or not somebody still waits for it. */
export interface CallInFlight {
  readonly procedure: Procedure
  readonly args: unknown
  /** Milliseconds since it was sent. */
  readonly forMs: number
}

interface Call {
  readonly procedure: Procedure
  readonly args: unknown
  readonly serial: number
  readonly urgent: boolean
  readonly onResult: (result: unknown) => void
  readonly onError: (error: LibvirtError | ConnectionError) => void
  readonly onLateResult: ((result: unknown) => void) | undefined
  /** Null once it is sent. */
  frame: Buffer | null
  sentAtMs: number
  /** False once the caller has its answer, although libvirtd may still be working. */
  waiting: boolean
  release: () => void
}

export interface CallsOptions {
  readonly clock: Clock
  readonly queuedMax?: number
  /** After it serials begin anew at 1. */
  readonly serialMax?: number
  /** Serials that something else than a call goes by: a stream keeps that of its call. */
  readonly isTaken?: (serial: number) => boolean
}

export class Calls {
  readonly #send: (frame: Buffer) => void
  readonly #clock: Clock
  readonly #queuedMax: number
  readonly #serialMax: number
  readonly #isTaken: (serial: number) => boolean
  readonly #running = new Map<number, Call>()
  readonly #queues: Readonly<Record<Priority, Call[]>> = { high: [], low: [] }
  readonly #slotsUsed: Record<Priority, number> = { high: 0, low: 0 }
  /** One result after the other: together their slices would be one long block again. */
  #slicing: Promise<void> = Promise.resolve()
  #serial = 0
  #ended: ConnectionError | null = null

  constructor(
    send: (frame: Buffer) => void,
    { clock, queuedMax = CALLS_QUEUED_MAX, serialMax = SERIAL_MAX, isTaken = () => false }: CallsOptions
  ) {
    this.#send = send
    this.#clock = clock
    this.#queuedMax = queuedMax
    this.#serialMax = serialMax
    this.#isTaken = isTaken
  }

  /** Calls that libvirtd works on, those among them that nobody waits for any more, and calls not sent yet. */
  get load(): { inFlight: number; abandoned: number; queued: number } {
    const calls = [...this.#running.values()]
    const abandoned = calls.filter((call) => !call.waiting).length
    return { inFlight: calls.length, abandoned, queued: this.#queues.high.length + this.#queues.low.length }
  }

  get inFlight(): readonly CallInFlight[] {
    const now = this.#clock.nowMs()
    return [...this.#running.values()].map(({ procedure, args, sentAtMs }) => ({
      procedure,
      args,
      forMs: now - sentAtMs
    }))
  }

  /** Returns the serial. Reports every failure through `onError`, wrong arguments included. */
  submit<A extends AnyType, R extends AnyType>(submission: Submission<A, R>): number {
    const serial = this.#nextSerial()
    const refusal = this.#refusal(submission)
    if (refusal) {
      submission.onError(refusal)
      return serial
    }
    try {
      const call = this.#prepare(submission, serial)
      this.#watch(call, submission)
      if (call.urgent) this.#start(call)
      else this.#queueOf(call).push(call)
      this.#startWaiting()
    } catch (error) {
      if (!(error instanceof XdrError)) throw error
      const { number } = submission.procedure
      const message = `arguments of libvirt procedure ${number}: ${error.message}`
      submission.onError(new ConnectionError('E_BAD_REQUEST', message, { cause: error }))
    }
    return serial
  }

  /** Takes a reply. Throws `E_PROTOCOL` for one that answers nothing. */
  receive(frame: Frame): void {
    const call = this.#running.get(frame.serial)
    if (
      !call ||
      call.procedure.number !== frame.procedure ||
      programs[call.procedure.program] !== frame.program
    ) {
      throw new ConnectionError(
        'E_PROTOCOL',
        `reply ${frame.serial} of procedure ${frame.procedure} answers no call`
      )
    }
    this.#running.delete(frame.serial)
    const wanted = call.waiting || call.onLateResult !== undefined
    if (wanted && frame.status === statuses.ok && frame.payload.length > DECODED_AT_ONCE_BYTES_MAX) {
      const payload = Buffer.from(frame.payload)
      this.#slicing = this.#slicing.then(() => this.#deliverInSlices(call, payload))
      return
    }
    // First the next call on its way: its round trip overlaps the decoding of this reply.
    this.#freeSlot(call)
    if (wanted) this.#deliver(call, decodeReply(call.procedure, frame))
  }

  /** From now on nothing is sent but urgent calls; what libvirtd works on goes on. */
  refuse(reason: ConnectionError): void {
    if (this.#ended) return
    this.#ended = reason
    const waiting = [...this.#queues.high.splice(0), ...this.#queues.low.splice(0)]
    for (const call of waiting) this.#settle(call, () => call.onError(endOf(call, reason)))
  }

  /** Ends every call: those that libvirtd may have seen with an unknown outcome. */
  end(reason: ConnectionError): void {
    this.refuse(reason)
    const calls = [...this.#running.values()]
    this.#running.clear()
    for (const call of calls) this.#settle(call, () => call.onError(endOf(call, reason)))
  }

  #refusal({ procedure, signal, urgent }: Submission<AnyType, AnyType>): ConnectionError | null {
    if (this.#ended && !urgent) {
      return new ConnectionError('E_UNAVAILABLE', `the connection to libvirt is closed`, {
        cause: this.#ended
      })
    }
    if (signal?.aborted) {
      return new ConnectionError('E_CANCELLED', 'the call was cancelled before it began', {
        cause: signal.reason
      })
    }
    if (!urgent && this.#queues[procedure.priority].length >= this.#queuedMax) {
      const message = `${this.#queuedMax} calls of ${procedure.priority} priority wait for libvirtd already`
      return new ConnectionError('E_BUSY', message)
    }
    return null
  }

  #prepare<A extends AnyType, R extends AnyType>(submission: Submission<A, R>, serial: number): Call {
    const { procedure, args } = submission
    const header = { program: programs[procedure.program], procedure: procedure.number, serial }
    const frame = encodeFrame(
      { ...header, type: messageTypes.call, status: statuses.ok },
      procedure.args as Type<unknown>,
      args
    )
    return {
      procedure,
      args,
      serial,
      urgent: submission.urgent ?? false,
      onResult: submission.onResult as (result: unknown) => void,
      onError: submission.onError,
      onLateResult: submission.onLateResult as ((result: unknown) => void) | undefined,
      frame,
      sentAtMs: 0,
      waiting: true,
      release: () => {}
    }
  }

  #watch(call: Call, { signal, deadlineMs }: Submission<AnyType, AnyType>): void {
    const onAbort = () => this.#giveUp(call, 'E_CANCELLED', 'was cancelled', signal?.reason)
    const onLate = () => this.#giveUp(call, 'E_TIMEOUT', `got no answer within ${deadlineMs} ms`)
    const cancelTimer = deadlineMs === null ? () => {} : this.#clock.after(deadlineMs, onLate)
    signal?.addEventListener('abort', onAbort, { once: true })
    call.release = () => {
      cancelTimer()
      signal?.removeEventListener('abort', onAbort)
    }
  }

  #start(call: Call): void {
    const frame = call.frame
    if (!frame) return
    call.frame = null
    call.sentAtMs = this.#clock.nowMs()
    this.#running.set(call.serial, call)
    if (!call.urgent) this.#slotsUsed[call.procedure.priority]++
    this.#send(frame)
  }

  #freeSlot(call: Call): void {
    if (!call.urgent) this.#slotsUsed[call.procedure.priority]--
    this.#startWaiting()
  }

  #startWaiting(): void {
    for (let next = this.#next(); next; next = this.#next()) this.#start(next)
  }

  #next(): Call | undefined {
    const { high, low } = this.#slotsUsed
    if (high + low >= CALLS_IN_FLIGHT_MAX) return undefined
    const next = this.#queues.high.shift()
    return next ?? (low < LOW_PRIORITY_IN_FLIGHT_MAX ? this.#queues.low.shift() : undefined)
  }

  #queueOf(call: Call): Call[] {
    return this.#queues[call.procedure.priority]
  }

  /** The caller goes on; a call that was sent keeps its slot, for libvirtd is busy with it until it replies. */
  #giveUp(call: Call, code: 'E_CANCELLED' | 'E_TIMEOUT', what: string, cause?: unknown): void {
    const sent = call.frame === null
    const queue = this.#queueOf(call)
    if (!sent) queue.splice(queue.indexOf(call), 1)
    const outcome = sent ? 'its outcome is unknown' : 'it was never sent'
    const message = `libvirt procedure ${call.procedure.number} ${what}; ${outcome}`
    this.#settle(call, () => call.onError(new ConnectionError(code, message, { cause, sent })))
  }

  /** Keeps the slot meanwhile: that bounds how many results lie here undecoded. */
  async #deliverInSlices(call: Call, payload: Buffer): Promise<void> {
    const reply = await decodeResultInSlices(call.procedure, payload, this.#clock)
    this.#freeSlot(call)
    this.#deliver(call, reply)
  }

  #deliver(call: Call, reply: Reply): void {
    if (call.waiting) {
      this.#settle(call, () => ('result' in reply ? call.onResult(reply.result) : call.onError(reply.error)))
    } else if ('result' in reply) {
      call.onLateResult?.(reply.result)
    }
  }

  #settle(call: Call, tell: () => void): void {
    if (!call.waiting) return
    call.waiting = false
    call.release()
    tell()
  }

  #nextSerial(): number {
    do {
      this.#serial = this.#serial === this.#serialMax ? 1 : this.#serial + 1
    } while (this.#running.has(this.#serial) || this.#isTaken(this.#serial))
    return this.#serial
  }
}

function endOf(call: Call, reason: ConnectionError): ConnectionError {
  const sent = call.frame === null
  const outcome = sent ? 'its outcome is unknown' : 'it was never sent'
  const code = !sent ? 'E_UNAVAILABLE' : reason.code === 'E_PROTOCOL' ? 'E_PROTOCOL' : 'E_INTERRUPTED'
  const message = `libvirt procedure ${call.procedure.number}: ${reason.message}; ${outcome}`
  return new ConnectionError(code, message, { cause: reason, sent })
}
