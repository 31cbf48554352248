// One HTTPS request to the scheduler: bounded, checked, with the scheduler's own error when it refuses.

import { request } from 'node:https'
import type { ConnectionOptions } from 'node:tls'
import { HostletError, isErrorCode } from '../../errors.ts'
import { connectionFault } from './connection-fault.ts'

export const replyBytesMax = 256 * 1024

export interface Question {
  readonly url: URL
  readonly body: unknown
  readonly tls: Pick<ConnectionOptions, 'ca' | 'cert' | 'key' | 'minVersion' | 'checkServerIdentity'> & {
    /** See tls.createSecureContext of Node. */
    readonly allowPartialTrustChain?: boolean
  }
  readonly signal: AbortSignal
}

/** Posts JSON and returns the parsed answer. Throws the scheduler's refusal, or why it could not be asked. */
export async function askScheduler({ url, body, tls, signal }: Question): Promise<unknown> {
  const { status, text } = await post(url, JSON.stringify(body), tls, signal)
  const answer = parse(text, url, status)
  if (status >= 200 && status < 300) return answer
  const { error } = answer as { error?: { code?: unknown; message?: unknown } }
  if (isErrorCode(error?.code) && typeof error.message === 'string')
    throw new HostletError(error.code, error.message.slice(0, 4_096), { details: { status } })
  throw new HostletError('E_UNAVAILABLE', `${url.origin} answered with status ${status}`, {
    details: { status }
  })
}

function post(
  url: URL,
  body: string,
  tls: Question['tls'],
  signal: AbortSignal
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const fail = (error: unknown) =>
      reject(signal.aborted ? signal.reason : connectionFault(error, url.origin))
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }
    const outgoing = request(url, { ...tls, method: 'POST', headers, agent: false, signal }, (response) => {
      const chunks: Buffer[] = []
      let bytes = 0
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length
        if (bytes > replyBytesMax)
          outgoing.destroy(
            new HostletError('E_PROTOCOL', `${url.origin} answered with more than ${replyBytesMax} bytes`)
          )
        else chunks.push(chunk)
      })
      response.on('error', fail)
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') })
      )
    })
    outgoing.on('error', fail)
    outgoing.end(body)
  })
}

function parse(text: string, url: URL, status: number): unknown {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null) return value
  } catch (cause) {
    throw new HostletError(
      'E_PROTOCOL',
      `${url.origin} answered with status ${status} and no JSON. Is it a scheduler?`,
      {
        cause
      }
    )
  }
  throw new HostletError('E_PROTOCOL', `${url.origin} answered with no JSON object. Is it a scheduler?`)
}
