// Join tokens: make one, list them, take one back.

import { randomBytes, randomUUIDv7 } from 'node:crypto'
import { HostletError } from '../../../errors.ts'
import { Type } from '../../../lib/schema.ts'
import { CreatedToken, CreateTokenRequest, listItemsMax, Removed, TokenList } from '../../../protocol/api.ts'
import { encodeJoinToken } from '../../../protocol/join-token.ts'
import { strict, Uuid } from '../../../protocol/names.ts'
import { secretHash } from '../api-keys.ts'
import { defineRoute } from '../route.ts'

const TokenParams = Type.Object({ id: Uuid }, strict)
const ttlSecondsDefault = 3_600

export const tokenRoutes = [
  defineRoute('POST /v1/tokens', {
    tier: 'admin',
    summary: 'Make a join token: it lets one host enroll, once, within its time',
    status: 201,
    body: CreateTokenRequest,
    reply: CreatedToken,
    handle: async ({ body }, { store, clock, authority, addresses, log }) => {
      const token = `hlt_${randomBytes(32).toString('base64url')}`
      const id = randomUUIDv7()
      const createdAt = clock.now()
      const expiresAt = createdAt + (body.ttlSeconds ?? ttlSecondsDefault) * 1000
      await store.tokens.add({ id, hash: secretHash(token), note: body.note ?? '', createdAt, expiresAt })
      log.info({ token: id, expiresAt }, 'join token made')
      const urls = [...addresses()]
      const { caHash } = authority
      const join = encodeJoinToken({ version: 1, urls, caHash, token, expiresAt })
      // On standard input: arguments can be seen by every user of the host.
      const command = `hostlet init --token-file - <<< ${join}`
      return { id, token, join, expiresAt, caHash, url: urls[0] ?? '', command }
    }
  }),

  defineRoute('GET /v1/tokens', {
    tier: 'admin',
    summary: 'List join tokens, newest first',
    reply: TokenList,
    handle: async (_call, { store, clock }) => {
      const { items, more } = await store.tokens.list(listItemsMax, clock.now())
      return { tokens: [...items], more }
    }
  }),

  defineRoute('DELETE /v1/tokens/{id}', {
    tier: 'admin',
    summary: 'Take a join token back; a host that used it stays enrolled',
    params: TokenParams,
    reply: Removed,
    handle: async ({ params }, { store, log }) => {
      if (!(await store.tokens.remove(params.id)))
        throw new HostletError('E_NOT_FOUND', `there is no join token ${params.id}`)
      log.info({ token: params.id }, 'join token removed')
      return { removed: true as const }
    }
  })
]
