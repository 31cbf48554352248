// One session on a console: what it may still send each way, how long it lasts, and what is counted of it. Never what is in it.

import type { Clock } from '../../lib/clock.ts'
import {
  type ConsoleEnd,
  type ConsoleMode,
  consoleAttachMs,
  consoleDataBytesMax,
  consoleWindowBytes
} from '../../protocol/console.ts'

/** Output that waits for one session before the guest's is no longer read, where this session sets the pace. */
export const backlogPauseBytes = 64 * 1024
/** The same for a session that does not: beyond, it is ended. One chunk of libvirt's is 256 KiB. */
export const backlogBytesMax = 1024 * 1024
/** How long output may wait without any being taken: a guest's own output stands still meanwhile. */
export const stallMs = 10_000

export interface ConsoleGrant {
  readonly vm: string
  readonly uuid: string
  readonly session: string
  readonly mode: ConsoleMode
  readonly by: string
  readonly takeOver: boolean
  readonly idleMs: number
  readonly longestMs: number
}

export interface SessionPorts {
  readonly clock: Pick<Clock, 'now' | 'monotonic' | 'timer'>
  /** Sends output; `taken` is called once the system has it. False when there is no connection. */
  sendData(data: Buffer, taken: () => void): boolean
  sendCredit(bytes: number): void
  /** Types into the console; `taken` is called once libvirt has it. */
  type(data: Buffer, taken: () => void): void
  /** It is to be ended. */
  over(end: ConsoleEnd): void
  /** It takes output again, or for the first time. */
  ready(): void
}

type TimerName = 'attach' | 'idle' | 'longest' | 'stall'

export class ConsoleSession {
  readonly grant: ConsoleGrant
  readonly openedAt: number
  readonly #ports: SessionPorts
  readonly #timers = new Map<TimerName, Disposable>()
  #backlog: Buffer[] = []
  #backlogBytes = 0
  #sending = false
  #isAttached = false
  #isOver = false
  /** Bytes that the operator takes. */
  #outCredit = 0
  /** Bytes that the operator may still type. */
  #inCredit = consoleWindowBytes
  #activeAt = 0
  #shownBytes = 0
  #typedBytes = 0
  #lastWords: ConsoleEnd | undefined

