// How this host joins a fleet: it trusts the CA whose hash it was given, and only then shows its one-time token.

import { X509Certificate } from 'node:crypto'
import { hostname as systemHostname } from 'node:os'
import { connect, type DetailedPeerCertificate, type TLSSocket } from 'node:tls'
import { asHostletError, HostletError } from '../../errors.ts'
import { type Clock, systemClock } from '../../lib/clock.ts'
import { startDeadline, untilAborted } from '../../lib/deadline.ts'
import { splitCertificates } from '../../lib/pem.ts'
import { release } from '../../lib/release.ts'
import { CaHash, EnrollmentReply, enrollmentPath } from '../../protocol/enrollment.ts'
import { compile } from '../../protocol/validate.ts'
import { askScheduler, type Question } from './ask-scheduler.ts'
import { createRequest } from './certificate-request.ts'
import { checkIdentity, publicKeyHash, serverFault } from './certificates.ts'
import { connectionFault } from './connection-fault.ts'
import { type Identity, identityPath, isEnrolled, loadIdentity, saveIdentity } from './identity.ts'
import { readMachine } from './machine.ts'
import { adopt } from './trust.ts'

/** From the first connection to the stored identity. */
export const enrollmentDeadlineMs = 60_000
/** An answer that is not there by then is asked for again. */
const attemptDeadlineMs = 15_000
const attemptsMax = 3
/** Certificates in a chain that are looked at. */
const chainMax = 8

const parseReply = compile(EnrollmentReply, 'answer of the scheduler')
const parseHash = compile(CaHash, 'CA hash')

export interface EnrollOptions {
  /** `https://host:port`. */
  readonly schedulerUrl: string
  readonly token: string
  /** `sha256:` and 64 hex digits: the hash of the CA's public key. */
  readonly caHash: string
  readonly stateDirectory: string
  /** Replaces an identity that is there already. */
  readonly force?: boolean
  readonly hostname?: string
  /** Stands for this machine; read from it unless given. */
  readonly machine?: string
  readonly signal?: AbortSignal
  readonly clock?: Clock
}

/**
 * Enrolls and stores the identity. Throws E_CONFLICT when the host is enrolled already, E_AUTH with `details.reason`
 * (`wrong-ca`, `wrong-name`, `expired`) when the server is not the scheduler that the hash stands for, and what the
 * scheduler says of the token.
 */
export async function enroll(options: EnrollOptions): Promise<Identity> {
  const { stateDirectory, clock = systemClock, signal } = options
  if (isEnrolled(stateDirectory) && options.force !== true)
    throw new HostletError(
      'E_CONFLICT',
      `this host is enrolled already: ${identityPath(stateDirectory)} exists. Use --force to replace its identity.`
    )
  const url = parseUrl(options.schedulerUrl)
  const caHash = parseHash(options.caHash)
  using deadline = startDeadline({ clock, ms: enrollmentDeadlineMs, what: 'the enrollment', signal })
  const authority = await presentedAuthority(url, caHash, deadline.signal)
  const identity = await requestIdentity(options, url, authority, deadline.signal)
  checkReply(identity, caHash, clock.now())
  saveIdentity(stateDirectory, identity)
  return identity
}

async function requestIdentity(
  options: EnrollOptions,
  url: URL,
  authority: X509Certificate,
  signal: AbortSignal
): Promise<Identity> {
  const hostname = (options.hostname ?? systemHostname()).slice(0, 256)
  const { key, certificateRequest } = await createRequest(hostname)
  const answer = await askAgainWhileLost(options, {
    url: new URL(enrollmentPath, url),
    body: { token: options.token, certificateRequest, hostname, agentVersion: release },
    tls: {
      ca: authority.toString(),
      // The pinned CA may be one that the CA before it vouches for, and then it is not self-signed.
      allowPartialTrustChain: true,
      minVersion: 'TLSv1.3',
      checkServerIdentity: (name, certificate) =>
        serverFault(name, certificate, schedulerOf(certificate.subjectaltname))
    },
    signal
  })
  const machine = options.machine ?? readMachine()
  const enrolledAt = (options.clock ?? systemClock).now()
  const { trust = [], ...granted } = parseReply(answer)
  const identity: Identity = {
    ...granted,
    key,
    enrolledAt,
    ...(machine !== undefined && { machine })
  }
  return trust.reduce(adopt, identity)
}

