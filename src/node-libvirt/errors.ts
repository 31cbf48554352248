/** The errors of this package: what libvirt answered, and what went wrong between here and libvirt. */

/**
 * An error that libvirt itself returned (remote_error). `code` is one of virErrorNumber, `domain` one of
 * virErrorDomain (which part of libvirt), `level` 1 for a warning and 2 for an error.
 */
export class LibvirtError extends Error {
  override readonly name = 'LibvirtError'
  readonly code: number
  readonly domain: number
  readonly level: number
  /** str1 to str3: pieces of the message that libvirt gives some errors; null where absent. */
  readonly strings: readonly (string | null)[]

  constructor(message: string, facts: Pick<LibvirtError, 'code' | 'domain' | 'level' | 'strings'>) {
    super(message)
    this.code = facts.code
    this.domain = facts.domain
    this.level = facts.level
    this.strings = facts.strings
  }
}

/**
 * | code | meaning |
 * |---|---|
 * | `E_BAD_REQUEST` | the arguments or the URI cannot be sent; nothing happened |
 * | `E_UNSUPPORTED` | this libvirt, or this client, cannot do it; nothing happened |
 * | `E_AUTH` | libvirtd does not let this user in |
 * | `E_BUSY` | too many calls or streams wait already; nothing happened |
 * | `E_UNAVAILABLE` | no connection; nothing happened |
 * | `E_TIMEOUT` | the deadline passed; see `sent` |
 * | `E_CANCELLED` | the signal was aborted; see `sent` |
 * | `E_INTERRUPTED` | the connection was lost under the call: its outcome is unknown |
 * | `E_PROTOCOL` | the server's bytes are not libvirt's protocol |
 */
export type ConnectionErrorCode =
  | 'E_BAD_REQUEST'
  | 'E_UNSUPPORTED'
  | 'E_AUTH'
  | 'E_BUSY'
  | 'E_UNAVAILABLE'
  | 'E_TIMEOUT'
  | 'E_CANCELLED'
  | 'E_INTERRUPTED'
  | 'E_PROTOCOL'

/** An error of the connection, not of libvirt. Branch on `code`. */
export class ConnectionError extends Error {
  override readonly name = 'ConnectionError'
  readonly code: ConnectionErrorCode
  /** Whether the request reached the socket: if so, and the code says so, its outcome is unknown. */
  readonly sent: boolean

  constructor(
    code: ConnectionErrorCode,
    message: string,
    { cause, sent = false }: { cause?: unknown; sent?: boolean } = {}
  ) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    this.sent = sent
  }
}
