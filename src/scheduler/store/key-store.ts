// API keys as the store knows them: a hash, never the key.

import type { ApiTier } from '../../protocol/api.ts'
import type { Page } from './store.ts'

export interface KeyRecord {
  readonly id: string
  readonly hash: Buffer
  readonly tier: ApiTier
  readonly note: string
  readonly createdAt: number
  readonly lastUsedAt: number | undefined
}

export interface KeyStore {
  add(key: Omit<KeyRecord, 'lastUsedAt'>): Promise<void>
  list(limit: number): Promise<Page<KeyRecord>>
  findByHash(hash: Buffer): Promise<KeyRecord | undefined>
  used(id: string, at: number): Promise<void>
  /** Throws E_CONFLICT for the last admin key. False when there is no such key. */
  remove(id: string): Promise<boolean>
  count(): Promise<number>
}
