// The one error class of hostlet and its closed table of codes.

/** What a caller should do next: give up, try again later, look at the state first, stop, or report a bug. */
export type Advice = 'refuse' | 'retry' | 'look' | 'stop' | 'drop' | 'report'

interface CodeEntry {
  readonly advice: Advice
  /** Status of an HTTP answer that carries the error. */
  readonly httpStatus: number
  /** Exit status of the command line. */
  readonly exitCode: number
}

/** Every code that a person or a program may meet, with what each layer makes of it. */
export const errorCodes = {
  E_BAD_REQUEST: { advice: 'refuse', httpStatus: 400, exitCode: 2 },
  E_UNSUPPORTED: { advice: 'refuse', httpStatus: 501, exitCode: 2 },
  E_NOT_FOUND: { advice: 'refuse', httpStatus: 404, exitCode: 4 },
  E_CONFLICT: { advice: 'refuse', httpStatus: 409, exitCode: 5 },
  E_AUTH: { advice: 'refuse', httpStatus: 401, exitCode: 6 },
  E_STALE: { advice: 'refuse', httpStatus: 409, exitCode: 5 },
  E_BUSY: { advice: 'retry', httpStatus: 429, exitCode: 7 },
  E_UNAVAILABLE: { advice: 'retry', httpStatus: 503, exitCode: 7 },
  E_CAPACITY: { advice: 'retry', httpStatus: 507, exitCode: 7 },
  E_TIMEOUT: { advice: 'look', httpStatus: 504, exitCode: 8 },
  E_INTERRUPTED: { advice: 'look', httpStatus: 500, exitCode: 8 },
  E_CANCELLED: { advice: 'look', httpStatus: 409, exitCode: 8 },
  E_LIBVIRT: { advice: 'look', httpStatus: 502, exitCode: 1 },
  E_CORRUPT: { advice: 'stop', httpStatus: 500, exitCode: 1 },
  E_PROTOCOL: { advice: 'drop', httpStatus: 502, exitCode: 1 },
  E_INTERNAL: { advice: 'report', httpStatus: 500, exitCode: 1 }
} as const satisfies Record<string, CodeEntry>

export type ErrorCode = keyof typeof errorCodes

/** JSON-safe facts about an error, for logs and for the other side. Never a secret. */
export type ErrorDetails = Readonly<Record<string, string | number | boolean | null>>

/** What crosses the wire, the journal and the API in place of an error. */
export interface ErrorReport {
  code: ErrorCode
  message: string
  details?: ErrorDetails
}

/**
 * An error that a person can act on. `message` says what happened, to which object, and what to do next;
 * programs branch on `code` only.
 */
export class HostletError extends Error {
  readonly code: ErrorCode
  readonly details: ErrorDetails

  constructor(code: ErrorCode, message: string, options: { cause?: unknown; details?: ErrorDetails } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'HostletError'
    this.code = code
    this.details = options.details ?? {}
  }

  get advice(): Advice {
    return errorCodes[this.code].advice
  }

  /** The form that is sent, stored and printed as JSON. */
  toReport(): ErrorReport {
    const report: ErrorReport = { code: this.code, message: this.message }
    return Object.keys(this.details).length === 0 ? report : { ...report, details: this.details }
  }
}

export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(errorCodes, value)
}

/**
 * Any thrown value as a HostletError: a full disk becomes E_CAPACITY, whoever met it; what else is not one E_INTERNAL. The
 * original is its cause.
 */
export function asHostletError(thrown: unknown): HostletError {
  if (thrown instanceof HostletError) return thrown
  const text = thrown instanceof Error ? thrown.message : String(thrown)
  const { code } = (thrown ?? {}) as { code?: unknown }
  if (code === 'ENOSPC' || code === 'EDQUOT')
    return new HostletError(
      'E_CAPACITY',
      `${text}. The file system is full: free some of it, then ask anew.`,
      {
        cause: thrown
      }
    )
  return new HostletError('E_INTERNAL', `unexpected: ${text}. Please report it with the log around it.`, {
    cause: thrown
  })
}
