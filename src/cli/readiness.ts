// When a VM is ready, as a person writes it: a port and a path such as 80/health, and back.

import type { Readiness } from '../protocol/vm.ts'
import { parseInteger } from './quantities.ts'

/** Throws E_BAD_REQUEST naming `what`. */
export function httpOf(text: string, what: string): NonNullable<Readiness['http']> {
  const slash = text.indexOf('/')
  const [port, path] = slash < 0 ? [text, '/'] : [text.slice(0, slash), text.slice(slash)]
  return { port: portOf(port, what), path }
}

export function portOf(text: string, what: string): number {
  return parseInteger(text, { what, minimum: 1, maximum: 65_535 })
}
