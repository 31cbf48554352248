// Approvals as people make them, for tests of what a host makes of them.

import { createHash, randomUUID } from 'node:crypto'
import { CompactSign, type CryptoKey, exportJWK, generateKeyPair } from 'jose'
import { type ApprovalClaims, approvalJwsType } from '../../src/protocol/approval.ts'
import type { CommandClaims } from '../../src/protocol/command.ts'

export interface TestApprover {
  readonly jwk: { readonly kty: 'OKP'; readonly crv: 'Ed25519'; readonly x: string }
  /** Of a command as it was signed. Changes of its claims and header are signed as well. */
  approve(jws: string, changes?: Partial<ApprovalClaims>, header?: Record<string, unknown>): Promise<string>
}

export async function createApprover(
  name: string,
  pair?: { publicKey: CryptoKey; privateKey: CryptoKey }
): Promise<TestApprover> {
  const { publicKey, privateKey } =
    pair ?? (await generateKeyPair('EdDSA', { crv: 'Ed25519', extractable: true }))
  const { x = '' } = await exportJWK(publicKey)
  return {
    jwk: { kty: 'OKP', crv: 'Ed25519', x },
    approve: async (jws, changes = {}, header = {}) => {
      const payload = Buffer.from(jws.split('.')[1] ?? '', 'base64url')
      const { id, audience, verb, subject, issuedAt }: CommandClaims = JSON.parse(payload.toString())
      const claims = {
        ...{ command: id, digest: createHash('sha256').update(payload).digest('hex'), host: audience, verb },
        ...(subject && { vm: subject.vm }),
        ...{ approver: name, issuedAt, expiresAt: issuedAt + 600_000 },
        ...changes
      }
      return await new CompactSign(new TextEncoder().encode(JSON.stringify(claims)))
        .setProtectedHeader({ alg: 'EdDSA', kid: randomUUID(), typ: approvalJwsType, ...header })
        .sign(privateKey)
    }
  }
}
