// What opens a repository and its backups besides the host's key: credentials, recovery keys, authorities, as the policy names them.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { compactDecrypt, importJWK } from 'jose'
import { HostletError } from '../../errors.ts'
import { type Static, Type } from '../../lib/schema.ts'
import { strict } from '../../protocol/names.ts'
import { compile } from '../../protocol/validate.ts'
import { type PrivateKey, type PublicKey, parsePrivateKey, parsePublicKey } from './host-key.ts'
import {
  type CredentialSource,
  type Policy,
  policyOwners,
  type RecipientSource,
  recipientsOf
} from './policy.ts'
import { readTrustedFile } from './trusted-file.ts'

const StoreCredentials = Type.Object(
  {
    accessKeyId: Type.String({ minLength: 1, maxLength: 256 }),
    secretAccessKey: Type.String({ minLength: 1, maxLength: 1_024 }),
    sessionToken: Type.Optional(Type.String({ minLength: 1, maxLength: 8_192 }))
  },
  strict
)
export type StoreCredentials = Static<typeof StoreCredentials>
const checkCredentials = compile(StoreCredentials, 'credentials')

/** Where secrets lie, and who may own their files. */
export interface SecretPlaces {
  readonly policyPath: string
  readonly credentialsDirectory?: string | undefined
}

/** Throws E_AUTH, E_NOT_FOUND or E_CORRUPT, naming where the credentials should be and nothing of what they are. */
export async function loadCredentials(
  source: CredentialSource,
  hostKey: PrivateKey,
  places: SecretPlaces
): Promise<StoreCredentials> {
  const [text, where] = source.jwe
    ? [await decrypted(source.jwe, hostKey), 'the encrypted credentials of the policy']
    : readSecret(source, places, 'the credentials of a repository')
  try {
    return checkCredentials(JSON.parse(text))
  } catch {
    // The cause is left out: a parser's message repeats what it could not read.
    throw new HostletError(
      'E_CORRUPT',
      `${where}: expected JSON with accessKeyId, secretAccessKey and perhaps sessionToken`
    )
  }
}

/** The private keys of the policy, to open what was not wrapped for this host. */
export async function loadUnlockKeys(policy: Policy, places: SecretPlaces): Promise<PrivateKey[]> {
  const secrets = policy.unlockKeys.map((source) => readSecret(source, places, 'a key to unlock backups'))
  return await Promise.all(secrets.map(([text, where]) => parsePrivateKey(text, where)))
}

/** Whom the policy has a VM's backups wrapped for besides the host. */
export async function loadRecipients(
  policy: Policy,
  vm: { name: string; uuid: string },
  places: SecretPlaces
): Promise<PublicKey[]> {
  return await Promise.all(recipientsOf(policy, vm).map((source) => loadRecipient(source, places)))
}

/** The CAs of the policy, as PEM. */
export function loadAuthorities(policy: Policy, places: SecretPlaces): string[] {
  const options = { what: 'an authority of the policy', owners: policyOwners(places.policyPath) }
  return policy.authorities.map((path) => readTrustedFile(path, options))
}

async function loadRecipient({ file, jwk }: RecipientSource, places: SecretPlaces): Promise<PublicKey> {
  if (file === undefined) return await parsePublicKey(jwk ?? {}, places.policyPath)
  const options = { what: 'a recipient of backups', owners: policyOwners(places.policyPath) }
  return await parsePublicKey(readTrustedFile(file, options), file)
}

function readSecret(
  source: { readonly file?: string; readonly systemdCredential?: string },
  { policyPath, credentialsDirectory }: SecretPlaces,
  what: string
): readonly [text: string, where: string] {
  const { file, systemdCredential } = source
  if (file !== undefined)
    return [readTrustedFile(file, { what, owners: policyOwners(policyPath), secret: true }), file]
  const where = `the systemd credential ${systemdCredential}`
  if (credentialsDirectory === undefined || systemdCredential === undefined)
    throw new HostletError(
      'E_NOT_FOUND',
      `${where} cannot be read: systemd gave this process none. Add LoadCredential= to the unit.`
    )
  try {
    return [readFileSync(join(credentialsDirectory, systemdCredential), 'utf8'), where]
  } catch (cause) {
    throw new HostletError('E_NOT_FOUND', `${where} is not there. Add LoadCredential= to the unit.`, {
      cause
    })
  }
}

async function decrypted(jwe: string, hostKey: PrivateKey): Promise<string> {
  try {
    const key = await importJWK({ ...hostKey }, 'ECDH-ES+A256KW')
    const { plaintext } = await compactDecrypt(jwe, key, {
      keyManagementAlgorithms: ['ECDH-ES', 'ECDH-ES+A256KW'],
      contentEncryptionAlgorithms: ['A256GCM']
    })
    return Buffer.from(plaintext).toString('utf8')
  } catch {
    throw new HostletError(
      'E_AUTH',
      "the encrypted credentials of the policy cannot be opened with this host's backup key. Encrypt them to this host's key anew."
    )
  }
}
