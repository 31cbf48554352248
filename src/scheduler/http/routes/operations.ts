// Operations: list, look, and wait for their end.

import { Type } from '../../../lib/schema.ts'
import { OperationList, OperationQuery, OperationReply, WaitQuery } from '../../../protocol/api.ts'
import { CommandId, strict } from '../../../protocol/names.ts'
import { viewOf } from '../ask.ts'
import { findCommand, listItemsDefault } from '../lookup.ts'
import { defineRoute } from '../route.ts'

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
  })
]