  constructor(grant: ConsoleGrant, ports: SessionPorts) {
    this.grant = grant
    this.#ports = ports
    this.openedAt = ports.clock.now()
    this.#set('attach', consoleAttachMs, () =>
      this.#end('unattached', `nobody attached within ${consoleAttachMs / 1_000} s`)
    )
  }

  get isAttached(): boolean {
    return this.#isAttached
  }

  /** Bytes to the operator, and from the operator to the guest. */
  get counted(): { readonly shownBytes: number; readonly typedBytes: number } {
    return { shownBytes: this.#shownBytes, typedBytes: this.#typedBytes }
  }

  /** Whether it wants no more output for now. */
  get isFull(): boolean {
    return this.#backlogBytes >= backlogPauseBytes
  }

  /** The guest has sent something. A chunk is kept as it is: it is read once. */
  show(chunk: Buffer, setsPace: boolean): void {
    if (this.#isOver) return
    this.#backlog.push(chunk)
    this.#backlogBytes += chunk.length
    if (this.grant.mode === 'read') this.#activeAt = this.#ports.clock.monotonic()
    if (!setsPace && this.#backlogBytes > backlogBytesMax)
      this.#end('slow', 'output came faster than this watcher took it')
    else this.#pump()
  }

  /** The operator takes so many bytes more; the first time says that the operator is there. */
  credit(bytes: number): void {
    if (this.#isOver) return
    if (this.#outCredit + bytes > consoleWindowBytes) {
      this.#end('protocol', `a credit for more than ${consoleWindowBytes} bytes`)
      return
    }
    this.#outCredit += bytes
    this.#clear('stall')
    if (!this.#isAttached) this.#attach()
    this.#pump()
  }

  /** The operator has typed. */
  take(data: Buffer): void {
    if (this.#isOver) return
    const fault = this.#typingFault(data)
    if (fault !== undefined) {
      this.#end('protocol', fault)
      return
    }
    this.#inCredit -= data.length
    this.#typedBytes += data.length
    this.#activeAt = this.#ports.clock.monotonic()
    this.#ports.type(data, () => this.#typed(data.length))
  }

  /** Nothing more comes: it ends once what has come is taken, or is not taken for too long. */
  endAfterOutput(end: ConsoleEnd): void {
    if (this.#backlogBytes === 0 || !this.#isAttached) this.#end(end.why, end.message)
    else this.#lastWords = end
  }

  /** No timer runs and nothing is sent from now on. */
  finish(): void {
    this.#isOver = true
    for (const name of [...this.#timers.keys()]) this.#clear(name)
    this.#backlog = []
    this.#backlogBytes = 0
  }

  #typingFault(data: Buffer): string | undefined {
    if (!this.#isAttached) return 'something was typed before the session was attached'
    if (this.grant.mode === 'read') return 'something was typed in a session that only watches'
    return data.length > this.#inCredit ? 'more was typed than there was credit for' : undefined
  }

  #attach(): void {
    const { longestMs } = this.grant
    this.#isAttached = true
    this.#activeAt = this.#ports.clock.monotonic()
    this.#clear('attach')
    this.#set('longest', longestMs, () =>
      this.#end('longest', `it was open for ${seconds(longestMs)}, the longest that a session may be`)
    )
    this.#watchIdle()
    this.#ports.ready()
  }

  #watchIdle(): void {
    const { idleMs, mode } = this.grant
    const quietMs = this.#ports.clock.monotonic() - this.#activeAt
    if (quietMs < idleMs) this.#set('idle', idleMs - quietMs, () => this.#watchIdle())
    else this.#end('idle', `nothing was ${mode === 'read' ? 'shown' : 'typed'} for ${seconds(idleMs)}`)
  }

  /** One piece at a time is handed to the socket, so that nothing else waits there behind more than that. */
  #pump(): void {
    if (this.#sending || this.#isOver || this.#backlogBytes === 0) return
    if (this.#outCredit === 0) this.#watchStall()
    else this.#sendPiece()
  }

  #sendPiece(): void {
    const piece = this.#nextPiece()
    this.#sending = true
    this.#shownBytes += piece.length
    const isSent = this.#ports.sendData(piece, () => {
      this.#sending = false
      this.#pump()
      if (!this.isFull) this.#ports.ready()
    })
    if (!isSent) this.#end('lost', 'the connection to the scheduler was lost')
    else if (this.#lastWords !== undefined && this.#backlogBytes === 0)
      this.#end(this.#lastWords.why, this.#lastWords.message)
  }

  #nextPiece(): Buffer {
    const [first = Buffer.alloc(0)] = this.#backlog
    const bytes = Math.min(first.length, this.#outCredit, consoleDataBytesMax)
    if (bytes === first.length) this.#backlog.shift()
    else this.#backlog[0] = first.subarray(bytes)
    this.#backlogBytes -= bytes
    this.#outCredit -= bytes
    return first.subarray(0, bytes)
  }

  #watchStall(): void {
    if (!this.#isAttached || this.#timers.has('stall')) return
    this.#set('stall', stallMs, () =>
      this.#end('slow', `no output was taken for ${stallMs / 1_000} s; the VM is not held up for longer`)
    )
  }

  #typed(bytes: number): void {
    if (this.#isOver) return
    this.#inCredit += bytes
    this.#ports.sendCredit(bytes)
  }

  #end(why: ConsoleEnd['why'], message: string): void {
    if (!this.#isOver) this.#ports.over({ why, message })
  }

  #set(name: TimerName, ms: number, callback: () => void): void {
    this.#clear(name)
    const timer = this.#ports.clock.timer(ms, () => {
      this.#timers.delete(name)
      callback()
    })
    this.#timers.set(name, timer)
  }

  #clear(name: TimerName): void {
    this.#timers.get(name)?.[Symbol.dispose]()
    this.#timers.delete(name)
  }
}

function seconds(ms: number): string {
  return ms % 60_000 === 0 ? `${ms / 60_000} min` : `${ms / 1_000} s`
}
