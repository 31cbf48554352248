// Bounds how long a connection to a small server may last, whoever is slow on it.

import type { Server, Socket } from 'node:net'
import type { Clock } from './clock.ts'

/** Cuts each connection so long after it came, whether it has asked, and whether its answer has been read. */
export function boundConnectionTime(server: Server, longestMs: number, clock: Pick<Clock, 'timer'>): void {
  server.on('connection', (socket: Socket) => {
    const timer = clock.timer(longestMs, () => socket.destroy())
    socket.once('close', () => timer[Symbol.dispose]())
  })
}
