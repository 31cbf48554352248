// What opens a repository and its backups besides the host's key: credentials, recovery keys, authorities, as the policy names them.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { credentialsFromJwe, parseCredentials } from '../../backup/repository/credentials.ts'
import type { StoreCredentials } from '../../backup/repository/open-store.ts'
import { HostletError } from '../../errors.ts'
import { type PrivateKey, type PublicKey, parsePrivateKey, parsePublicKey } from '../keys/jwk.ts'
import { type CredentialSource, type RecipientSource, recipientsOf } from '../policy/backup-sections.ts'
import { policyOwners } from '../policy/paths.ts'
import type { Policy } from '../policy/policy.ts'
import { readTrustedFile } from '../policy/trusted-file.ts'

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
  if (source.jwe !== undefined) return await credentialsFromJwe(source.jwe, { ...hostKey })
  return parseCredentials(...readSecret(source, places, 'the credentials of a repository'))
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
