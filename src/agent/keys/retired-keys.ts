// Keys of the host that were rotated away and open for a while what was sealed for them before.

import { existsSync, readFileSync } from 'node:fs'
import { HostletError } from '../../errors.ts'
import { type Static, Type } from '../../lib/schema.ts'
import { compile } from '../../protocol/validate.ts'

const part = Type.String({ minLength: 1, maxLength: 128 })
const RetiredKey = Type.Object({
  kty: Type.Literal('OKP'),
  crv: Type.Literal('X25519'),
  x: part,
  d: part,
  kid: part,
  /** Milliseconds since the epoch. */
  untilMs: Type.Integer({ minimum: 0 })
})
export type RetiredKey = Static<typeof RetiredKey>

/** Rotating more often than this within the time that keys are kept drops the oldest. */
const keysMax = 16
const check = compile(Type.Array(RetiredKey, { maxItems: keysMax }), 'retired keys')

/** None where there is no file. Throws E_CORRUPT. */
export function readRetiredKeys(path: string): RetiredKey[] {
  if (!existsSync(path)) return []
  try {
    return check(JSON.parse(readFileSync(path, 'utf8')))
  } catch {
    // The cause is left out: a parser repeats what it could not read, and that may be a key.
    throw new HostletError('E_CORRUPT', `${path}: is not the list of retired keys that hostlet wrote`)
  }
}

export function retiredKeysText(keys: readonly RetiredKey[]): string {
  return JSON.stringify(keys.slice(-keysMax), undefined, 2)
}
