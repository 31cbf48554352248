// The host's key for secrets: what commands carry for this host alone is encrypted for it.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ensurePrivateDirectory, writePrivateFile } from '../../lib/private-file.ts'
import {
  createPrivateKey,
  type HostKeyPlaces,
  type PrivateKey,
  parsePrivateKey
} from '../backups/host-key.ts'

/** The systemd credential that is used instead of a file in the state directory, where there is one. */
export const secretsKeyCredential = 'hostlet-host-key'
export const secretsKeyName = 'host-key.jwk'

/**
 * The key: systemd's credential where there is one, otherwise a file in the state directory, made when it is missing.
 * Throws E_CORRUPT when what is there is no such key, E_UNAVAILABLE when it cannot be written.
 */
export async function ensureSecretsKey({
  stateDirectory,
  credentialsDirectory
}: HostKeyPlaces): Promise<PrivateKey> {
  const credential = credentialsDirectory && join(credentialsDirectory, secretsKeyCredential)
  const path = credential && existsSync(credential) ? credential : join(stateDirectory, secretsKeyName)
  if (existsSync(path)) return await parsePrivateKey(readFileSync(path, 'utf8'), path)
  ensurePrivateDirectory(stateDirectory)
  const key = await createPrivateKey()
  writePrivateFile(path, `${JSON.stringify(key, undefined, 2)}\n`)
  return key
}
