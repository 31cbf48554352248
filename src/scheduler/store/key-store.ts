// API keys as the store knows them: a hash, never the key.

import type { ApiTier } from '../../protocol/api.ts'
import type { Page } from './store.ts'

export interface NewKey {
  readonly id: string
  readonly hash: Buffer
  readonly tier: ApiTier
  readonly note: string
  readonly createdAt: number
  /** Whose it is; empty where nobody said. */
  readonly owner: string
  /** Last characters of its text, to know it by; undefined for keys of older releases. */
  readonly lastFour: string | undefined
  /** Good until then; undefined for always. */
  readonly expiresAt: number | undefined
  /** Used by a program: it opens no session and is asked for no second factor. */
  readonly isMachine: boolean
  /** Good for nothing but to set up a second factor, until it has one. */
  readonly needsFactor: boolean
}

export interface KeyRecord extends NewKey {
  readonly lastUsedAt: number | undefined
  readonly lastUsedFrom: string | undefined
  /** A second factor that was confirmed. */
  readonly hasFactor: boolean
}

export interface KeyStore {
  add(key: NewKey): Promise<void>
  list(limit: number): Promise<Page<KeyRecord>>
  find(id: string): Promise<KeyRecord | undefined>
  findByHash(hash: Buffer): Promise<KeyRecord | undefined>
  used(id: string, use: { readonly at: number; readonly from: string }): Promise<void>
  /** False when there is no such key. */
  expireAt(id: string, expiresAt: number): Promise<boolean>
  /** Its sessions and its second factor go with it. Throws E_CONFLICT for the last admin key. False when there is no such key. */
  remove(id: string, now: number): Promise<boolean>
  /** Those that end in the time from `from` to `to`. */
  endingBetween(from: number, to: number): Promise<readonly KeyRecord[]>
  /** Forgets those that expired before. Resolves with their number. */
  forgetExpired(before: number): Promise<number>
  count(): Promise<number>
}
