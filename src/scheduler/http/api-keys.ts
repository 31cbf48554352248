// API keys: made from 256 random bits, kept as a hash, looked up and compared in constant time.

import { createHash, randomBytes, randomUUIDv7, timingSafeEqual } from 'node:crypto'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { type ApiTier, apiTiers } from '../../protocol/api.ts'
import type { KeyRecord, KeyStore } from '../store/store.ts'

/** Who asks. */
export interface Actor {
  readonly id: string
  readonly tier: ApiTier
  readonly note: string
}

/** A key's last use is written down this often at most. */
const useNoteMs = 60_000

export class ApiKeys {
  readonly #store: KeyStore
  readonly #clock: Pick<Clock, 'now'>

  constructor({ store, clock }: { store: KeyStore; clock: Pick<Clock, 'now'> }) {
    this.#store = store
    this.#clock = clock
  }

  /** `text` is told to nobody again. */
  async create(tier: ApiTier, note: string): Promise<{ record: KeyRecord; text: string }> {
    const text = `hlk_${randomBytes(32).toString('base64url')}`
    const record = { id: randomUUIDv7(), hash: secretHash(text), tier, note, createdAt: this.#clock.now() }
    await this.#store.add(record)
    return { record: { ...record, lastUsedAt: undefined }, text }
  }

  /** Who asks, from the Authorization header. Throws E_AUTH; `details.reason` says whether it is missing or unknown. */
  async identify(authorization: string | undefined): Promise<Actor> {
    if (authorization === undefined)
      throw refusal('missing-key', 'this needs an API key: send it as "Authorization: Bearer hlk_…"')
    const text = /^Bearer +(hlk_[A-Za-z0-9_-]{43}) *$/i.exec(authorization)?.[1]
    const record = text === undefined ? undefined : await this.#find(secretHash(text))
    if (record === undefined)
      throw refusal('unknown-key', 'this API key is not known here. Make one with "hostlet key create".')
    await this.#note(record)
    return { id: record.id, tier: record.tier, note: record.note }
  }

  async #find(hash: Buffer): Promise<KeyRecord | undefined> {
    const record = await this.#store.findByHash(hash)
    return record !== undefined && timingSafeEqual(record.hash, hash) ? record : undefined
  }

  async #note({ id, lastUsedAt }: KeyRecord): Promise<void> {
    const now = this.#clock.now()
    if (lastUsedAt === undefined || Math.abs(now - lastUsedAt) >= useNoteMs) await this.#store.used(id, now)
  }
}

/** Throws E_AUTH when the actor's tier is below the one that is asked for. */
export function assertTier(actor: Actor, needed: ApiTier): void {
  if (apiTiers.indexOf(actor.tier) >= apiTiers.indexOf(needed)) return
  throw refusal('low-tier', `this needs a key of tier ${needed}, yours is of tier ${actor.tier}`)
}

/** What is stored of a random secret. It needs no salt and no slowness: nobody guesses 256 bits. */
export function secretHash(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

function refusal(reason: 'missing-key' | 'unknown-key' | 'low-tier', message: string): HostletError {
  return new HostletError('E_AUTH', message, { details: { reason } })
}
