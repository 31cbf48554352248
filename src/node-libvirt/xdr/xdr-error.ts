/** XdrError: what was wrong with a payload, at which byte and in which field. */

export class XdrError extends Error {
  override readonly name = 'XdrError'
  readonly reason: string
  /** Byte of the payload at which decoding or encoding stopped, counted from its start. */
  readonly offset: number
  /** Where in the value, as in `records[3].domain.uuid`; empty for the value itself. */
  readonly path: string

  constructor(reason: string, { offset, path = '' }: { offset: number; path?: string }) {
    super(`${path === '' ? 'value' : path}: ${reason} (at byte ${offset})`)
    this.reason = reason
    this.offset = offset
    this.path = path
  }

  /** The same error seen from the value that holds the failing one; anything else passes unchanged. */
  static within(error: unknown, step: string | number): unknown {
    if (!(error instanceof XdrError)) return error
    const own = typeof step === 'number' ? `[${step}]` : step
    const joint = error.path === '' || error.path.startsWith('[') ? '' : '.'
    return new XdrError(error.reason, { offset: error.offset, path: `${own}${joint}${error.path}` })
  }
}
