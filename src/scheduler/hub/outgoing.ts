// Sends messages over one socket, with a bound on what waits in it: an agent that does not read is cut off.

import type { WebSocket } from 'ws'
import type { SchedulerMessage } from '../../protocol/messages.ts'

/** Bytes that may wait in one socket. */
export const sendBytesMax = 16 * 1024 * 1024

export class Outgoing {
  readonly #socket: WebSocket
  readonly #onFull: () => void

  /** `onFull` is called when more than `sendBytesMax` would wait; the message is then dropped, the socket is to be cut. */
  constructor(socket: WebSocket, onFull: () => void) {
    this.#socket = socket
    this.#onFull = onFull
  }

  /** Resolves with true once the system has taken the message, with false when the socket is closed. */
  send(message: SchedulerMessage): Promise<boolean> {
    const text = JSON.stringify(message)
    if (this.#socket.readyState !== this.#socket.OPEN) return Promise.resolve(false)
    if (this.#socket.bufferedAmount + Buffer.byteLength(text) > sendBytesMax) {
      this.#onFull()
      return Promise.resolve(false)
    }
    return new Promise((resolve) => this.#socket.send(text, (error) => resolve(!error)))
  }

  /** False when the socket is closed, or too much waits in it. */
  sendBytes(bytes: Buffer): boolean {
    if (this.#socket.readyState !== this.#socket.OPEN) return false
    if (this.#socket.bufferedAmount + bytes.length > sendBytesMax) {
      this.#onFull()
      return false
    }
    this.#socket.send(bytes)
    return true
  }
}
