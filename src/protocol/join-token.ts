// The join token: where the scheduler is, how to know it, and the secret that lets one host join, as one word to paste.

import { HostletError } from '../errors.ts'
import { type Static, Type } from '../lib/schema.ts'
import { CaHash } from './enrollment.ts'
import { strict, Timestamp } from './names.ts'
import { compile } from './validate.ts'

export const joinTokenPrefix = 'hlj_'
export const joinTokenCharactersMax = 8_192

export const JoinToken = Type.Object(
  {
    /** Of the form: another one is for another release. */
    version: Type.Literal(1),
    /** `https:` addresses of the scheduler, best first. */
    urls: Type.Array(Type.String({ pattern: '^https://[^\\s/?#@]+$', maxLength: 512 }), {
      minItems: 1,
      maxItems: 16
    }),
    caHash: CaHash,
    token: Type.String({ pattern: '^[A-Za-z0-9_-]{20,256}$' }),
    /** Undefined where it was put together from its parts by hand. */
    expiresAt: Type.Optional(Timestamp)
  },
  strict
)
export type JoinToken = Static<typeof JoinToken>

const parse = compile(JoinToken, 'join token')

export function isJoinToken(text: string): boolean {
  return text.startsWith(joinTokenPrefix)
}

export function encodeJoinToken(token: JoinToken): string {
  return `${joinTokenPrefix}${Buffer.from(JSON.stringify(token)).toString('base64url')}`
}

/** Throws E_BAD_REQUEST for one that is cut short, changed, or of another release. No message repeats what it holds. */
export function decodeJoinToken(text: string): JoinToken {
  try {
    if (!isJoinToken(text) || text.length > joinTokenCharactersMax) throw new Error('form')
    return parse(JSON.parse(Buffer.from(text.slice(joinTokenPrefix.length), 'base64url').toString('utf8')))
  } catch {
    throw new HostletError(
      'E_BAD_REQUEST',
      'the join token is damaged: a part is missing, or it is of another release. Copy the whole line that "hostlet host token" prints.'
    )
  }
}
