/** Streams: opens the streams of one connection and routes their frames by serial. */
import { Buffer } from 'node:buffer'
import type { Calls } from './calls.ts'
import type { Channel } from './channel.ts'
import type { Clock } from './clock.ts'
import { ConnectionError } from './errors.ts'
import { encodeFrame, encodeHeader, type Frame, type FrameHeader, messageTypes, statuses } from './framing.ts'
import { type Procedure, programs } from './protocol/procedure.ts'
import { LibvirtStream, type StreamOptions, type StreamPort, streamHole } from './stream.ts'
import type { AnyType, InferInput } from './xdr/schema.ts'

export const STREAMS_MAX = 16
/** Frames of one stream that may come before the reply to its call: libvirtd sends that right behind them. */
export const EARLY_FRAMES_MAX = 64

type StreamChannel = Pick<
  Channel,
  'send' | 'sendParts' | 'congested' | 'onceDrained' | 'pause' | 'resume' | 'closed'
>

export class Streams {
  readonly #channel: StreamChannel
  readonly #calls: Pick<Calls, 'submit'>
  readonly #clock: Clock
  readonly #streams = new Map<number, LibvirtStream>()
  /** By serial, what has come of streams whose call has not been answered yet: the server may send data first. */
  readonly #early = new Map<number, Frame[]>()
  #opening = 0

  constructor({
    channel,
    calls,
    clock
  }: { channel: StreamChannel; calls: Pick<Calls, 'submit'>; clock: Clock }) {
    this.#channel = channel
    this.#calls = calls
    this.#clock = clock
  }

  /** Makes the call and resolves when the server has accepted it. */
  open<A extends AnyType>(
    procedure: Procedure<A, AnyType>,
    args: InferInput<A>,
    { deadlineMs, ...options }: StreamOptions & { readonly deadlineMs: number }
  ): Promise<LibvirtStream> {
    if (this.#streams.size + this.#opening >= STREAMS_MAX) {
      return Promise.reject(new ConnectionError('E_BUSY', `${STREAMS_MAX} streams are open already`))
    }
    const { promise, resolve, reject } = Promise.withResolvers<LibvirtStream>()
    this.#opening++
    let isOpening = true
    const opened = () => {
      isOpening = false
      this.#opening--
    }
    // A call that is refused at once has none.
    let serial = 0
    serial = this.#calls.submit({
      procedure,
      args,
      signal: options.signal,
      deadlineMs,
      // Data can stand right behind the reply, so the stream must exist before the next frame is read.
      onResult: () => {
        opened()
        const stream = this.#add(procedure, serial, options)
        resolve(stream)
        this.#deliverEarly(stream, serial)
      },
      onError: (error) => {
        opened()
        this.#early.delete(serial)
        reject(error)
      },
      onLateResult: () => this.#add(procedure, serial, { ...options, signal: undefined }).destroy()
    })
    if (isOpening) this.#early.set(serial, [])
    return promise
  }

  #deliverEarly(stream: LibvirtStream, serial: number): void {
    const frames = this.#early.get(serial) ?? []
    this.#early.delete(serial)
    for (const frame of frames) stream.receive(frame)
  }

  /** Whether frames with this serial belong to an open stream. */
  has(serial: number): boolean {
    return this.#streams.has(serial)
  }

  /**
   * Frames of a stream that has ended already may still be on their way: they are dropped. Those of one whose call is not
   * answered yet are kept. Throws E_PROTOCOL where they are more than EARLY_FRAMES_MAX.
   */
  receive(frame: Frame): void {
    const stream = this.#streams.get(frame.serial)
    if (stream !== undefined) {
      stream.receive(frame)
      return
    }
    const early = this.#early.get(frame.serial)
    if (early === undefined) return
    if (early.length >= EARLY_FRAMES_MAX)
      throw new ConnectionError(
        'E_PROTOCOL',
        `libvirtd sent ${EARLY_FRAMES_MAX} messages of stream ${frame.serial} and no answer to its call`
      )
    // What was read is read over.
    early.push({ ...frame, payload: Buffer.from(frame.payload) })
  }

  end(reason: ConnectionError): void {
    for (const stream of [...this.#streams.values()]) stream.lose(reason)
  }

  #add(procedure: Procedure, serial: number, options: StreamOptions): LibvirtStream {
    const stream = new LibvirtStream(this.#port(procedure, serial), options)
    this.#streams.set(serial, stream)
    return stream
  }

  #port(procedure: Procedure, serial: number): StreamPort {
    const channel = this.#channel
    const holder = { serial }
    const header = { program: programs[procedure.program], procedure: procedure.number, serial }
    return {
      clock: this.#clock,
      get congested() {
        return channel.congested
      },
      send: (status, data) => {
        const bytes = encodeHeader({ ...header, type: messageTypes.stream, status }, data.length)
        if (data.length === 0) channel.send(bytes)
        else channel.sendParts(bytes, data)
      },
      sendHole: (lengthBytes) => channel.send(holeFrame(header, lengthBytes)),
      onceDrained: (callback) => channel.onceDrained(callback),
      pause: () => channel.pause(holder),
      resume: () => channel.resume(holder),
      forget: () => this.#streams.delete(serial)
    }
  }
}

function holeFrame(header: Omit<FrameHeader, 'type' | 'status'>, lengthBytes: number) {
  const type = messageTypes.hole
  return encodeFrame({ ...header, type, status: statuses.continue }, streamHole, {
    length: lengthBytes,
    flags: 0
  })
}