/** The token may be used up by a request whose answer was lost: with the same key the scheduler answers again. */
async function askAgainWhileLost(
  { clock = systemClock }: EnrollOptions,
  question: Question
): Promise<unknown> {
  for (let attempt = 1; ; attempt++) {
    using deadline = startDeadline({
      clock,
      ms: attemptDeadlineMs,
      what: 'the answer to the enrollment',
      signal: question.signal
    })
    try {
      return await askScheduler({ ...question, signal: deadline.signal })
    } catch (thrown) {
      const { code, details } = asHostletError(thrown)
      const isLost = (code === 'E_UNAVAILABLE' && details.status === undefined) || code === 'E_TIMEOUT'
      if (!isLost || attempt === attemptsMax || question.signal.aborted) throw thrown
    }
  }
}

/**
 * Tells the identity that its host is this machine now: after the operating system was installed anew, with the state
 * directory put back. No token is needed, for nothing is gained by it: if the other machine still lives, the scheduler
 * notices two agents of one host. Throws as loadIdentity does.
 */
export function moveIdentity(stateDirectory: string, machine: string | undefined = readMachine()): Identity {
  const { machine: _former, ...identity } = loadIdentity(stateDirectory)
  const moved = { ...identity, ...(machine !== undefined && { machine }) }
  saveIdentity(stateDirectory, moved)
  return moved
}

/** The trust domain is not known yet: whatever domain the pinned CA wrote into the certificate is the one. */
export function schedulerOf(subjectAltName: string | undefined): string {
  return (
    /URI:(spiffe:\/\/[A-Za-z0-9._-]+\/scheduler\/)/.exec(subjectAltName ?? '')?.[1] ??
    'spiffe://none/scheduler/'
  )
}

/** The CA certificate of the chain that the server shows, found by the hash of its key. Nothing is sent on this connection. */
export async function presentedAuthority(
  url: URL,
  caHash: string,
  signal: AbortSignal
): Promise<X509Certificate> {
  const socket = connect({
    host: url.hostname.replaceAll(/[[\]]/g, ''),
    port: Number(url.port || 443),
    minVersion: 'TLSv1.3',
    // Only to see the chain; the connection that carries the token is verified against what is found here.
    rejectUnauthorized: false
  })
  try {
    await untilAborted(connected(socket), signal)
    const chain = chainOf(socket.getPeerCertificate(true))
    const found = chain.find((certificate) => publicKeyHash(certificate) === caHash)
    if (found !== undefined) return found
  } catch (error) {
    throw signal.aborted ? signal.reason : connectionFault(error, url.origin)
  } finally {
    socket.destroy()
  }
  throw new HostletError(
    'E_AUTH',
    `the server at ${url.host} shows no CA with the hash ${caHash}. Compare it with "hostlet host token"; if it is right, something else answers at this address.`,
    { details: { reason: 'wrong-ca' } }
  )
}

function connected(socket: TLSSocket): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once('secureConnect', resolve)
    socket.once('error', reject)
  })
}

function chainOf(leaf: DetailedPeerCertificate): X509Certificate[] {
  const chain: X509Certificate[] = []
  let certificate: DetailedPeerCertificate | undefined = leaf
  while (certificate?.raw !== undefined && chain.length < chainMax) {
    chain.push(new X509Certificate(certificate.raw))
    const issuer: DetailedPeerCertificate | undefined = certificate.issuerCertificate
    // A self-signed certificate is its own issuer.
    certificate = issuer === certificate ? undefined : issuer
  }
  return chain
}

function checkReply(identity: Identity, caHash: string, now: number): void {
  const authorities = splitCertificates(identity.caCertificate).map((pem) => new X509Certificate(pem))
  if (!authorities.some((authority) => publicKeyHash(authority) === caHash))
    throw new HostletError('E_AUTH', 'the scheduler answered with another CA than the one that was pinned', {
      details: { reason: 'wrong-ca' }
    })
  checkIdentity(identity, now)
}

function parseUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol === 'https:' && url.username === '' && url.password === '') return url
  throw new HostletError(
    'E_BAD_REQUEST',
    `"${text}" is not an address such as https://scheduler.example:7443`
  )
}
