// Whether a scheduler on this machine answers: the whole way through TLS and HTTP, as its clients take it.

import { readFileSync } from 'node:fs'
import { Agent, get } from 'node:https'

const timeoutMs = 5_000

export interface HealthTarget {
  /** What it listens on; an unspecified address is reached by the loopback. */
  readonly address: string
  readonly port: number
  /** A name of its certificate. */
  readonly name: string
  readonly caFile: string
}

/** False when it does not answer in time, or not well. Throws when its CA cannot be read. */
export function answersHealth(target: HealthTarget, signal: AbortSignal): Promise<boolean> {
  const host = loopbacks[target.address] ?? target.address
  return new Promise((resolve) => {
    const request = get(
      {
        ...{ host, port: target.port, path: '/healthz', signal, timeout: timeoutMs },
        headers: { host: target.name },
        servername: /^[0-9.]+$|:/.test(target.name) ? '' : target.name,
        ca: readFileSync(target.caFile),
        // The name to check is the certificate's own, whatever address it is reached by.
        checkServerIdentity: () => undefined,
        agent: new Agent({ keepAlive: false })
      },
      (answer) => {
        answer.resume()
        resolve(answer.statusCode === 200)
      }
    )
    request.on('timeout', () => request.destroy())
    request.on('error', () => resolve(false))
  })
}

const loopbacks: Readonly<Record<string, string>> = { '0.0.0.0': '127.0.0.1', '::': '::1' }
