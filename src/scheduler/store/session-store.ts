// Sessions as the store knows them: a hash, never the token, and the key that each belongs to.

import type { Page } from './store.ts'

export interface NewSession {
  readonly id: string
  readonly hash: Buffer
  /** Id of the key that opened it: the session ends with it. */
  readonly key: string
  /** How its token travels: in a browser's cookie, or as a bearer token. */
  readonly kind: 'cookie' | 'token'
  /** 2 where a second factor was shown besides the key. */
  readonly factors: 1 | 2
  /** From where it was opened. */
  readonly address: string
  readonly createdAt: number
  readonly expiresAt: number
  /** It ends when nothing was asked for so long; undefined where that does not matter. */
  readonly idleMs: number | undefined
}

export interface SessionRecord extends NewSession {
  readonly lastUsedAt: number | undefined
}

export interface SessionStore {
  /** The oldest of the key go where there would be more than `ofKeyMax`. */
  add(session: NewSession, ofKeyMax: number): Promise<void>
  find(id: string): Promise<SessionRecord | undefined>
  findByHash(hash: Buffer): Promise<SessionRecord | undefined>
  /** Newest first. */
  list(limit: number): Promise<Page<SessionRecord>>
  used(id: string, at: number): Promise<void>
  /** False when there is no such session. */
  remove(id: string): Promise<boolean>
  /** Forgets those that have ended by time. Resolves with their number. */
  forgetEnded(now: number): Promise<number>
}
