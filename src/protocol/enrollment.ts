// How a host joins: what it sends with its one-time token, and what it gets back.

import { type Static, Type } from '../lib/schema.ts'
import { HostId, ShortText, strict } from './names.ts'

export const enrollmentPath = '/v1/enroll'

/** `sha256:` and the hash of the CA certificate's SubjectPublicKeyInfo (DER), in hex: what a host pins before it trusts. */
export const CaHash = Type.String({ pattern: '^sha256:[0-9a-f]{64}$' })

export const EnrollmentRequest = Type.Object(
  {
    token: Type.String({ pattern: '^[A-Za-z0-9_-]{20,256}$' }),
    /** PEM, PKCS #10, made with the host's own key, which never leaves it. */
    certificateRequest: Type.String({ maxLength: 8_192 }),
    hostname: ShortText,
    agentVersion: ShortText
  },
  strict
)
export type EnrollmentRequest = Static<typeof EnrollmentRequest>

/** A public Ed25519 key that may sign commands (RFC 8037). */
export const CommandKey = Type.Object(
  {
    kty: Type.Literal('OKP'),
    crv: Type.Literal('Ed25519'),
    kid: ShortText,
    x: Type.String({ pattern: '^[A-Za-z0-9_-]{43}$' })
  },
  strict
)
export type CommandKey = Static<typeof CommandKey>

export const EnrollmentReply = Type.Object(
  {
    hostId: HostId,
    trustDomain: ShortText,
    /** PEM: the host's certificate, with the URI SAN `spiffe://<trust domain>/host/<id>`. */
    certificate: Type.String({ maxLength: 16_384 }),
    /** PEM: the CA that signed it and that signs the scheduler's; two of them while one takes the place of another. */
    caCertificate: Type.String({ maxLength: 16_384 }),
    commandKeys: Type.Array(CommandKey, { minItems: 1, maxItems: 8 }),
    /** `wss:` addresses of the agent socket, in order of preference. */
    schedulerUrls: Type.Array(Type.String({ pattern: '^wss://', maxLength: 512 }), {
      minItems: 1,
      maxItems: 16
    }),
    /**
     * Trust statements (see trust.ts), the oldest first. At enrollment the newest one; at a renewal those that the host does
     * not have. A host that is enrolled takes keys and CAs from these alone, never from the fields above.
     */
    trust: Type.Optional(Type.Array(Type.String({ maxLength: 65_536 }), { maxItems: 64 }))
  },
  strict
)
export type EnrollmentReply = Static<typeof EnrollmentReply>

export function spiffeId(trustDomain: string, kind: 'host' | 'scheduler', id: string): string {
  return `spiffe://${trustDomain}/${kind}/${id}`
}
