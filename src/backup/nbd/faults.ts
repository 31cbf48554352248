// Faults of an NBD server as HostletErrors: what it answered, and what it must not have sent.

import { type ErrorCode, HostletError } from '../../errors.ts'
import { errorNumber, optionError } from './protocol.ts'

const commandErrors: Readonly<Record<number, readonly [code: ErrorCode, meaning: string]>> = {
  [errorNumber.permission]: ['E_AUTH', 'operation not permitted'],
  [errorNumber.inputOutput]: ['E_UNAVAILABLE', 'input or output error'],
  [errorNumber.memory]: ['E_UNAVAILABLE', 'out of memory'],
  [errorNumber.invalid]: ['E_BAD_REQUEST', 'invalid argument'],
  [errorNumber.space]: ['E_CAPACITY', 'no space left'],
  [errorNumber.overflow]: ['E_BAD_REQUEST', 'value too large'],
  [errorNumber.unsupported]: ['E_UNSUPPORTED', 'not supported'],
  [errorNumber.shutdown]: ['E_UNAVAILABLE', 'shutting down']
}

const optionErrors: Readonly<Record<number, readonly [code: ErrorCode, meaning: string]>> = {
  [optionError.unsupported]: ['E_UNSUPPORTED', 'it does not know it'],
  [optionError.policy]: ['E_AUTH', 'its policy forbids it'],
  [optionError.invalid]: ['E_BAD_REQUEST', 'it finds it invalid'],
  [optionError.platform]: ['E_UNSUPPORTED', 'its platform cannot do it'],
  [optionError.tlsRequired]: ['E_AUTH', 'it wants TLS first'],
  [optionError.unknownExport]: ['E_NOT_FOUND', 'it has no such export'],
  [optionError.shutdown]: ['E_UNAVAILABLE', 'it is shutting down'],
  [optionError.blockSizeRequired]: ['E_UNSUPPORTED', 'it wants other block sizes'],
  [optionError.tooBig]: ['E_BAD_REQUEST', 'it finds it too big']
}

/** The connection is to be dropped: what follows on it cannot be understood. */
export function violation(
  what: string,
  details: Readonly<Record<string, string | number>> = {}
): HostletError {
  return new HostletError(
    'E_PROTOCOL',
    `the NBD server broke the protocol: ${what}. The connection is closed.`,
    {
      details
    }
  )
}

/** An error that the server gave as the answer to a command. The connection lives. */
export function commandFault(name: string, error: number, message: string): HostletError {
  const [code, meaning] = commandErrors[error] ?? ['E_UNAVAILABLE', `error ${error}`]
  const said = message === '' ? '' : `: ${message}`
  return new HostletError(code, `the NBD server could not do a ${name} (${meaning})${said}`, {
    details: { command: name, error }
  })
}

/** A refusal while options are agreed. */
export function optionFault(wanted: string, reply: number, message: string): HostletError {
  const [code, meaning] = optionErrors[reply] ?? ['E_UNSUPPORTED', `reply 0x${reply.toString(16)}`]
  const said = message === '' ? '' : `: ${message}`
  return new HostletError(code, `the NBD server refused ${wanted}: ${meaning}${said}`, { details: { reply } })
}

export function lost(why: string, cause?: unknown): HostletError {
  return new HostletError('E_UNAVAILABLE', `the connection to the NBD server is gone: ${why}`, { cause })
}

const printableMax = 256

/** Text of a server, fit for a message: no control characters, not long. */
export function printable(bytes: Uint8Array): string {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, printableMax)).toString(
    'utf8'
  )
  return text.replaceAll(/\p{C}/gu, '?').trim()
}
