// The way to the scheduler: this host's certificate, and whether the scheduler answers, by DNS, TCP, TLS with the fleet's CA and HTTP.

import { request } from 'node:https'
import { asHostletError } from '../../../errors.ts'
import { systemClock } from '../../../lib/clock.ts'
import { checkIdentity, serverFault, tlsSettings, validityOf } from '../../identity/certificates.ts'
import { connectionFault } from '../../identity/connection-fault.ts'
import { presentedAuthority, schedulerOf } from '../../identity/enroll.ts'
import { type Identity, isEnrolled, loadIdentity } from '../../identity/identity.ts'
import { checkMachine, readMachine } from '../../identity/machine.ts'
import type { IdentityFacts, SchedulerAnswer } from '../facts.ts'

/** Whom a host will join: addresses, and the hash of the CA to believe. */
export interface FutureScheduler {
  readonly urls: readonly string[]
  readonly caHash: string
}

type Tls = Pick<
  Parameters<typeof request>[1] & object,
  'ca' | 'cert' | 'key' | 'minVersion' | 'checkServerIdentity' | 'allowPartialTrustChain'
>

const answerMsMax = 10_000
const proxyNames = ['HTTPS_PROXY', 'https_proxy', 'ALL_PROXY', 'all_proxy']

/** Null where the host is not enrolled. Throws what reading the identity throws. */
export async function identityFacts(stateDirectory: string, now: number): Promise<IdentityFacts | null> {
  if (!isEnrolled(stateDirectory)) return null
  const identity = loadIdentity(stateDirectory)
  const faultOf = (check: () => unknown): string | undefined => {
    try {
      check()
      return undefined
    } catch (error) {
      return asHostletError(error).message
    }
  }
  return {
    hostId: identity.hostId,
    ...validityOf(identity.certificate),
    fault: faultOf(() => checkIdentity(identity, now)),
    foreign: faultOf(() => checkMachine(identity, readMachine())) !== undefined
  }
}

/** Each of its addresses once, all at the same time; those of the one to join, where there is one. Null where there is none to ask. */
export async function schedulerAnswers(
  { stateDirectory, schedulerUrls }: { stateDirectory: string; schedulerUrls?: readonly string[] },
  future: FutureScheduler | undefined,
  signal: AbortSignal
): Promise<SchedulerAnswer[] | null> {
  if (future === undefined && isEnrolled(stateDirectory)) {
    const identity = loadIdentity(stateDirectory)
    const urls = (schedulerUrls ?? identity.schedulerUrls).map(overHttps)
    return await Promise.all(urls.map((url) => answerOf(url, async () => enrolledTls(identity), signal)))
  }
  if (future === undefined) return null
  const { caHash } = future
  return await Promise.all(
    future.urls.map((url) => answerOf(url, (stop) => futureTls(url, caHash, stop), signal))
  )
}

function overHttps(url: string): string {
  return new URL(url).origin.replace(/^ws/, 'http')
}

function enrolledTls(identity: Identity): Tls {
  return tlsSettings(identity)
}

/** As enrollment does: whoever has the pinned CA is the scheduler. */
async function futureTls(url: string, caHash: string, signal: AbortSignal): Promise<Tls> {
  const authority = await presentedAuthority(new URL(url), caHash, signal)
  return {
    ca: authority.toString(),
    allowPartialTrustChain: true,
    minVersion: 'TLSv1.3',
    checkServerIdentity: (name, certificate) =>
      serverFault(name, certificate, schedulerOf(certificate.subjectaltname))
  }
}

async function answerOf(
  url: string,
  tls: (signal: AbortSignal) => Promise<Tls>,
  signal: AbortSignal
): Promise<SchedulerAnswer> {
  const proxyVariables = proxyNames.filter((name) => (process.env[name] ?? '') !== '')
  const limit = AbortSignal.timeout(answerMsMax)
  const stop = AbortSignal.any([signal, limit])
  try {
    const date = await dateOf(new URL('/healthz', url), await tls(stop), stop)
    const clockAheadMs = Number.isFinite(date) ? date - systemClock.now() : undefined
    return { url, fault: undefined, clockAheadMs, proxyVariables }
  } catch (error) {
    signal.throwIfAborted()
    const fault = limit.aborted
      ? `scheduler ${url}: no answer within ${answerMsMax / 1_000} s. Does a firewall stand between?`
      : connectionFault(error, url).message
    return { url, fault, clockAheadMs: undefined, proxyVariables }
  }
}

/** Of the answer's head, in milliseconds since the epoch. */
function dateOf(url: URL, tls: Tls, signal: AbortSignal): Promise<number> {
  return new Promise((resolve, reject) => {
    const asked = request(url, { ...tls, agent: false, signal }, (answer) => {
      answer.resume()
      if (answer.statusCode === 200) resolve(Date.parse(answer.headers.date ?? ''))
      else reject(new Error(`it answers with status ${answer.statusCode}: is it a scheduler?`))
    })
    asked.on('error', reject)
    asked.end()
  })
}
