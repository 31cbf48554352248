/** Replies: turns the payload of a reply into the result of its call, or into its error. */
import type { Buffer } from 'node:buffer'
import type { Clock } from './clock.ts'
import { ConnectionError, type LibvirtError } from './errors.ts'
import { type Frame, statuses } from './framing.ts'
import { errorCode, errorDomain } from './protocol/constants/errors.ts'
import type { Procedure } from './protocol/procedure.ts'
import { decodeLibvirtError } from './remote-error.ts'
import { decodeAll, XdrError } from './xdr/schema.ts'
import { decodeInSlices } from './xdr/slices.ts'

export type Reply = { readonly result: unknown } | { readonly error: LibvirtError | ConnectionError }

/** A reply that does not decode fails its own call only: the frames around it are intact. */
export function decodeReply(procedure: Procedure, frame: Frame): Reply {
  try {
    if (frame.status === statuses.ok) return { result: decodeAll(procedure.result, frame.payload) }
    return { error: unsupportedOrError(procedure, decodeLibvirtError(frame.payload)) }
  } catch (cause) {
    return { error: undecodable(procedure, cause) }
  }
}

/** The same for a result so long that decoding it at once would keep the event loop. `payload` must stay as it is. */
export async function decodeResultInSlices(
  procedure: Procedure,
  payload: Buffer,
  clock: Clock
): Promise<Reply> {
  try {
    return { result: await decodeInSlices(procedure.result, payload, () => clock.nowMs()) }
  } catch (cause) {
    return { error: undecodable(procedure, cause) }
  }
}

function undecodable(procedure: Procedure, cause: unknown): ConnectionError {
  if (!(cause instanceof XdrError)) throw cause
  const message = `the reply of libvirt procedure ${procedure.number} does not decode: ${cause.message}`
  return new ConnectionError('E_PROTOCOL', message, { cause, sent: true })
}

/**
 * Error 39 of domain 7 is the RPC layer's: libvirtd does not know the procedure, or wants authentication first, cannot
 * decode the arguments, or has a longer list than the protocol carries. Nothing but the text differs. Every libvirt
 * that we serve knows the procedures of 9.0, so for those it is never the first; no newer one, up to 11.3, has a list.
 */
function unsupportedOrError(procedure: Procedure, error: LibvirtError): LibvirtError | ConnectionError {
  const ofRpc = error.code === errorCode.rpc && error.domain === errorDomain.rpc
  if (!ofRpc || !procedure.newerThan9) return error
  const message = `libvirtd does not know procedure ${procedure.number} of program ${procedure.program}: ${error.message}`
  return new ConnectionError('E_UNSUPPORTED', message, { cause: error })
}
