// Every failure as `{ error: { code, message, details } }` with a status: ours, the framework's, and what the socket says.

import type { Socket } from 'node:net'
import type { ErrorObject } from 'ajv'
import { errorCodes, HostletError } from '../../errors.ts'
import { requestBytesMax } from '../../protocol/api.ts'
import { describeFault } from '../../protocol/validate.ts'
import { answerAndEnd } from '../raw-answer.ts'

export interface ErrorAnswer {
  readonly status: number
  readonly error: HostletError
}

interface FrameworkError {
  readonly code?: unknown
  readonly statusCode?: unknown
  readonly validation?: readonly ErrorObject[]
  readonly validationContext?: string
}

/** Codes of fastify for what an asker did wrong, in our words. */
const frameworkMessages: Readonly<Record<string, string>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: `the body is longer than ${requestBytesMax} bytes`,
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'the body must be JSON: send "Content-Type: application/json"',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'the body is not as long as its Content-Length says',
  FST_ERR_BAD_URL: 'the path is not a valid URL',
  FST_ERR_MAX_PARAM_LENGTH: 'a part of the path is too long'
}

export function answerTo(thrown: unknown): ErrorAnswer {
  if (thrown instanceof HostletError) return { status: statusOf(thrown), error: thrown }
  const { code, statusCode, validation, validationContext } = thrown as FrameworkError
  if (validation !== undefined) {
    const where = validationContext === 'querystring' ? 'query' : (validationContext ?? 'request')
    return badRequest(400, `${where}: ${describeFault(validation[0])}${givenIn(where, validation[0])}`)
  }
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500)
    return badRequest(statusCode, frameworkMessages[String(code)] ?? 'the request is not valid')
  return { status: 500, error: internalError(thrown) }
}

/** A name in the path is in everybody's log: it helps to see it again. */
function givenIn(where: string, fault: ErrorObject | undefined): string {
  return where === 'params' && typeof fault?.data === 'string' ? `, not "${fault.data.slice(0, 64)}"` : ''
}

/** What is shown of an internal error: nothing that it says itself. */
function internalError(cause: unknown): HostletError {
  return new HostletError('E_INTERNAL', 'the scheduler failed on this request. Its log has the reason.', {
    cause
  })
}

/** Who is known and may not is HTTP's 403; everything else has the status of its code. */
function statusOf(error: HostletError): number {
  return error.code === 'E_AUTH' && forbidden.has(String(error.details.reason))
    ? 403
    : errorCodes[error.code].httpStatus
}

const forbidden: ReadonlySet<string> = new Set([
  'low-tier',
  'second-factor',
  'key-alone',
  'cross-site',
  'machine-key'
])

function badRequest(status: number, message: string): ErrorAnswer {
  return { status, error: new HostletError('E_BAD_REQUEST', message) }
}

/**
 * What is not even HTTP is answered in the same form, then the connection ends. Any other fault is one of the connection:
 * where TLS was not agreed on, an answer would wait for it for ever, and the socket with it.
 */
export function answerBrokenRequest(error: Error & { code?: string }, socket: Socket): void {
  const { code = '' } = error
  if (!socket.writable || !/^(HPE|ERR_HTTP)_/.test(code)) {
    socket.destroy()
    return
  }
  const { status, message } = socketFaults[code] ?? {
    status: 400,
    message: 'this is not a valid HTTP request'
  }
  answerAndEnd(socket, status, new HostletError('E_BAD_REQUEST', message))
}

/** Codes of node:http. */
const socketFaults: Readonly<Record<string, { status: number; message: string }>> = {
  ERR_HTTP_REQUEST_TIMEOUT: { status: 408, message: 'the request did not arrive in time' },
  HPE_HEADER_OVERFLOW: { status: 431, message: 'the headers are too long' }
}
