// The socket to a console session as a browser has it: typed bytes out, shown bytes in, both bounded by credit.

import type { ConsoleAttached, ConsoleEnd, ConsoleMessage, OperatorMessage } from '../../protocol/console.ts'

export const subprotocol = 'hostlet-console.v1'
/** Output that was taken is told of in portions, and at once when all of it was. */
const creditBytes = 16 * 1024
/** What was typed and waits for the guest to take what came before. More is not taken. */
export const waitingBytesMax = 64 * 1024

/** Of a WebSocket what is used. */
export type LinkSocket = Pick<WebSocket, 'send' | 'close' | 'addEventListener' | 'binaryType' | 'readyState'>

export interface LinkHandlers {
  attached(console: ConsoleAttached): void
  /** Call `taken` once it is on the screen. */
  show(data: Uint8Array, taken: () => void): void
  /** Once; nothing is shown after it. */
  ended(end: ConsoleEnd): void
}

export class ConsoleLink {
  readonly #socket: LinkSocket
  readonly #handlers: LinkHandlers
  #isAttached = false
  #hasEnded = false
  /** Bytes that may be sent now. */
  #inCredit = 0
  #waiting: Uint8Array<ArrayBuffer> = new Uint8Array()
  #showing = 0
  #uncredited = 0

  /** The ticket goes in the first message: an address would stand in logs. */
  constructor(socket: LinkSocket, ticket: string, handlers: LinkHandlers) {
    this.#socket = socket
    this.#handlers = handlers
    socket.binaryType = 'arraybuffer'
    socket.addEventListener('open', () => this.#say({ type: 'attach', ticket }))
    socket.addEventListener('message', ({ data }) => {
      if (this.#hasEnded) return
      if (typeof data === 'string') this.#hear(data)
      else this.#show(new Uint8Array(data as ArrayBuffer))
    })
    socket.addEventListener('close', () => this.#end({ why: 'lost', message: this.#lostText }))
  }

  /** False when it is not taken: it is not attached, or too much waits already. */
  type(data: Uint8Array): boolean {
    if (!this.isAttached) return false
    if (this.#waiting.length + data.length > this.#inCredit + waitingBytesMax) return false
    const all = new Uint8Array(this.#waiting.length + data.length)
    all.set(this.#waiting)
    all.set(data, this.#waiting.length)
    this.#waiting = all
    this.#flush()
    return true
  }

  get isAttached(): boolean {
    return this.#isAttached && !this.#hasEnded
  }

  leave(): void {
    this.#end({ why: 'left', message: 'you left' })
  }

  get #lostText(): string {
    return this.#isAttached
      ? 'the connection to the scheduler was lost'
      : 'the scheduler did not open the connection'
  }

  #flush(): void {
    const now = this.#waiting.slice(0, this.#inCredit)
    if (now.length === 0) return
    this.#waiting = this.#waiting.slice(now.length)
    this.#inCredit -= now.length
    this.#socket.send(now)
  }

  #show(data: Uint8Array): void {
    this.#showing += data.length
    this.#handlers.show(data, () => {
      this.#showing -= data.length
      this.#uncredited += data.length
      if (this.#uncredited < creditBytes && this.#showing > 0) return
      this.#say({ type: 'credit', bytes: this.#uncredited })
      this.#uncredited = 0
    })
  }

  #hear(text: string): void {
    const message = parsed(text)
    if (message?.type === 'attached') {
      this.#isAttached = true
      this.#inCredit = message.windowBytes
      this.#handlers.attached(message)
    } else if (message?.type === 'credit') {
      this.#inCredit += message.bytes
      this.#flush()
    } else if (message?.type === 'closed') this.#end(message)
    else this.#end({ why: 'protocol', message: 'the scheduler said something that is not understood' })
  }

  #end({ why, message }: ConsoleEnd): void {
    if (this.#hasEnded) return
    this.#hasEnded = true
    this.#waiting = new Uint8Array()
    this.#socket.close(1000)
    this.#handlers.ended({ why, message })
  }

  #say(message: OperatorMessage): void {
    if (!this.#hasEnded && this.#socket.readyState === 1) this.#socket.send(JSON.stringify(message))
  }
}

function parsed(text: string): ConsoleMessage | undefined {
  try {
    return JSON.parse(text) as ConsoleMessage
  } catch {
    return undefined
  }
}
