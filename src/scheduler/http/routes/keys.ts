// API keys: make one, list them, revoke one.

import { HostletError } from '../../../errors.ts'
import { Type } from '../../../lib/schema.ts'
import {
  CreatedKey,
  CreateKeyRequest,
  KeyList,
  listItemsMax,
  Removed,
  RotateKeyRequest
} from '../../../protocol/api.ts'
import { strict, Uuid } from '../../../protocol/names.ts'
import { keyView } from '../../views/key-view.ts'
import { defineRoute } from '../route.ts'

const KeyParams = Type.Object({ id: Uuid }, strict)
const overlapSecondsDefault = 86_400

export const keyRoutes = [
  defineRoute('POST /v1/keys', {
    tier: 'admin',
    summary: 'Make an API key; its text is shown this once',
    status: 201,
    body: CreateKeyRequest,
    reply: CreatedKey,
    handle: async ({ body }, { keys, log }) => {
      const { tier, note = '', owner, ttlSeconds, machine, secondFactor } = body
      const ttlMs = ttlSeconds === undefined ? undefined : ttlSeconds * 1000
      if (machine === true && secondFactor === true)
        throw new HostletError(
          'E_BAD_REQUEST',
          'a key of a machine has no second factor: leave "machine" or "secondFactor" out.'
        )
      const options = { tier, note, owner, ttlMs, isMachine: machine, needsFactor: secondFactor }
      const { record, text } = await keys.create(options)
      log.info({ key: record.id, tier: record.tier }, 'API key made')
      return { key: keyView(record), text }
    }
  }),

  defineRoute('GET /v1/keys', {
    tier: 'admin',
    summary: 'List API keys, without their texts',
    reply: KeyList,
    handle: async (_call, { store }) => {
      const { items, more } = await store.keys.list(listItemsMax)
      return { keys: items.map(keyView), more }
    }
  }),

  defineRoute('POST /v1/keys/{id}/rotate', {
    tier: 'admin',
    summary: 'A new key in place of one, which stays good for a while beside it',
    status: 201,
    params: KeyParams,
    body: RotateKeyRequest,
    reply: CreatedKey,
    handle: async ({ params, body }, { store, keys, log }) => {
      const old = await store.keys.find(params.id)
      if (old === undefined) throw new HostletError('E_NOT_FOUND', `there is no API key ${params.id}`)
      const { overlapSeconds = overlapSecondsDefault, ttlSeconds } = body
      const ttlMs = ttlSeconds === undefined ? undefined : ttlSeconds * 1000
      const { record, text } = await keys.rotate(old, { overlapMs: overlapSeconds * 1000, ttlMs })
      log.info({ key: record.id, instead: old.id }, 'API key rotated')
      return { key: keyView(record), text }
    }
  }),

  defineRoute('DELETE /v1/keys/{id}', {
    tier: 'admin',
    summary: 'Revoke an API key, and end its sessions; the last admin key stays',
    params: KeyParams,
    reply: Removed,
    handle: async ({ params }, { store, clock, log }) => {
      if (!(await store.keys.remove(params.id, clock.now())))
        throw new HostletError('E_NOT_FOUND', `there is no API key ${params.id}`)
      log.info({ key: params.id }, 'API key revoked')
      return { removed: true as const }
    }
  })
]
