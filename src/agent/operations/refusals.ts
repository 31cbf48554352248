// Why a command is not carried out, where the dispatcher itself says no.

import { asHostletError, errorCodes, HostletError } from '../../errors.ts'
import { approvalReason } from '../../protocol/approval.ts'
import type { SignedCommand } from './gate.ts'

/** Commands whose refusal is remembered; the oldest go first. */
const rememberedMax = 1_024

export function unknownOperation(id: string): HostletError {
  const text = `operation ${id} is not known on this host. It may have ended long ago: see "hostlet op ls".`
  return new HostletError('E_NOT_FOUND', text)
}

export function notCancellable(id: string): HostletError {
  const text = `operation ${id} is under way and cannot be cut short. Wait for its end: "hostlet op wait".`
  return new HostletError('E_UNSUPPORTED', text)
}

/** Before a command is recorded no outcome is unknown: what a wait or a stop cut short may be sent again. */
export function nothingHappened(thrown: unknown): HostletError {
  const error = asHostletError(thrown)
  if (error.code !== 'E_TIMEOUT' && error.code !== 'E_INTERRUPTED' && error.code !== 'E_CANCELLED')
    return error
  return new HostletError('E_UNAVAILABLE', `the command was not begun: ${error.message}`, {
    cause: error,
    details: { ...error.details, reason: error.code }
  })
}

/**
 * What was refused for good stays so. A command may come twice, over a connection that is gone and over the next one; the
 * scheduler ends it with the refusal of one, and the other must not be taken because things have changed meanwhile.
 */
export class RefusedCommands {
  readonly #errors = new Map<string, HostletError>()

  note({ claims, digest }: SignedCommand, error: HostletError): void {
    if (errorCodes[error.code].advice === 'retry' || error.details.reason === approvalReason) return
    this.#errors.set(`${claims.id} ${digest}`, error)
    const [oldest] = this.#errors.keys()
    if (this.#errors.size > rememberedMax && oldest !== undefined) this.#errors.delete(oldest)
  }

  /** Throws what the command was refused with before. */
  check({ claims, digest }: SignedCommand): void {
    const error = this.#errors.get(`${claims.id} ${digest}`)
    if (error !== undefined) throw error
  }
}
