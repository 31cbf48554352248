// API keys and sessions as the API shows them: never their texts.

import type { KeyView, SessionView, secondFactorStates } from '../../protocol/api.ts'
import type { Actor } from '../http/api-keys.ts'
import type { SessionRecord } from '../store/session-store.ts'
import type { KeyRecord } from '../store/store.ts'
import { present } from './operation-view.ts'

export function keyView(record: KeyRecord): KeyView {
  const { id, tier, note, createdAt, expiresAt, lastUsedAt, lastUsedFrom, lastFour, isMachine } = record
  return {
    ...{ id, tier, note, createdAt, machine: isMachine, secondFactor: secondFactorOf(record) },
    ...present({ owner: record.owner || undefined, expiresAt, lastUsedAt, lastUsedFrom }),
    ...present({ masked: lastFour === undefined ? undefined : `hlk_…${lastFour}` })
  }
}

/** Who asks; `session` where it is not the key itself that was shown. */
export function sessionView(actor: Actor, key: KeyRecord, session: SessionRecord | undefined): SessionView {
  const { id, tier, note, owner, factors, refusedFrom } = actor
  return {
    ...{ key: id, tier, note, factors, secondFactor: secondFactorOf(key, refusedFrom) },
    ...present({ owner: owner || undefined, refusedFrom, keyExpiresAt: key.expiresAt }),
    ...(session && {
      ...{ id: session.id, createdAt: session.createdAt, expiresAt: session.expiresAt },
      ...present({ idleMs: session.idleMs })
    })
  }
}

function secondFactorOf(
  { hasFactor, needsFactor }: KeyRecord,
  refusedFrom?: Actor['refusedFrom']
): (typeof secondFactorStates)[number] {
  if (hasFactor) return 'on'
  return needsFactor || refusedFrom !== undefined ? 'wanted' : 'none'
}
