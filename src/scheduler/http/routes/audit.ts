// Audit: the calls of this API, and what the scheduler holds of the trails of hosts.

import type { ChainEntry } from '../../../lib/chain.ts'
import { type CsvColumn, csvRow, csvTitles, csvType } from '../../../lib/csv.ts'
import { AuditList, AuditQuery, HostAudit, Removed } from '../../../protocol/api.ts'
import { present } from '../../views/operation-view.ts'
import { findHost, listItemsDefault } from '../lookup.ts'
import { defineRoute, TextAnswer } from '../route.ts'
import { HostParams } from './hosts.ts'

export const auditRoutes = [
  defineRoute('GET /v1/audit', {
    tier: 'admin',
    summary: 'Calls of this API after a sequence number, oldest first; as CSV with "Accept: text/csv"',
    query: AuditQuery,
    reply: AuditList,
    handle: async ({ query, accept }, { store }) => {
      const { after = 0, limit = listItemsDefault, sinceMs: since, untilMs: until, format, ...filter } = query
      const { items, more } = await store.audit.list({ ...filter, after, since, until }, limit)
      if (format === 'csv' || (format === undefined && accept?.startsWith('text/csv') === true))
        return new TextAnswer(csvType, csvTitles(columns) + items.map((row) => csvRow(columns, row)).join(''))
      const entries = items.map((entry) => ({ ...entry }))
      return { entries, last: items.at(-1)?.seq ?? after, more, ...(await store.audit.ends()) }
    }
  }),

  defineRoute('GET /v1/hosts/{id}/audit', {
    tier: 'read',
    summary: 'The heads of a host’s audit trail that were countersigned, newest first',
    params: HostParams,
    reply: HostAudit,
    handle: async ({ params: { id } }, { store }) => {
      await findHost(store, id)
      const fault = await store.trails.fault(id)
      return { host: id, heads: [...(await store.trails.heads(id))], ...present({ fault }) }
    }
  }),

  defineRoute('DELETE /v1/hosts/{id}/audit', {
    tier: 'admin',
    summary: 'Forget the heads of a host’s audit trail, and take it as it is from now on',
    params: HostParams,
    reply: Removed,
    handle: async ({ params: { id } }, { store, log }) => {
      await findHost(store, id)
      await store.trails.reset(id)
      log.warn({ host: id }, 'audit trail of a host is taken as it is from now on')
      return { removed: true as const }
    }
  })
]

const columns: readonly CsvColumn<ChainEntry>[] = [
  { title: 'seq', cell: ({ seq }) => seq },
  { title: 'at', cell: ({ at }) => new Date(at).toISOString() },
  ...(
    [
      ...['kind', 'request', 'key', 'note', 'tier', 'owner', 'session', 'factors', 'from', 'method', 'route'],
      ...['object', 'status', 'code', 'reason', 'operation', 'durationMs', 'message', 'prev', 'hash']
    ] as const
  ).map((title) => ({
    title,
    cell: (entry: ChainEntry) => {
      const value = entry[title]
      return typeof value === 'number' ? value : value === undefined ? undefined : String(value)
    }
  }))
]
