// Ids and keys as they were given on the command line, and what is said of those that cannot be any.

import { HostletError } from '../errors.ts'

const charactersMax = 80

/** Throws E_BAD_REQUEST. Never repeats it: it may be most of a key. */
export function apiKeyOf(text: string, what = 'that is'): string {
  if (/^hlk_[A-Za-z0-9_-]{43}$/.test(text)) return text
  throw new HostletError(
    'E_BAD_REQUEST',
    `${what} no API key: one begins with hlk_ and has 47 characters. Copy the whole of it.`
  )
}

const things: Readonly<Record<string, readonly [string, string]>> = {
  vms: ['VM', 'hostlet vm ls'],
  hosts: ['host', 'hostlet host ls'],
  keys: ['key', 'hostlet key ls'],
  operations: ['operation', 'hostlet op ls']
}

/** Of a path whose name has not even the form of one; undefined for other paths. */
export function noSuchThing(path: string): HostletError | undefined {
  const [, collection = '', name = ''] = /^\/v1\/([a-z]+)\/([^/?]+)/.exec(path) ?? []
  const [what, list] = things[collection] ?? []
  if (what === undefined) return undefined
  const given = cut(decodeURIComponent(name))
  return new HostletError('E_NOT_FOUND', `there is no ${what} "${given}". See "${list}".`)
}

export function cut(text: string): string {
  return text.length > charactersMax ? `${text.slice(0, charactersMax)}…` : text
}
