// The host's own key of backups: every backup that it makes is wrapped for it, so that it can go on and restore by itself.

import { ensureKey, type HostKeyPlaces, type PrivateKey } from '../keys/jwk.ts'

/** The systemd credential that is used instead of a file in the state directory, where there is one. */
export const hostKeyCredential = 'hostlet-backup-key'
export const hostKeyName = 'backup-key.jwk'

/** See ensureKey. */
export function ensureHostKey(places: HostKeyPlaces): Promise<PrivateKey> {
  return ensureKey(places, { credential: hostKeyCredential, file: hostKeyName })
}
