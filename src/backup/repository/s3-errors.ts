// What the answers of S3 services mean, and what to do next. Nothing of a request goes into an error: it may hold credentials.

import { type ErrorCode, HostletError } from '../../errors.ts'
import type { Retryable } from './retry.ts'

interface Meaning {
  readonly code: ErrorCode
  readonly text: string
  readonly retryable?: true
}

const refused = 'refuses these credentials. Check the access key and its secret, and what they may do here'
const overloaded: Meaning = {
  code: 'E_UNAVAILABLE',
  text: 'asks to slow down. Try again later, or back up fewer VMs at once',
  retryable: true
}
const unreachable: Meaning = {
  code: 'E_UNAVAILABLE',
  text: 'does not answer. Check the endpoint, the name service and the network',
  retryable: true
}
const failing: Meaning = {
  code: 'E_UNAVAILABLE',
  text: 'fails at its side. Try again later',
  retryable: true
}
const full: Meaning = { code: 'E_CAPACITY', text: 'is full. Raise the quota, or prune old backups' }
const untrusted: Meaning = {
  code: 'E_AUTH',
  text: 'shows a certificate that is not trusted. Give its authority as "ca", and check the name in the endpoint'
}
const elsewhere: Meaning = {
  code: 'E_BAD_REQUEST',
  text: 'is in another region. Set "region" to that of the bucket'
}
const garbled: Meaning = {
  code: 'E_CORRUPT',
  text: 'received other bytes than were sent, again and again. Something on the way changes them',
  retryable: true
}
const changing: Meaning = { code: 'E_CONFLICT', text: 'has the object already' }

/** Node's names of what OpenSSL says of a chain (X509_V_ERR_*). */
const certificateFault = /^(CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|INVALID_CA$)/

/** By the error's name as the service or Node says it. */
const byName: Readonly<Record<string, Meaning>> = {
  NoSuchBucket: { code: 'E_BAD_REQUEST', text: 'has no such bucket. Make it, or correct the address' },
  InvalidBucketName: { code: 'E_BAD_REQUEST', text: 'allows no bucket of this name. Correct the address' },
  AccessDenied: {
    code: 'E_AUTH',
    text: 'denies access. Allow the credentials to list the bucket and to get, put and delete its objects'
  },
  InvalidAccessKeyId: { code: 'E_AUTH', text: 'does not know the access key. Check the credentials' },
  SignatureDoesNotMatch: {
    code: 'E_AUTH',
    text: 'finds the signature wrong: the secret key is not that of the access key'
  },
  ExpiredToken: { code: 'E_AUTH', text: 'says that the session token has expired. Get a new one' },
  InvalidToken: { code: 'E_AUTH', text: refused },
  RequestTimeTooSkewed: {
    code: 'E_UNAVAILABLE',
    text: 'finds the clock of this host wrong. Set it (timedatectl status), then try again',
    // The client has learnt the difference from the answer.
    retryable: true
  },
  SlowDown: overloaded,
  TooManyRequestsException: overloaded,
  ServiceUnavailable: overloaded,
  QuotaExceeded: full,
  XMinioStorageFull: full,
  EntityTooLarge: { code: 'E_CAPACITY', text: 'allows no objects of this size. Raise its limit' },
  BadDigest: garbled,
  XAmzContentSHA256Mismatch: garbled,
  AuthorizationHeaderMalformed: elsewhere,
  PermanentRedirect: elsewhere,
  IllegalLocationConstraintException: elsewhere,
  PreconditionFailed: changing,
  ConditionalRequestConflict: { ...changing, retryable: true },
  NotImplemented: { code: 'E_UNSUPPORTED', text: 'does not know a request that backups need' },
  InvalidObjectState: {
    code: 'E_UNSUPPORTED',
    text: 'has archived the object. Restore it to the bucket first'
  },
  CERT_HAS_EXPIRED: { ...untrusted, text: 'shows a certificate that has expired. Renew it' },
  ERR_TLS_CERT_ALTNAME_INVALID: {
    ...untrusted,
    text: 'shows a certificate of another name. Correct the endpoint'
  },
  ENOTFOUND: { ...unreachable, text: 'has a name that nobody knows. Check the endpoint and the name service' }
}

/** By status, where the name says nothing. */
const byStatus: Readonly<Record<number, Meaning>> = {
  301: elsewhere,
  307: elsewhere,
  401: { code: 'E_AUTH', text: refused },
  403: { code: 'E_AUTH', text: refused },
  408: unreachable,
  409: { ...changing, retryable: true },
  412: changing,
  429: overloaded,
  501: { code: 'E_UNSUPPORTED', text: 'does not know a request that backups need' },
  503: overloaded,
  507: full
}

interface Facts {
  readonly name: string
  readonly status: number | undefined
}

/** Name and status of what the client threw; both are the service's words, so bounded. */
export function factsOf(thrown: unknown): Facts {
  const { name, code, Code, $metadata } = Object(thrown) as Record<string, unknown>
  const words = [code, Code, name].filter((word) => typeof word === 'string' && /^\w{1,64}$/.test(word))
  const known = words.find((word) => Object.hasOwn(byName, String(word))) ?? words[0]
  const status = Object(Object($metadata)).httpStatusCode
  return { name: String(known ?? 'Unknown'), status: typeof status === 'number' ? status : undefined }
}

/** A thrown value of the client as an error of ours, and whether to try again. Errors of ours pass. */
export function s3Error(thrown: unknown, description: string, name: string): Retryable {
  if (thrown instanceof HostletError) return { error: thrown, retryable: thrown.code === 'E_TIMEOUT' }
  const facts = factsOf(thrown)
  const meaning = meaningOf(facts)
  const said = facts.status === undefined ? facts.name : `${facts.name}, status ${facts.status}`
  const error = new HostletError(
    meaning.code,
    `the service of ${description} ${meaning.text} (${said} at "${name}").`,
    { details: { repository: description, name, said } }
  )
  return { error, retryable: meaning.retryable === true }
}

function meaningOf({ name, status }: Facts): Meaning {
  const meaning = Object.hasOwn(byName, name) ? byName[name] : undefined
  if (meaning !== undefined) return meaning
  if (certificateFault.test(name)) return untrusted
  if (status === undefined) return unreachable
  if (byStatus[status] !== undefined) return byStatus[status]
  if (status >= 500) return failing
  // A failure while the answer was read: the status is that of an answer that began well.
  if (status < 300) return unreachable
  return { code: 'E_BAD_REQUEST', text: 'refuses the request. Check the endpoint, the bucket and the prefix' }
}
