// Sessions: opened with a key, and its second factor where it has one; a random token that ends by time, idleness or with its key.

import { randomBytes, randomUUIDv7, timingSafeEqual } from 'node:crypto'
import type { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { apiTiers } from '../../protocol/api.ts'
import type { SchedulerConfig } from '../config.ts'
import type { SessionRecord, SessionStore } from '../store/session-store.ts'
import type { KeyRecord, KeyStore } from '../store/store.ts'
import { type Actor, type ApiKeys, refusal, secretHash, useNoteMs } from './api-keys.ts'

/** Sessions of one key at once; the oldest ends for a new one. */
export const sessionsOfKeyMax = 32

export interface SessionsOptions {
  readonly store: { readonly sessions: SessionStore; readonly keys: Pick<KeyStore, 'find'> }
  readonly keys: ApiKeys
  readonly clock: Pick<Clock, 'now'>
  readonly people: SchedulerConfig['people']
}

export interface NewSessionOptions {
  readonly key: KeyRecord
  readonly factors: 1 | 2
  readonly kind: SessionRecord['kind']
  readonly remember: boolean
  readonly address: string
}

export interface SessionUse {
  /** It is looked at, and comes no further from its end by idleness. */
  readonly isBackground?: boolean
}

export class Sessions {
  readonly #options: SessionsOptions

  constructor(options: SessionsOptions) {
    this.#options = options
  }

  /** Always a new one: what the asker brought with it is never taken over. `text` is told to nobody again. */
  async open(asked: NewSessionOptions): Promise<{ record: SessionRecord; text: string }> {
    const { key, factors, kind, remember, address } = asked
    const { clock, people, store } = this.#options
    const text = `hls_${randomBytes(32).toString('base64url')}`
    const isRemembered = remember && people.rememberMs > 0
    const createdAt = clock.now()
    const record = {
      ...{ id: randomUUIDv7(), hash: secretHash(text), key: key.id, kind, factors, address, createdAt },
      expiresAt: createdAt + (isRemembered ? people.rememberMs : people.sessionMs),
      idleMs: isRemembered || kind === 'token' ? undefined : people.idleMs
    }
    await store.sessions.add(record, sessionsOfKeyMax)
    return { record: { ...record, lastUsedAt: undefined }, text }
  }

  /** Who asks with this token. Throws E_AUTH where it is not known, has ended, or its key has expired. */
  async identify(text: string, from: string, use: SessionUse = {}): Promise<Actor> {
    const { session, key } = await this.find(text, use)
    await this.#options.keys.noteUse(key, from)
    return this.actorOf(key, session)
  }

  /** The session of this token and its key. Throws E_AUTH as `identify` does. */
  async find(
    text: string,
    { isBackground = false }: SessionUse = {}
  ): Promise<{ session: SessionRecord; key: KeyRecord }> {
    const { store, keys } = this.#options
    const hash = secretHash(text)
    const session = await store.sessions.findByHash(hash)
    if (session === undefined || !timingSafeEqual(session.hash, hash)) throw ended()
    if (this.#hasEnded(session)) {
      await store.sessions.remove(session.id)
      throw ended()
    }
    const key = await store.keys.find(session.key)
    if (key === undefined) throw ended()
    keys.assertGood(key)
    if (!isBackground) await this.#noteUse(session)
    return { session, key }
  }

  /** What a key may do with the factors that were shown. */
  actorOf(key: KeyRecord, session?: Pick<SessionRecord, 'id' | 'factors'>): Actor {
    const { id, tier, note, owner, expiresAt: keyExpiresAt } = key
    const factors = session?.factors ?? 1
    return {
      ...{ id, tier, note, owner, factors, keyExpiresAt, session: session?.id },
      refusedFrom: factors === 2 ? undefined : this.#factorNeededFrom(key)
    }
  }

  #factorNeededFrom({ isMachine, needsFactor, hasFactor }: KeyRecord): Actor['refusedFrom'] {
    if (needsFactor || hasFactor) return apiTiers[0]
    const { requireSecondFactor: from } = this.#options.people
    return isMachine || from === 'none' ? undefined : from
  }

  #hasEnded({ expiresAt, idleMs, lastUsedAt, createdAt }: SessionRecord): boolean {
    const now = this.#options.clock.now()
    return now >= expiresAt || (idleMs !== undefined && now - (lastUsedAt ?? createdAt) >= idleMs)
  }

  async #noteUse({ id, idleMs, lastUsedAt, createdAt }: SessionRecord): Promise<void> {
    const { clock, store } = this.#options
    const now = clock.now()
    const everyMs = Math.min(useNoteMs, (idleMs ?? useNoteMs * 2) / 2)
    if (Math.abs(now - (lastUsedAt ?? createdAt)) >= everyMs) await store.sessions.used(id, now)
  }
}

function ended(): HostletError {
  return refusal('ended-session', 'this session has ended. Sign in again: "hostlet login", or the dashboard.')
}
