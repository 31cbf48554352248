// How hosts get their certificates: the first one for a join token, the next ones for the one before.

import { randomBytes, X509Certificate } from 'node:crypto'
import { TLSSocket } from 'node:tls'
import { HostletError } from '../../../errors.ts'
import { splitCertificates } from '../../../lib/pem.ts'
import { RenewalRequest } from '../../../protocol/api.ts'
import { EnrollmentReply, EnrollmentRequest } from '../../../protocol/enrollment.ts'
import { agentSocketPath } from '../../../protocol/messages.ts'
import { identifyPeer } from '../../hub/peer.ts'
import { markOf } from '../../identity/standing.ts'
import type { Store } from '../../store/store.ts'
import { usedToken } from '../../store/token-table.ts'
import { secretHash } from '../api-keys.ts'
import { defineRoute, type Services } from '../route.ts'

/** Longest part of an id that comes from the host's name; a suffix that tells two of one name apart follows it. */
const nameCharactersMax = 48
/** Statements of one answer, which agents read up to 256 KiB of; the rest comes over the socket. */
const renewalStatementsMax = 3

export const enrollmentRoutes = [
  defineRoute('POST /v1/enroll', {
    tier: 'open',
    summary: 'Enroll a host with a join token and a certificate request',
    body: EnrollmentRequest,
    reply: EnrollmentReply,
    handle: async ({ body }, services) => {
      const { store, clock, authority, log } = services
      const hash = secretHash(body.token)
      const now = clock.now()
      // Looked at first, so that only who has a token gets a request parsed; used up last, so that a bad request costs none.
      const { usedBy } = await store.tokens.check(hash, now)
      if (usedBy !== undefined) return await enrollAgain(services, usedBy, body)
      const id = await chooseId(store, body.hostname)
      const { certificatePem, expiresAt } = await authority.issueHostCertificate(body.certificateRequest, id)
      await store.tokens.enroll(hash, {
        id,
        hostname: body.hostname,
        enrolledAt: now,
        certificateExpiresAt: expiresAt,
        certificate: markOf(certificatePem)
      })
      log.info({ host: id, hostname: body.hostname, agentVersion: body.agentVersion }, 'host enrolled')
      return await firstReply(services, id, certificatePem)
    }
  }),

  defineRoute('POST /v1/renew', {
    tier: 'open',
    summary: 'Renew the certificate of the host whose present one opened this connection',
    body: RenewalRequest,
    reply: EnrollmentReply,
    handle: async ({ body, socket }, services) => {
      const { store, clock, authority, trust, config, log } = services
      if (!(socket instanceof TLSSocket)) throw new HostletError('E_AUTH', 'renewal needs TLS')
      const { id } = await identifyPeer(socket, {
        trustDomain: config.trustDomain,
        authorities: splitCertificates(trust.bundle),
        hosts: store.hosts,
        now: clock.now(),
        // The one thing that an expired certificate is still good for.
        graceMs: config.certificates.renewalGraceMs
      })
      const { certificatePem, expiresAt } = await authority.issueHostCertificate(body.certificateRequest, id)
      await store.hosts.renewed(id, {
        certificateExpiresAt: expiresAt,
        issued: markOf(certificatePem),
        previousKey: presentedKey(socket)
      })
      log.info({ host: id, expiresAt }, 'host certificate renewed')
      // An agent that tells no serial knows no statements.
      const statements =
        body.trustSerial === undefined ? [] : await trust.statements(body.trustSerial, renewalStatementsMax)
      return replyFor(services, id, certificatePem, statements)
    }
  })
]

/** The answer was lost on its way: the same key gets it again, as the host that it is. Anybody else's finds the token used up. */
async function enrollAgain(
  services: Services,
  id: string,
  { certificateRequest }: EnrollmentRequest
): Promise<EnrollmentReply> {
  const { store, authority, log } = services
  const { certificatePem, expiresAt } = await authority.issueHostCertificate(certificateRequest, id)
  const issued = markOf(certificatePem)
  const host = await store.hosts.find(id)
  const isSame = host?.certificates?.current.key === issued.key
  if (!isSame || host.revokedAt !== undefined || host.clonedAt !== undefined) throw usedToken({ host: id })
  await store.hosts.renewed(id, { certificateExpiresAt: expiresAt, issued, previousKey: issued.key })
  log.info({ host: id }, 'host asked for its enrollment again')
  return await firstReply(services, id, certificatePem)
}

/** To a host that goes by no statement yet. */
async function firstReply(services: Services, id: string, certificatePem: string): Promise<EnrollmentReply> {
  const { trust } = services
  const statements = await trust.newest()
  await trust.adopted(id, trust.serial)
  await trust.cameWith(id, new X509Certificate(certificatePem))
  return replyFor(services, id, certificatePem, statements)
}

function presentedKey(socket: TLSSocket): string {
  const certificate = socket.getPeerX509Certificate()
  if (certificate === undefined) throw new HostletError('E_AUTH', 'renewal needs a client certificate')
  return markOf(certificate.raw).key
}

function replyFor(
  { config, trust, addresses }: Services,
  hostId: string,
  certificate: string,
  statements: readonly string[]
): EnrollmentReply {
  return {
    hostId,
    trustDomain: config.trustDomain,
    certificate,
    caCertificate: trust.bundle,
    commandKeys: trust.commandKeys,
    schedulerUrls: addresses().map((url) => `${url.replace(/^https:/, 'wss:')}${agentSocketPath}`),
    ...(statements.length > 0 && { trust: [...statements] })
  }
}

/** The host's name as far as it fits an id; a random end tells it from a host of that name that enrolled before. */
async function chooseId(store: Store, hostname: string): Promise<string> {
  const name = hostname
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .slice(0, nameCharactersMax)
    .replaceAll(/^-+|-+$/g, '')
  const id = name === '' ? 'host' : name
  if ((await store.hosts.find(id)) === undefined) return id
  return `${id}-${randomBytes(4).toString('hex')}`
}
