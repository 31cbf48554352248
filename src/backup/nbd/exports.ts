// The names of what an NBD server exports.

import { type Clock, systemClock } from '../../lib/clock.ts'
import { startDeadline, untilAborted } from '../../lib/deadline.ts'
import { lost } from './faults.ts'
import { Feed, type Parser } from './feed.ts'
import { type ExportEntry, listing } from './handshake.ts'
import { type NbdAddress, openSocket } from './socket.ts'

export type { ExportEntry } from './handshake.ts'

const deadlineMsDefault = 10_000

/** Throws E_AUTH or E_UNSUPPORTED where the server does not tell, E_UNAVAILABLE, E_PROTOCOL, E_TIMEOUT. */
export async function listNbdExports(
  options: NbdAddress & {
    readonly signal: AbortSignal
    readonly clock?: Clock
    readonly deadlineMs?: number
  }
): Promise<ExportEntry[]> {
  const { signal, clock = systemClock, deadlineMs: ms = deadlineMsDefault } = options
  using deadline = startDeadline({ clock, ms, what: 'the list of the NBD server', signal })
  const list = Promise.withResolvers<ExportEntry[]>()
  const feed = new Feed(
    (function* conversation(): Parser {
      list.resolve(yield* listing((bytes) => socket.write(bytes)))
    })()
  )
  const advance = (bytes: number) => {
    try {
      feed.advance(bytes)
    } catch (error) {
      list.reject(error)
      return false
    }
    return !feed.ended
  }
  const socket = openSocket(options, { buffer: () => feed.space(), callback: advance })
  socket.on('error', (cause) => list.reject(lost(cause.message, cause)))
  socket.on('close', () => list.reject(lost('the server closed it')))
  try {
    return await untilAborted(list.promise, deadline.signal)
  } finally {
    socket.destroy()
  }
}
