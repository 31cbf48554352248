// The asker's own session: open one with a key, look at it, end it.

import { HostletError } from '../../../errors.ts'
import {
  OpenedSession,
  OpenSessionRequest,
  Removed,
  SessionView,
  sessionCookie
} from '../../../protocol/api.ts'
import type { SessionRecord } from '../../store/session-store.ts'
import type { KeyRecord } from '../../store/store.ts'
import { sessionView } from '../../views/key-view.ts'
import { present } from '../../views/operation-view.ts'
import { refusal } from '../api-keys.ts'
import { type Call, defineRoute, HeadedAnswer, type Services } from '../route.ts'

export const sessionRoutes = [
  defineRoute('POST /v1/session', {
    tier: 'open',
    summary: 'Open a session with an API key; it comes as a cookie, or as a token where that is asked for',
    status: 201,
    body: OpenSessionRequest,
    reply: OpenedSession,
    handle: async ({ body, address, tellActor }, services) => {
      const { keys, sessions, clock, log, config } = services
      const key = await keys.find(body.key)
      tellActor(sessions.actorOf(key))
      const { factors, recoveryCodesLeft } = await showFactors(body, key, services)
      const kind = body.token === true ? 'token' : 'cookie'
      const remember = body.remember === true
      const { record, text } = await sessions.open({ key, factors, kind, remember, address })
      await keys.noteUse(key, address)
      tellActor(sessions.actorOf(key, record))
      log.info({ key: key.id, session: record.id, factors, remote: address }, 'session opened')
      const view = {
        ...sessionView(sessions.actorOf(key, record), key, record),
        consoleTier: config.console.tier,
        ...present({ recoveryCodesLeft })
      }
      return kind === 'token'
        ? { ...view, token: text }
        : new HeadedAnswer(view, { 'set-cookie': setCookie(text, record.expiresAt - clock.now()) })
    }
  }),

  defineRoute('GET /v1/session', {
    tier: 'own',
    summary: 'Who asks, with what tier, until when',
    reply: SessionView,
    handle: async (call, services) => {
      const { actor, key, session } = await own(call, services)
      return { ...sessionView(actor, key, session), consoleTier: services.config.console.tier }
    }
  }),

  defineRoute('DELETE /v1/session', {
    tier: 'own',
    summary: 'End the session; its token is good for nothing any more',
    reply: Removed,
    handle: async (call, { store, log }) => {
      const session = call.actor?.session
      if (session === undefined)
        throw new HostletError(
          'E_BAD_REQUEST',
          'this was asked with an API key, not with a session: there is none to end. Revoke a key with "hostlet key rm".'
        )
      await store.sessions.remove(session)
      log.info({ key: call.actor?.id, session }, 'session ended')
      return new HeadedAnswer({ removed: true as const }, { 'set-cookie': setCookie('', 0) })
    }
  })
]

/** What was shown besides the key. Throws E_AUTH where more is needed, as SecondFactors.check does for a code. */
async function showFactors(
  { key: text, code }: OpenSessionRequest,
  key: KeyRecord,
  { factors, log }: Services
): Promise<{ factors: 1 | 2; recoveryCodesLeft?: number }> {
  if (key.isMachine)
    throw refusal('machine-key', 'this API key is one of a machine: it opens no session. Use it as it is.')
  if (!key.hasFactor && code !== undefined)
    throw new HostletError('E_BAD_REQUEST', 'this API key has no second factor. Leave the code out.')
  if (!key.hasFactor) return { factors: 1 }
  if (code === undefined)
    throw refusal('code-needed', 'this API key has a second factor. Give the code that your app shows.')
  const used = await factors.check(key, text, code)
  if (used.recoveryCodesLeft !== undefined)
    log.warn({ key: key.id, left: used.recoveryCodesLeft }, 'recovery code used')
  return { factors: 2, ...used }
}

/** The asker's key, and its session where it has one. */
async function own({ actor }: Call<unknown, unknown, unknown>, { store }: Services) {
  const key = actor && (await store.keys.find(actor.id))
  if (actor === undefined || key === undefined)
    throw new HostletError('E_NOT_FOUND', 'the key of this session was revoked')
  const session: SessionRecord | undefined =
    actor.session === undefined ? undefined : await store.sessions.find(actor.session)
  return { actor, key, session }
}

/** `__Host-`: this host alone, over TLS alone, for the whole of it (RFC 6265bis, 4.1.3.2). */
function setCookie(text: string, lastsMs: number): string {
  const seconds = Math.max(0, Math.floor(lastsMs / 1000))
  return `${sessionCookie}=${text}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=${seconds}`
}
