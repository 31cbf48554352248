// The text of an HTTP answer, whoever gives it, within a bound.

import type { ClientRequest, IncomingMessage } from 'node:http'

export interface HttpAnswer {
  readonly status: number
  readonly text: string
}

/** Hands over the whole answer, or what went wrong. One that is longer than `bytesMax` ends its request. */
export function readAnswer(
  answer: IncomingMessage,
  { outgoing, bytesMax }: { readonly outgoing: ClientRequest; readonly bytesMax: number },
  { resolve, fail }: { resolve(answer: HttpAnswer): void; fail(error: unknown): void }
): void {
  const chunks: Buffer[] = []
  let bytes = 0
  answer.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    if (bytes > bytesMax) outgoing.destroy(new Error('the answer is too long'))
    else chunks.push(chunk)
  })
  answer.on('error', fail)
  answer.on('end', () =>
    resolve({ status: answer.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') })
  )
}
