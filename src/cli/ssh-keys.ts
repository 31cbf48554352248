// Public SSH keys out of a file as ssh-keygen writes it: a line a key.

import { HostletError } from '../errors.ts'

/** Throws E_BAD_REQUEST for a private key, which nobody should be sent. */
export function sshKeysIn(text: string, what: string): string[] {
  const keys = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
  if (!keys.some((line) => line.startsWith('-----'))) return keys
  throw new HostletError(
    'E_BAD_REQUEST',
    `an ${what} holds a private key. Give the public one, which ends in .pub.`
  )
}
