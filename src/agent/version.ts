// The release that this agent is, as package.json says.

import { readFileSync } from 'node:fs'

export const agentVersion: string = readVersion()

function readVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  return String((JSON.parse(text) as { version?: unknown }).version ?? 'unknown')
}
