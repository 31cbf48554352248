// A disk's key wrapped for recovery keys: made by the host that makes the key, opened by whoever has a private half, far from any host.

import type { GeneralJWE, JWK } from 'jose'
import { recipientOf } from '../../backup/vault/recipients.ts'
import { HostletError } from '../../errors.ts'
import { type GeneralJwe, keyRecipientsMax, RecoveryContent } from '../../protocol/keys.ts'
import { compile } from '../../protocol/validate.ts'

export const keyWrapping = 'ECDH-ES+A256KW'
export const contentEncryption = 'A256GCM'
/** In the protected header: a JWE that was made for another purpose is not taken for a disk's key. */
const contentType = 'hostlet-disk-key+json'

const checkContent = compile(RecoveryContent, 'content of a recovery wrapping')

/** Throws E_BAD_REQUEST when there is no public key, or one is of another kind. */
export async function wrapForRecovery(
  content: RecoveryContent,
  publicKeys: readonly JWK[]
): Promise<GeneralJwe> {
  if (publicKeys.length === 0 || publicKeys.length > keyRecipientsMax)
    throw new HostletError('E_BAD_REQUEST', `a disk's key needs 1 to ${keyRecipientsMax} recovery keys`)
  const { GeneralEncrypt, importJWK } = await import('jose')
  const encrypt = new GeneralEncrypt(Buffer.from(JSON.stringify(content))).setProtectedHeader({
    enc: contentEncryption,
    cty: contentType
  })
  for (const { kid, key } of await Promise.all(publicKeys.map(recipientOf)))
    encrypt.addRecipient(await importJWK(key, keyWrapping)).setUnprotectedHeader({ alg: keyWrapping, kid })
  return (await encrypt.encrypt()) as GeneralJwe
}

/**
 * The content, or undefined when none of the private keys fits. Throws E_CORRUPT when it opens and is no disk's key, or
 * that of another disk than `expected`. What it holds is in no error.
 */
export async function openRecovery(
  jwe: GeneralJwe,
  privateKeys: readonly JWK[],
  expected: Pick<RecoveryContent, 'id' | 'uuid'>
): Promise<RecoveryContent | undefined> {
  for (const privateKey of privateKeys) {
    const plaintext = await decrypt(jwe, privateKey)
    if (plaintext !== undefined) return readContent(plaintext, expected)
  }
  return undefined
}

async function decrypt(jwe: GeneralJwe, privateKey: JWK): Promise<Uint8Array | undefined> {
  const { kid } = await recipientOf(privateKey)
  const recipients = jwe.recipients.filter(({ header }) => header.kid === kid).slice(0, 1)
  if (recipients.length === 0) return undefined
  const { generalDecrypt, importJWK } = await import('jose')
  try {
    const { plaintext, protectedHeader } = await generalDecrypt(
      { ...jwe, recipients } as GeneralJWE,
      await importJWK(privateKey, keyWrapping),
      {
        keyManagementAlgorithms: [keyWrapping],
        contentEncryptionAlgorithms: [contentEncryption],
        maxDecompressedLength: 0
      }
    )
    return protectedHeader?.cty === contentType ? plaintext : undefined
  } catch {
    // Wrapped for this key and yet not to be opened: damaged. Another one of the keys may fit.
    return undefined
  }
}

function readContent(
  plaintext: Uint8Array,
  { id, uuid }: Pick<RecoveryContent, 'id' | 'uuid'>
): RecoveryContent {
  const content = parse(plaintext)
  if (content?.id === id && content.uuid === uuid) return content
  throw new HostletError(
    'E_CORRUPT',
    `the recovery wrapping of key ${id} holds ${content === undefined ? 'no key of a disk' : `key ${content.id} of VM ${content.uuid}`}. The scheduler's store is damaged, or somebody changed it.`
  )
}

function parse(plaintext: Uint8Array): RecoveryContent | undefined {
  try {
    return checkContent(JSON.parse(Buffer.from(plaintext).toString()))
  } catch {
    // A parser's message repeats what it could not read, and that may be the key.
    return undefined
  }
}
