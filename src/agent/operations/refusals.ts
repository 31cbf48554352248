// Why a command is not carried out, where the dispatcher itself says no.

import { asHostletError, HostletError } from '../../errors.ts'
import { retryAfterMsMin } from '../../lib/limiter.ts'
import type { AgentMessageOf } from '../../protocol/messages.ts'

/** Tells the scheduler that a command is not carried out. */
export type Refuse = (message: AgentMessageOf<'refusal'>) => void

export function unknownOperation(id: string): HostletError {
  const text = `operation ${id} is not known on this host. It may have ended long ago: see "hostlet op ls".`
  return new HostletError('E_NOT_FOUND', text)
}

export function noMore(): HostletError {
  const details = { retryAfterMs: retryAfterMsMin }
  return new HostletError('E_BUSY', 'the agent takes no more commands now. Try again later.', { details })
}

/** What a command names may be made by an operation that it would wait for: nobody can say yet that it is not there. */
export function notThereYet(vm: string, operation: string, cause: HostletError): HostletError {
  const text = `an operation of VM ${vm} has not ended: ${cause.message} The command is taken when it has; see "hostlet op show ${operation}", or end that with "hostlet op cancel ${operation}".`
  return new HostletError('E_BUSY', text, { cause, details: { ...cause.details, operation } })
}

export function otherCommand(id: string): HostletError {
  const text = `another command was recorded under the id ${id}. Use a new id for each command.`
  return new HostletError('E_CONFLICT', text)
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
