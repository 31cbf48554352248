// An error that ends the program with another status than its code's.

import type { HostletError } from '../errors.ts'

export class ExitStatus extends Error {
  readonly status: number
  readonly error: HostletError

  constructor(status: number, error: HostletError) {
    super(error.message, { cause: error })
    this.name = 'ExitStatus'
    this.status = status
    this.error = error
  }
}
