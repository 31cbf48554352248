// Turns what libvirt and its connection say into errors of our own table, by their numbers and codes.

import { ConnectionError, errorCode, LibvirtError } from 'node-libvirt'
import { type ErrorCode, HostletError } from '../../errors.ts'

/** libvirt's code to ours. What is absent stays E_LIBVIRT: the caller looks at the state first. */
const codes: Readonly<Partial<Record<number, ErrorCode>>> = {
  [errorCode.noMemory]: 'E_CAPACITY',
  [errorCode.noSupport]: 'E_UNSUPPORTED',
  [errorCode.noConnect]: 'E_UNAVAILABLE',
  [errorCode.domainExists]: 'E_CONFLICT',
  [errorCode.operationDenied]: 'E_AUTH',
  [errorCode.xmlError]: 'E_INTERNAL',
  [errorCode.xmlDetail]: 'E_INTERNAL',
  [errorCode.xmlInvalidSchema]: 'E_INTERNAL',
  [errorCode.networkExists]: 'E_CONFLICT',
  [errorCode.noDomain]: 'E_NOT_FOUND',
  [errorCode.noNetwork]: 'E_NOT_FOUND',
  [errorCode.authFailed]: 'E_AUTH',
  [errorCode.authUnavailable]: 'E_AUTH',
  [errorCode.accessDenied]: 'E_AUTH',
  [errorCode.noStoragePool]: 'E_NOT_FOUND',
  [errorCode.noStorageVolume]: 'E_NOT_FOUND',
  [errorCode.configUnsupported]: 'E_UNSUPPORTED',
  [errorCode.operationUnsupported]: 'E_UNSUPPORTED',
  [errorCode.argumentUnsupported]: 'E_UNSUPPORTED',
  [errorCode.operationTimeout]: 'E_TIMEOUT',
  [errorCode.operationAborted]: 'E_CANCELLED',
  [errorCode.storageVolumeExists]: 'E_CONFLICT',
  [errorCode.resourceBusy]: 'E_BUSY'
}

/** `doing` is what was asked, as in "start VM web-1": the person who reads the message needs the object. */
export function fromLibvirt(thrown: unknown, doing: string): HostletError {
  if (thrown instanceof HostletError) return thrown
  if (thrown instanceof LibvirtError) return fromAnswer(thrown, doing)
  if (thrown instanceof ConnectionError) return fromConnection(thrown, doing)
  const text = thrown instanceof Error ? thrown.message : String(thrown)
  return new HostletError('E_INTERNAL', `${doing}: ${text}`, { cause: thrown })
}

/** Whether libvirt answered with this code. */
export function isAnswer(thrown: unknown, code: number): boolean {
  return thrown instanceof LibvirtError && thrown.code === code
}

function fromAnswer(answer: LibvirtError, doing: string): HostletError {
  const { code, domain, level } = answer
  return new HostletError(codes[code] ?? 'E_LIBVIRT', `${doing}: ${answer.message}`, {
    cause: answer,
    details: { libvirtCode: code, libvirtDomain: domain, libvirtLevel: level }
  })
}

/** Runs a call; what it throws becomes ours. */
export async function attempt<Value>(doing: string, work: () => Promise<Value>): Promise<Value> {
  try {
    return await work()
  } catch (error) {
    throw fromLibvirt(error, doing)
  }
}

/** The same, with undefined where libvirt answers that the object does not exist. */
export async function orAbsent<Value>(
  code: number,
  doing: string,
  work: () => Promise<Value>
): Promise<Value | undefined> {
  try {
    return await work()
  } catch (error) {
    if (isAnswer(error, code)) return undefined
    throw fromLibvirt(error, doing)
  }
}

/** A call that was never sent has not happened, whatever ended it; a lost connection leaves the outcome unknown. */
function fromConnection(failure: ConnectionError, doing: string): HostletError {
  const reason = failure.cause
  // The caller's own deadline or stop says more than that the call was given up.
  if (failure.code === 'E_CANCELLED' && reason instanceof HostletError) return reason
  if (failure.code === 'E_CANCELLED' && isTimeout(reason))
    return new HostletError('E_TIMEOUT', `${doing}: no answer came in time`, { cause: failure })
  const code = failure.code === 'E_BAD_REQUEST' ? 'E_INTERNAL' : failure.code
  const next = nextSteps[code]
  const text = next === undefined ? failure.message : `${failure.message.replace(/\.$/, '')}. ${next}`
  return new HostletError(code, `${doing}: ${text}`, { cause: failure })
}

/** What to do where the connection, and not libvirt, is at fault. */
const nextSteps: Readonly<Partial<Record<ErrorCode, string>>> = {
  E_UNAVAILABLE: 'The agent connects again by itself; see "systemctl status libvirtd" on the host.',
  E_INTERRUPTED:
    'Whether libvirt did it is not known: look at it, then ask again. The agent connects again by itself.',
  E_TIMEOUT: 'Whether libvirt does it yet is not known: look at it before asking again.',
  E_BUSY: 'libvirt answers slowly or not at all: see "hostlet doctor" on the host, and ask again.'
}

/** As AbortSignal.timeout ends a wait. */
function isTimeout(reason: unknown): boolean {
  return reason instanceof Error && reason.name === 'TimeoutError'
}
