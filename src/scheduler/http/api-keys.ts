// API keys: made from 256 random bits, kept as a hash, looked up and compared in constant time.

import { createHash, randomBytes, randomUUIDv7, timingSafeEqual } from 'node:crypto'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { type ApiTier, apiTiers } from '../../protocol/api.ts'
import type { KeyRecord, KeyStore } from '../store/store.ts'

/** Who asks. */
export interface Actor {
  /** Of the key. */
  readonly id: string
  readonly tier: ApiTier
  readonly note: string
  readonly owner: string
  /** Of the session, where it is not the key itself that was shown. */
  readonly session: string | undefined
  /** 2 where a second factor was shown. */
  readonly factors: 1 | 2
  /** When the key ends; undefined for never. */
  readonly keyExpiresAt: number | undefined
  /** What needs this tier or a higher one is refused: a second factor is asked for and was not shown. */
  readonly refusedFrom: ApiTier | undefined
}

/** A key's last use is written down this often at most. */
export const useNoteMs = 60_000

export interface KeyOptions {
  readonly tier: ApiTier
  readonly note: string
  readonly owner?: string | undefined
  readonly ttlMs?: number | undefined
  readonly isMachine?: boolean | undefined
  readonly needsFactor?: boolean | undefined
}

export class ApiKeys {
  readonly #store: KeyStore
  readonly #clock: Pick<Clock, 'now'>

  constructor({ store, clock }: { store: KeyStore; clock: Pick<Clock, 'now'> }) {
    this.#store = store
    this.#clock = clock
  }

  /** `text` is told to nobody again. */
  async create(options: KeyOptions): Promise<{ record: KeyRecord; text: string }> {
    const { tier, note, owner = '', ttlMs, isMachine = false, needsFactor = false } = options
    const text = `hlk_${randomBytes(32).toString('base64url')}`
    const createdAt = this.#clock.now()
    const record = {
      ...{ id: randomUUIDv7(), hash: secretHash(text), tier, note, createdAt, owner, isMachine, needsFactor },
      lastFour: text.slice(-4),
      expiresAt: ttlMs === undefined ? undefined : createdAt + ttlMs
    }
    await this.#store.add(record)
    return {
      record: { ...record, lastUsedAt: undefined, lastUsedFrom: undefined, hasFactor: false },
      text
    }
  }

  /**
   * A new key like this one, which stays good for a while yet. Where it had a second factor the new one wants one too, set up
   * anew: the secret opens with the old text alone.
   */
  async rotate(
    old: KeyRecord,
    { overlapMs, ttlMs }: { readonly overlapMs: number; readonly ttlMs: number | undefined }
  ): Promise<{ record: KeyRecord; text: string }> {
    const { tier, note, owner, isMachine, createdAt, expiresAt, needsFactor, hasFactor } = old
    const created = await this.create({
      ...{ tier, note, owner, isMachine, needsFactor: needsFactor || hasFactor },
      ttlMs: ttlMs ?? (expiresAt === undefined ? undefined : expiresAt - createdAt)
    })
    const until = this.#clock.now() + overlapMs
    if (expiresAt === undefined || expiresAt > until) await this.#store.expireAt(old.id, until)
    return created
  }

  /** The key with this text. Throws E_AUTH; `details.reason` says whether it is unknown or has expired. */
  async find(text: string): Promise<KeyRecord> {
    const hash = secretHash(text)
    const record = await this.#store.findByHash(hash)
    if (record === undefined || !timingSafeEqual(record.hash, hash)) throw unknownKey()
    this.assertGood(record)
    return record
  }

  /** Throws E_AUTH for one that has expired. */
  assertGood({ id, expiresAt }: KeyRecord): void {
    if (expiresAt === undefined || this.#clock.now() < expiresAt) return
    throw refusal(
      'expired-key',
      `the API key ${id} expired on ${new Date(expiresAt).toISOString()}. Have an admin make a new one with "hostlet key create".`,
      id
    )
  }

  /** Notes when and from where it was used last, now and then. */
  async noteUse({ id, lastUsedAt, lastUsedFrom }: KeyRecord, from: string): Promise<void> {
    const at = this.#clock.now()
    if (lastUsedAt === undefined || lastUsedFrom !== from || Math.abs(at - lastUsedAt) >= useNoteMs)
      await this.#store.used(id, { at, from })
  }
}

/** Throws E_AUTH when the actor's tier is below the one that is asked for, or a second factor is missing for it. */
export function assertTier(actor: Actor, needed: ApiTier): void {
  if (rank(actor.tier) < rank(needed))
    throw refusal('low-tier', `this needs a key of tier ${needed}, yours is of tier ${actor.tier}`)
  if (actor.refusedFrom !== undefined && rank(needed) >= rank(actor.refusedFrom))
    throw refusal(
      'second-factor',
      'this needs a second factor, and none was shown. Set one up with "hostlet key second-factor", then "hostlet login".'
    )
}

function rank(tier: ApiTier): number {
  return apiTiers.indexOf(tier)
}

/** What is stored of a random secret. It needs no salt and no slowness: nobody guesses 256 bits. */
export function secretHash(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

export function unknownKey(): HostletError {
  return refusal('unknown-key', 'this API key is not known here. Make one with "hostlet key create".')
}

/** Why somebody is not let in; programs go by `details.reason`. */
export type Refusal =
  | 'missing-key'
  | 'unknown-key'
  | 'expired-key'
  | 'ended-session'
  | 'machine-key'
  | 'code-needed'
  | 'wrong-code'
  | 'used-code'
  | 'key-alone'
  | 'low-tier'
  | 'second-factor'
  | 'cross-site'

/** `key`: id of the one that was shown. */
export function refusal(reason: Refusal, message: string, key?: string): HostletError {
  return new HostletError('E_AUTH', message, { details: { reason, ...(key !== undefined && { key }) } })
}
