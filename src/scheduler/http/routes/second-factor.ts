// Second factors: set up one's own, new recovery codes, and removal by an admin.

import { HostletError } from '../../../errors.ts'
import { Type } from '../../../lib/schema.ts'
import {
  BeginFactorRequest,
  BegunFactor,
  ConfirmFactorRequest,
  RecoveryCodes,
  Removed
} from '../../../protocol/api.ts'
import { strict, Uuid } from '../../../protocol/names.ts'
import type { KeyRecord } from '../../store/store.ts'
import { type Actor, refusal } from '../api-keys.ts'
import { type Call, defineRoute, type Services } from '../route.ts'

const KeyParams = Type.Object({ id: Uuid }, strict)

export const secondFactorRoutes = [
  defineRoute('POST /v1/second-factor', {
    tier: 'own',
    summary: 'Begin a second factor of one’s own key; it counts once it is confirmed',
    status: 201,
    body: BeginFactorRequest,
    reply: BegunFactor,
    handle: async (call, services) => {
      const { key, text } = await ownKey(call, services)
      const begun = await services.factors.begin(key, text)
      services.log.info({ key: key.id }, 'second factor begun')
      return begun
    }
  }),

  defineRoute('POST /v1/second-factor/confirm', {
    tier: 'own',
    summary: 'Confirm it with a first code; from then on the key alone only opens sessions',
    body: ConfirmFactorRequest,
    reply: RecoveryCodes,
    handle: async (call, services) => {
      const { key, text } = await ownKey(call, services)
      const recoveryCodes = await services.factors.confirm(key, text, call.body.code)
      services.log.info({ key: key.id }, 'second factor confirmed')
      return { recoveryCodes: [...recoveryCodes] }
    }
  }),

  defineRoute('POST /v1/second-factor/recovery-codes', {
    tier: 'own',
    summary: 'New recovery codes in place of all before; takes a session with two factors',
    body: Type.Object({}, strict),
    reply: RecoveryCodes,
    handle: async ({ actor }, { factors, log }) => {
      if (actor === undefined || actor.factors < 2)
        throw refusal('second-factor', 'this needs a session with a second factor. Use "hostlet login".')
      log.info({ key: actor.id }, 'recovery codes renewed')
      return { recoveryCodes: [...(await factors.renewRecoveryCodes(actor.id))] }
    }
  }),

  defineRoute('DELETE /v1/keys/{id}/second-factor', {
    tier: 'admin',
    summary: 'Remove the second factor of a key, for one whose device is lost; its sessions end',
    params: KeyParams,
    reply: Removed,
    handle: async ({ params, actor }, { store, log }) => {
      if (!(await store.secondFactors.remove(params.id)))
        throw new HostletError('E_NOT_FOUND', `there is no second factor of an API key ${params.id}`)
      log.warn({ key: params.id, by: actor?.id }, 'second factor removed')
      return { removed: true as const }
    }
  })
]

/** The asker's key and its text, which a session has to bring along: the secret opens with nothing else. */
async function ownKey(
  { actor, shownKey, body }: Pick<Call<unknown, unknown, { key?: string }>, 'actor' | 'shownKey' | 'body'>,
  { keys }: Services
): Promise<{ key: KeyRecord; text: string }> {
  const text = body.key ?? shownKey
  if (text === undefined)
    throw new HostletError('E_BAD_REQUEST', 'a session has to give its key as "key" in the body for this.')
  const key = await keys.find(text)
  assertOwn(key, actor)
  if (key.isMachine)
    throw new HostletError(
      'E_BAD_REQUEST',
      `the API key ${key.id} is one of a machine, which has no second factor.`
    )
  return { key, text }
}

function assertOwn({ id }: KeyRecord, actor: Actor | undefined): void {
  if (id !== actor?.id)
    throw new HostletError('E_BAD_REQUEST', 'the key in the body is not the one of this session.')
}
