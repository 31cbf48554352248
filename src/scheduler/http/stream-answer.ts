// Sends an answer as it comes, piece by piece, compressed where the asker takes that; so many at once, and for so long.

import { Readable } from 'node:stream'
import { constants, createGzip } from 'node:zlib'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { StreamAnswer } from './route.ts'

/** Text of metrics shrinks to a twentieth with the least effort already. */
const level = constants.Z_BEST_SPEED

/** Each holds what it tells of in memory until it is read: answers on their way at once, and those of one key. */
export const streamsMax = 8
export const streamsOfKeyMax = 4
/** How long an answer may take to be read, then its connection is cut. A scrape that takes a minute is given up anyway. */
export const streamMsMax = 60_000

export class AnswerStreams {
  readonly #clock: Pick<Clock, 'timer'>
  /** The key of each that is on its way. */
  readonly #open = new Map<FastifyReply, string>()

  constructor({ clock }: { readonly clock: Pick<Clock, 'timer'> }) {
    this.#clock = clock
  }

  /** Gives the reply a place until it is over. Throws E_BUSY where there is none. */
  admit(reply: FastifyReply, key: string): void {
    // Nobody would tell that it is over.
    if (reply.raw.closed) return
    const ofKey = [...this.#open.values()].filter((other) => other === key).length
    if (ofKey >= streamsOfKeyMax || this.#open.size >= streamsMax)
      throw new HostletError(
        'E_BUSY',
        `${ofKey} answers to this key are still being read, and ${this.#open.size} of ${streamsMax} in all. Read them to their end, or ask again in a while.`
      )
    const timer = this.#clock.timer(streamMsMax, () => reply.raw.destroy())
    this.#open.set(reply, key)
    reply.raw.once('close', () => {
      timer[Symbol.dispose]()
      this.#open.delete(reply)
    })
  }
}

export function sendPieces(
  { type, pieces }: StreamAnswer,
  request: FastifyRequest,
  reply: FastifyReply
): FastifyReply {
  const text = Readable.from(pieces, { objectMode: false })
  reply.type(type).header('vary', 'accept-encoding')
  if (!takesGzip(request.headers['accept-encoding'])) return reply.send(text)
  const gzip = createGzip({ level })
  // Whichever of the two ends early takes the other with it: nothing is read for an asker who has gone.
  text.once('error', (error) => gzip.destroy(error))
  gzip.once('close', () => text.destroy())
  return reply.header('content-encoding', 'gzip').send(text.pipe(gzip))
}

function takesGzip(accepted: string | string[] | undefined): boolean {
  return String(accepted ?? '')
    .split(',')
    .map((coding) => coding.trim().split(/\s*;\s*/))
    .some(([name, quality]) => name === 'gzip' && !/^q=0(\.0*)?$/.test(quality ?? ''))
}
