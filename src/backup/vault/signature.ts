// Who made a manifest: the detached signature over what it binds together, and the certificates that vouch for its key.

import type { X509Certificate } from 'node:crypto'
import {
  certificatesOfHeader,
  forged,
  type Signer,
  signatureFits,
  signBytes,
  x5cOf
} from '../../lib/certified-signature.ts'

export interface DetachedSignature {
  readonly protected: string
  readonly signature: string
}

/** What the signature binds. */
export interface Signed {
  readonly vm: string
  readonly snapshot: string
  readonly keyId: string
  /** SHA-256 of the sealed body, in hex. */
  readonly sealedHash: string
}

/** The payload of the JWS: five lines, each ended by a line feed. */
export function signedPayload({ vm, snapshot, keyId, sealedHash }: Signed): string {
  return `hostlet-backup/1 manifest\n${vm}\n${snapshot}\n${keyId}\n${sealedHash}\n`
}

export async function signManifest(signed: Signed, signer: Signer): Promise<DetachedSignature> {
  const header = Buffer.from(JSON.stringify({ alg: 'ES256', x5c: x5cOf(signer) })).toString('base64url')
  return { protected: header, signature: await signBytes(signingInput(header, signed), signer) }
}

/** The chain whose leaf made the signature. Throws E_AUTH with the reason `forged` when none did. */
export function checkSignature(signed: Signed, signature: DetachedSignature): X509Certificate[] {
  const { chain, rest } = certificatesOfHeader(signature.protected)
  // A critical extension that we do not know would have to be refused; there are none.
  if ('crit' in rest) throw forged('the header of its signature is not ES256 with x5c')
  signatureFits(chain, signingInput(signature.protected, signed), signature.signature)
  return chain
}

function signingInput(header: string, signed: Signed): Buffer {
  return Buffer.from(`${header}.${Buffer.from(signedPayload(signed)).toString('base64url')}`)
}
