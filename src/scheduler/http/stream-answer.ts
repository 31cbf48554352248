// Sends an answer as it comes, piece by piece, compressed where the asker takes that.

import { Readable } from 'node:stream'
import { constants, createGzip } from 'node:zlib'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { StreamAnswer } from './route.ts'

/** Text of metrics shrinks to a twentieth with the least effort already. */
const level = constants.Z_BEST_SPEED

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
