// Who asked the scheduler for what: the newest calls first. Only for tier admin, as the API has it.

import { html } from 'htm/preact'
import { useState } from 'preact/hooks'
import type { AuditEntry, AuditList } from '../../../protocol/api.ts'
import { mayDo, useApp } from '../context.ts'
import { shortId } from '../format.ts'
import { Badge } from '../parts/badge.ts'
import { Ago, Foreign, Heading, Standing } from '../parts/small.ts'
import { type Column, Table } from '../parts/table.ts'
import { usePoll } from '../poll.ts'
import { pathTo, withQuery } from '../routes.ts'
import { listRowsMax } from './operations.ts'

const pageRows = 100

export function AuditPage() {
  const { session, query, go } = useApp()
  const [limit, setLimit] = useState(pageRows)
  const isAllowed = mayDo(session, 'admin')
  const view = query.get('view') ?? 'all'
  const object = query.get('object') ?? ''
  const change = (fields: Record<string, string>) =>
    go(withQuery('/audit', { view, object, ...fields }), { replace: true })
  const path = withQuery('/v1/audit', {
    newest: true,
    limit,
    object: object.trim(),
    failure: failures[view],
    kind: view === 'all' ? undefined : 'api'
  })
  const polled = usePoll<AuditList>(isAllowed ? path : undefined)
  if (!isAllowed)
    return html`<${Heading} title="Audit" /><p class="note">The audit is shown to keys of tier admin. Yours is of tier ${session.tier}.</p>`
  const entries = polled.data?.entries.toReversed() ?? []
  return html`
    <${Heading} title="Audit" />
    <p class="lead">Calls that changed something, and calls that were refused or failed. Each entry holds the hash of the one before: <code>hostlet audit verify</code> proves it.</p>
    <div class="filters">
      <div class="tabs" role="group" aria-label="Which calls">
        ${tabs.map(([name, label]) => html`<button key=${name} aria-pressed=${view === name} onClick=${() => change({ view: name })}>${label}</button>`)}
      </div>
      <input type="search" placeholder="Host, VM or key" aria-label="Host, VM or key" value=${object}
        onInput=${(event: InputEvent) => change({ object: (event.target as HTMLInputElement).value })} />
    </div>
    <${Standing} of=${polled} />
    ${polled.data && html`<${Table} label="Audit" columns=${columns} rows=${entries} keyOf=${({ seq }: AuditEntry) => String(seq)} empty="There is no such entry." />`}
    ${polled.data?.more && limit < listRowsMax && html`<button onClick=${() => setLimit(Math.min(listRowsMax, limit * 4))}>Show more</button>`}`
}

const tabs = [
  ['all', 'All'],
  ['calls', 'Calls'],
  ['refused', 'Refused'],
  ['failed', 'Failed']
] as const

const failures: Readonly<Record<string, string>> = { refused: 'refused', failed: 'other' }

/** The fields of an entry depend on its kind. */
function text(entry: AuditEntry, field: string): string {
  const value = (entry as Readonly<Record<string, unknown>>)[field]
  return typeof value === 'string' || typeof value === 'number' ? String(value) : ''
}

const columns: readonly Column<AuditEntry>[] = [
  { title: 'When', cell: ({ at }) => html`<${Ago} at=${at} />` },
  {
    title: 'Who',
    class: 'person',
    cell: (
      entry
    ) => html`<${Foreign} text=${text(entry, 'note') || text(entry, 'key') || (entry.kind === 'api' ? 'without a key' : 'scheduler')} />
      <span class="faint below"><${Foreign} text=${[text(entry, 'tier'), text(entry, 'from')].filter(Boolean).join(' from ')} /></span>`
  },
  {
    title: 'What',
    class: 'wide',
    cell: (entry) =>
      entry.kind === 'api'
        ? html`<code>${text(entry, 'method')} ${text(entry, 'route')}</code>`
        : html`<code>${entry.kind}</code> <${Foreign} text=${text(entry, 'message')} />`
  },
  { title: 'Of', cell: (entry) => html`<${Subject} name=${text(entry, 'object') || text(entry, 'host')} />` },
  { title: 'Result', cell: (entry) => html`<${Result} entry=${entry} />` },
  {
    title: 'Operation',
    cell: (entry) =>
      text(entry, 'operation') &&
      html`<a data-row href=${pathTo('operation', text(entry, 'operation'))}>…${text(entry, 'operation').slice(-6)}</a>`
  }
]

/** Keys, tokens and operations have ids that nobody reads: the end of them is enough to tell them apart. */
function Subject({ name }: { name: string }) {
  if (!/^[0-9a-f]{8}-[0-9a-f-]{27}$/.test(name)) return html`<${Foreign} text=${name} />`
  return html`<code title=${name}>…${shortId(name)}</code>`
}

function Result({ entry }: { entry: AuditEntry }) {
  const status = Number(text(entry, 'status'))
  if (!status) return null
  const words = [status, text(entry, 'code'), text(entry, 'reason')].filter(Boolean).join(' ')
  return html`<${Badge} state=${words} tone=${status < 400 ? 'ok' : status === 401 || status === 403 ? 'bad' : 'warning'} />`
}
