// Why a connection to the scheduler did not come to be, in words that say what to do.

import { type ErrorCode, HostletError } from '../../errors.ts'

interface Fault {
  readonly code: ErrorCode
  /** One word for programs, in `details.reason`. */
  readonly reason: string
  readonly text: string
}

const wrongAuthority: Fault = {
  code: 'E_AUTH',
  reason: 'wrong-ca',
  text: "its certificate was not signed by this fleet's CA. Either it is another scheduler, or this host was enrolled with another one, or it was away while the fleet's CA was replaced: check the address, or enroll again with a new token."
}
const expired: Fault = {
  code: 'E_AUTH',
  reason: 'expired',
  text: 'its certificate has expired. Check the clock of this host and the certificate of the scheduler.'
}
const refusedByPeer: Fault = {
  code: 'E_AUTH',
  reason: 'client-certificate',
  text: "it does not accept this host's certificate. Enroll the host again."
}

/** Codes of OpenSSL's verification, of TLS alerts, and of the kernel. */
const faults: Readonly<Record<string, Fault>> = {
  DEPTH_ZERO_SELF_SIGNED_CERT: wrongAuthority,
  SELF_SIGNED_CERT_IN_CHAIN: wrongAuthority,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: wrongAuthority,
  UNABLE_TO_GET_ISSUER_CERT: wrongAuthority,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: wrongAuthority,
  CERT_SIGNATURE_FAILURE: wrongAuthority,
  CERT_UNTRUSTED: wrongAuthority,
  INVALID_CA: wrongAuthority,
  INVALID_PURPOSE: {
    code: 'E_AUTH',
    reason: 'wrong-purpose',
    text: "its certificate is not a server's. Something else answers at this address."
  },
  CERT_HAS_EXPIRED: expired,
  CERT_NOT_YET_VALID: {
    code: 'E_AUTH',
    reason: 'not-yet-valid',
    text: 'its certificate is not valid yet. Check the clock of this host.'
  },
  ERR_TLS_CERT_ALTNAME_INVALID: {
    code: 'E_AUTH',
    reason: 'wrong-name',
    text: 'its certificate bears another name. Use an address that is in the certificate.'
  },
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED: refusedByPeer,
  ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE: refusedByPeer,
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED: refusedByPeer,
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_UNKNOWN: refusedByPeer,
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: refusedByPeer,
  ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION: {
    code: 'E_AUTH',
    reason: 'tls-version',
    text: 'it does not speak TLS 1.3. Upgrade the scheduler, or what stands in front of it.'
  },
  ECONNREFUSED: {
    code: 'E_UNAVAILABLE',
    reason: 'refused',
    text: 'nothing listens there. Is the scheduler running?'
  },
  ENOTFOUND: {
    code: 'E_UNAVAILABLE',
    reason: 'dns',
    text: 'its name is not known to DNS. Check the address.'
  },
  EAI_AGAIN: {
    code: 'E_UNAVAILABLE',
    reason: 'dns',
    text: 'DNS does not answer. Check the network of this host.'
  },
  EHOSTUNREACH: { code: 'E_UNAVAILABLE', reason: 'unreachable', text: 'there is no route to it.' },
  ENETUNREACH: { code: 'E_UNAVAILABLE', reason: 'unreachable', text: 'there is no route to it.' },
  ETIMEDOUT: {
    code: 'E_UNAVAILABLE',
    reason: 'timeout',
    text: 'it does not answer. Does a firewall stand between?'
  },
  ECONNRESET: { code: 'E_UNAVAILABLE', reason: 'reset', text: 'it broke the connection off.' },
  EPIPE: { code: 'E_UNAVAILABLE', reason: 'reset', text: 'it broke the connection off.' },
  WS_ERR_UNSUPPORTED_MESSAGE_LENGTH: {
    code: 'E_PROTOCOL',
    reason: 'too-long',
    text: 'it sent a message that is too long.'
  }
}

/** The error with its reason. Errors of our own pass as they are. */
export function connectionFault(error: unknown, url: string): HostletError {
  if (error instanceof HostletError) return error
  const code = String((error as NodeJS.ErrnoException).code ?? '')
  const fault = faults[code]
  const text = fault?.text ?? `${error instanceof Error ? error.message : String(error)}.`
  return new HostletError(fault?.code ?? 'E_UNAVAILABLE', `scheduler ${url}: ${text}`, {
    cause: error,
    details: { reason: fault?.reason ?? 'connection', ...(code !== '' && { fault: code }) }
  })
}
