// Notes for the trail why no connection to the scheduler came about, or why it ended this host: each reason once.

import { closeCodes } from '../../protocol/messages.ts'
import type { SocketHandlers } from '../session/socket.ts'
import type { Trail } from './trail.ts'

const refusedCloses: ReadonlySet<number> = new Set([
  closeCodes.auth,
  closeCodes.badHello,
  closeCodes.replaced
])

export class ConnectionNotes {
  readonly #trail: Pick<Trail, 'record'>
  #lastReason = ''

  constructor(trail: Pick<Trail, 'record'>) {
    this.#trail = trail
  }

  /** The same handlers. A scheduler that is away or busy is no refusal. */
  watched(url: string, handlers: SocketHandlers): SocketHandlers {
    const closed: SocketHandlers['closed'] = (end) => {
      const { code, error } = end
      if (error?.advice === 'refuse' || refusedCloses.has(code))
        this.#note({ url, closeCode: code, code: error?.code, message: error?.message ?? end.reason })
      handlers.closed(end)
    }
    return { ...handlers, closed }
  }

  /** It has this host again: the same reason is news from now on. */
  online(): void {
    this.#lastReason = ''
  }

  #note(refusal: { url: string; closeCode: number; code: string | undefined; message: string }): void {
    const reason = `${refusal.closeCode} ${refusal.message}`
    if (reason === this.#lastReason) return
    this.#lastReason = reason
    this.#trail.record('connection.refused', refusal)
  }
}
