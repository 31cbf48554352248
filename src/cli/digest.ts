// A digest as people paste it: 64 hexadecimal digits, with or without `sha256:` before them.

import { HostletError } from '../errors.ts'

/** Throws E_BAD_REQUEST. */
export function digestOf(text: string): string {
  const digest = text.replace(/^sha256:/i, '').toLowerCase()
  if (/^[0-9a-f]{64}$/.test(digest)) return digest
  throw new HostletError('E_BAD_REQUEST', '--sha256 must be 64 hexadecimal digits, as sha256sum prints them.')
}
