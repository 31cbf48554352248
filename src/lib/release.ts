// The release that this is, as package.json says.

import { readFileSync } from 'node:fs'

export const release: string = readRelease()

function readRelease(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  return String((JSON.parse(text) as { version?: unknown }).version ?? 'unknown')
}
