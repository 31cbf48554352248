// A disk's key encrypted for one host's key, as it crosses the wire.

import { recipientOf } from '../../backup/vault/recipients.ts'
import type { PublicJwk } from '../../protocol/keys.ts'
import { contentEncryption, keyWrapping } from './recovery.ts'

/** A JWE in compact form that only the holder of the private half opens. */
export async function encryptFor(publicKey: PublicJwk, text: string): Promise<string> {
  const { CompactEncrypt, importJWK } = await import('jose')
  const { kid, key } = await recipientOf(publicKey)
  return new CompactEncrypt(Buffer.from(text))
    .setProtectedHeader({ alg: keyWrapping, enc: contentEncryption, kid })
    .encrypt(await importJWK(key, keyWrapping))
}
