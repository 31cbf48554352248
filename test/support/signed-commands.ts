// Commands as a scheduler signs them, for tests of what a host makes of them.

import { randomUUID } from 'node:crypto'
import { CompactSign, type CryptoKey, exportJWK, generateKeyPair } from 'jose'
import { type CommandClaims, commandJwsType } from '../../src/protocol/command.ts'
import type { CommandKey } from '../../src/protocol/enrollment.ts'

export const hostId = 'host-1'

export interface Signer {
  readonly publicKey: CommandKey
  sign(claims: unknown, header?: Record<string, unknown>): Promise<string>
}

export async function createSigner(kid = 'key-1'): Promise<Signer> {
  const { publicKey, privateKey } = await generateKeyPair('EdDSA', { crv: 'Ed25519', extractable: true })
  const { x = '' } = await exportJWK(publicKey)
  return {
    publicKey: { kty: 'OKP', crv: 'Ed25519', kid, x },
    sign: (claims, header = {}) => signWith(privateKey, claims, { kid, ...header })
  }
}

function signWith(key: CryptoKey, claims: unknown, header: Record<string, unknown>): Promise<string> {
  const payload = typeof claims === 'string' ? claims : JSON.stringify(claims)
  return new CompactSign(new TextEncoder().encode(payload))
    .setProtectedHeader({ alg: 'EdDSA', typ: commandJwsType, ...header })
    .sign(key)
}

export const vmUuid = '0b54e6f2-6b53-4a3e-9d1c-0123456789ab'

/** Claims of a command for `web-1`, valid for ten minutes from `now`. */
export function claimsOf(now: number, changes: Partial<CommandClaims> = {}): CommandClaims {
  return {
    id: randomUUID(),
    verb: 'test.change',
    audience: hostId,
    issuedAt: now,
    expiresAt: now + 600_000,
    subject: { vm: 'web-1', uuid: vmUuid, generation: 1 },
    arguments: { vm: 'web-1' },
    ...changes
  }
}
