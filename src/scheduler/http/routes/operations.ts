// Operations: list, look, wait for their end, and cancel.

import { HostletError } from '../../../errors.ts'
import { Type } from '../../../lib/schema.ts'
import {
  EmptyRequest,
  NewApproval,
  OperationList,
  OperationQuery,
  OperationReply,
  operationStatesEnded,
  SignedCommandReply,
  WaitQuery
} from '../../../protocol/api.ts'
import { CommandId, strict } from '../../../protocol/names.ts'
import { consequenceOfEnd } from '../../consequences.ts'
import type { CommandRecord } from '../../store/store.ts'
import { ask, viewOf } from '../ask.ts'
import { findCommand, findHost, listItemsDefault } from '../lookup.ts'
import { defineRoute, type Services } from '../route.ts'

const OperationParams = Type.Object({ id: CommandId }, strict)
const waitMsDefault = 30_000

export const operationRoutes = [
  defineRoute('GET /v1/operations', {
    tier: 'read',
    summary: 'List operations, newest first',
    query: OperationQuery,
    reply: OperationList,
    handle: async ({ query: { limit, ...filter } }, { store }) => {
      const { items, more } = await store.commands.list(filter, limit ?? listItemsDefault)
      return { operations: await Promise.all(items.map((record) => viewOf(store, record))), more }
    }
  }),

  defineRoute('GET /v1/operations/{id}', {
    tier: 'read',
    summary: 'Show one operation',
    params: OperationParams,
    reply: OperationReply,
    handle: async ({ params }, { store }) => ({
      operation: await viewOf(store, await findCommand(store, params.id))
    })
  }),

  defineRoute('GET /v1/operations/{id}/wait', {
    tier: 'read',
    summary: 'Wait until an operation has ended or the time is over, then show it',
    params: OperationParams,
    query: WaitQuery,
    reply: OperationReply,
    handle: async ({ params, query, signal }, { store, commands }) => {
      const ended = await commands.wait(params.id, query.timeoutMs ?? waitMsDefault, signal)
      return { operation: await viewOf(store, ended ?? (await findCommand(store, params.id))) }
    }
  }),

  defineRoute('GET /v1/operations/{id}/command', {
    tier: 'manage',
    summary: 'The command of an operation as it was signed, and who has approved it',
    params: OperationParams,
    reply: SignedCommandReply,
    handle: async ({ params }, { store }) => signedCommand(store, await findCommand(store, params.id))
  }),

  defineRoute('POST /v1/operations/{id}/approvals', {
    tier: 'manage',
    summary: 'Hand in an approval, which goes to the host with the command',
    params: OperationParams,
    body: NewApproval,
    reply: SignedCommandReply,
    handle: async ({ params, body, actor }, { store, commands }) => {
      await commands.approve(await findCommand(store, params.id), body.approval, actor?.id ?? '')
      return signedCommand(store, await findCommand(store, params.id))
    }
  }),

  defineRoute('POST /v1/operations/{id}/cancel', {
    tier: 'manage',
    summary:
      'Cancel an operation: at once where its host has not got it yet, which answers with itself; else by a command to its host',
    status: 202,
    dryRun: false,
    params: OperationParams,
    body: EmptyRequest,
    reply: OperationReply,
    handle: async ({ params: { id }, repeatable }, services) => {
      const { store } = services
      const earlier = repeatable && (await store.commands.repeated(repeatable))
      const record = await findCommand(store, id)
      if (earlier === undefined && (await cancelledHere(services, record)))
        return { operation: await viewOf(store, await findCommand(store, id)) }
      return ask(services, repeatable, async () => ({
        verb: 'operation.cancel',
        host: await findHost(store, record.host),
        about: record.vm ?? record.about,
        arguments: { operation: id },
        intent: { kind: 'none' }
      }))
    }
  })
]

async function signedCommand(store: Services['store'], record: CommandRecord) {
  const approvals = await store.approvals.of(record.id)
  return {
    operation: await viewOf(store, record),
    ...(record.jws !== undefined && { command: record.jws }),
    approvals: approvals.map(({ approver, receivedAt }) => ({ approver, receivedAt }))
  }
}

/** Throws E_CONFLICT for an operation that has ended. False where its host may have it: only that can say what was done. */
async function cancelledHere({ store, clock, log }: Services, record: CommandRecord): Promise<boolean> {
  const { id, verb, host, state } = record
  if (operationStatesEnded.includes(state))
    throw new HostletError(
      'E_CONFLICT',
      `operation ${id} has ended: it is ${state}. See "hostlet op show ${id}".`
    )
  if (state !== 'waiting') return false
  const error = {
    code: 'E_CANCELLED',
    message: `${verb} was cancelled before host ${host} took it: nothing was done.`
  } as const
  if (!(await store.commands.failed(record, error, clock.now(), consequenceOfEnd(verb, 'failed'))))
    return false
  log.info({ command: id, host }, 'operation cancelled before it was sent')
  return true
}
