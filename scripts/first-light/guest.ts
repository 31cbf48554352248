// The web server of the guest of scripts/guest, asked from the host.

import { get } from 'node:http'

export const guestPort = 80
const guestTimeoutMs = 5_000

/** Undefined while nothing answers. Throws nothing. */
export function fetchText(page: {
  readonly host: string
  readonly path: string
  readonly signal: AbortSignal
  readonly timeoutMs?: number
}): Promise<string | undefined> {
  const { host, path, signal, timeoutMs = guestTimeoutMs } = page
  return new Promise((resolve) => {
    const request = get({ host, port: guestPort, path, signal, timeout: timeoutMs }, (answer) => {
      let text = ''
      answer.setEncoding('utf8')
      answer.on('data', (part: string) => {
        text += part
      })
      answer.on('error', () => resolve(undefined))
      answer.on('end', () => resolve(answer.statusCode === 200 ? text : undefined))
    })
    request.on('timeout', () => request.destroy())
    request.on('error', () => resolve(undefined))
  })
}
