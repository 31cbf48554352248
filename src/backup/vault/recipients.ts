// Who can open a vault: its key wrapped for public keys as JWE, and unwrapped with private ones.

import type { GeneralJWE, JWK } from 'jose'
import { HostletError } from '../../errors.ts'
import { vmKeyBytes } from '../format/keys.ts'

export type { JWK } from 'jose'

export const recipientsMax = 16
export const keyWrapping = 'ECDH-ES+A256KW'
const contentEncryption = 'A256GCM'
/** Curves of keys that may be recipients, by JWK key type. */
const curves: Readonly<Record<string, readonly string[]>> = { OKP: ['X25519'], EC: ['P-256'] }

/** A public key that a VM key is wrapped for. `kid` is its RFC 7638 thumbprint. */
export interface Recipient {
  readonly kid: string
  readonly key: JWK
}

export interface Unlocker {
  /** Private keys, tried by thumbprint first. */
  readonly keys: readonly JWK[]
}

/** The recipient of a public or private JWK. Throws E_BAD_REQUEST for a key of another kind. */
export async function recipientOf(jwk: JWK): Promise<Recipient> {
  const { kty, crv, x, y } = jwk
  if (typeof kty !== 'string' || typeof crv !== 'string' || curves[kty]?.includes(crv) !== true)
    throw new HostletError(
      'E_BAD_REQUEST',
      `a recipient's key must be a JWK of X25519 or P-256, not ${String(kty).slice(0, 16)} ${String(crv).slice(0, 16)}`
    )
  // Never the private part, whatever was given.
  const key: JWK = { kty, crv, ...(x !== undefined && { x }), ...(y !== undefined && { y }) }
  const { calculateJwkThumbprint } = await import('jose')
  try {
    return { kid: await calculateJwkThumbprint(key), key }
  } catch (cause) {
    throw new HostletError('E_BAD_REQUEST', "a recipient's key is no complete JWK", { cause })
  }
}

/** Wraps a VM key for each of the public keys. Throws E_BAD_REQUEST when there is none, or one is of another kind. */
export async function wrapKey(vmKey: Uint8Array, publicKeys: readonly JWK[]): Promise<GeneralJWE> {
  if (publicKeys.length === 0 || publicKeys.length > recipientsMax)
    throw new HostletError('E_BAD_REQUEST', `a vault's key needs 1 to ${recipientsMax} recipients`)
  const { GeneralEncrypt, importJWK } = await import('jose')
  const encrypt = new GeneralEncrypt(vmKey).setProtectedHeader({ enc: contentEncryption })
  for (const { kid, key } of await Promise.all(publicKeys.map(recipientOf)))
    encrypt.addRecipient(await imported(importJWK, key)).setUnprotectedHeader({ alg: keyWrapping, kid })
  return encrypt.encrypt()
}

async function imported(importJWK: typeof import('jose').importJWK, key: JWK) {
  try {
    return await importJWK(key, keyWrapping)
  } catch (cause) {
    throw new HostletError('E_BAD_REQUEST', "a recipient's key is not one that can be used", { cause })
  }
}

/** Thumbprints of the keys that can open it, as far as they are named. */
export function recipientsOf(keys: GeneralJWE): string[] {
  return keys.recipients.slice(0, recipientsMax).flatMap(({ header }) => {
    const kid: unknown = header?.kid
    return typeof kid === 'string' ? [kid.slice(0, 128)] : []
  })
}

/**
 * The VM key, or undefined when none of the private keys fits. `fits` tells whether what came out is the key that the
 * manifest means: whoever may write to the repository can wrap a key of his own for us.
 */
export async function unwrapKey(
  keys: GeneralJWE,
  unlocker: Unlocker,
  fits: (vmKey: Uint8Array) => boolean
): Promise<Uint8Array | undefined> {
  const { generalDecrypt, importJWK } = await import('jose')
  const named = new Set(recipientsOf(keys))
  for (const jwk of unlocker.keys) {
    const { kid } = await recipientOf(jwk)
    if (!named.has(kid)) continue
    // Each one costs an agreement of keys: a list without end would cost minutes.
    const listed = keys.recipients.slice(0, recipientsMax)
    const matching = { ...keys, recipients: listed.filter(({ header }) => header?.kid === kid) }
    try {
      const { plaintext } = await generalDecrypt(matching, await imported(importJWK, jwk), {
        keyManagementAlgorithms: [keyWrapping],
        contentEncryptionAlgorithms: [contentEncryption],
        // A key is never compressed.
        maxDecompressedLength: 0
      })
      if (plaintext.length === vmKeyBytes && fits(plaintext)) return plaintext
    } catch (error) {
      // Wrapped for this key and yet not to be opened: damaged, or not wrapped for it in truth. Another key may fit.
      if (error instanceof HostletError) throw error
    }
  }
  return undefined
}
