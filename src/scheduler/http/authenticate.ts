// Who asks: a key or a session in the Authorization header, or a browser's session in its cookie, which no other site may use.

import type { IncomingHttpHeaders } from 'node:http'
import { backgroundHeader, requestHeader, sessionCookie } from '../../protocol/api.ts'
import { type Actor, type ApiKeys, refusal } from './api-keys.ts'
import type { Sessions, SessionUse } from './sessions.ts'

/** What a request shows of its asker, however it came: a call of the API, or the upgrade to a socket. */
export interface Asking {
  readonly method: string
  readonly headers: IncomingHttpHeaders
  readonly address: string
  /** Nobody wished for this just now: the session is not used by it. */
  readonly isBackground?: boolean
}

export interface Doors {
  readonly keys: ApiKeys
  readonly sessions: Sessions
}

/** Throws E_AUTH; `details.reason` says why. */
export async function authenticate(asking: Asking, { keys, sessions }: Doors): Promise<Actor> {
  const { headers, address } = asking
  if (headers.authorization !== undefined) {
    const text = bearerOf(headers.authorization)
    if (text?.startsWith('hls_') === true) return sessions.identify(text, address, useOf(asking))
    const key = await keys.find(text ?? '')
    if (asking.isBackground !== true) await keys.noteUse(key, address)
    if (key.hasFactor)
      throw refusal(
        'key-alone',
        'this API key has a second factor: alone it only opens sessions. Sign in with "hostlet login".'
      )
    return sessions.actorOf(key)
  }
  const cookie = sessionCookieOf(headers.cookie)
  if (cookie === undefined)
    throw refusal('missing-key', 'this needs an API key: send it as "Authorization: Bearer hlk_…"')
  assertFromOwnPage(asking)
  return sessions.identify(cookie, address, useOf(asking))
}

function useOf({ method, headers, isBackground }: Asking): SessionUse {
  return { isBackground: isBackground ?? (method === 'GET' && headers[backgroundHeader] === '1') }
}

/** The key itself, where that is what was shown. */
export function shownKey({ authorization }: IncomingHttpHeaders): string | undefined {
  const text = authorization === undefined ? undefined : bearerOf(authorization)
  return text?.startsWith('hlk_') === true ? text : undefined
}

/**
 * Throws E_AUTH where a browser says that another site's page asks for a change: it says so of its own accord
 * (w3.org/TR/fetch-metadata), and nothing else sends the header.
 */
export function assertNotFromOtherSite({ method, headers }: Asking): void {
  const site = headers['sec-fetch-site']
  if (method === 'GET' || site === undefined || site === 'same-origin') return
  throw crossSite()
}

/**
 * A cookie comes along whoever made the browser ask. A change also needs a header that no form can send and no other origin
 * may; a socket, to which no header can be given, the origin of our own pages.
 */
function assertFromOwnPage(asking: Asking): void {
  const { method, headers } = asking
  assertNotFromOtherSite(asking)
  if (method !== 'GET' && headers[requestHeader] !== '1')
    throw refusal(
      'cross-site',
      `a request with a session cookie needs the header "${requestHeader}: 1", unless it is a GET.`
    )
  const site = headers['sec-fetch-site']
  if (site === 'cross-site' || site === 'same-site') throw crossSite()
  if (headers.upgrade !== undefined && headers.origin !== `https://${headers.host ?? ''}`) throw crossSite()
}

function crossSite() {
  return refusal('cross-site', 'a page of another site asked for this. Open the dashboard itself.')
}

function bearerOf(authorization: string): string | undefined {
  return /^Bearer +(hl[ks]_[A-Za-z0-9_-]{43}) *$/i.exec(authorization)?.[1]
}

/** Undefined where there is none, or two: then nobody knows whose the second is. */
function sessionCookieOf(header: string | undefined): string | undefined {
  const start = `${sessionCookie}=`
  const found = (header ?? '')
    .split(';')
    .map((part) => part.trim())
    .filter((part) => part.startsWith(start))
  const [only, ...others] = found
  const text = only?.slice(start.length)
  return others.length === 0 && text !== undefined && /^hls_[A-Za-z0-9_-]{43}$/.test(text) ? text : undefined
}
