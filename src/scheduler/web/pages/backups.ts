// Backups there are, and how the runs went that made them, the failed ones too.

import { html } from 'htm/preact'
import { useState } from 'preact/hooks'
import type { BackupList, BackupRunList, BackupRunView, BackupView } from '../../../protocol/api.ts'
import { useApp } from '../context.ts'
import { bytes, duration, shortId } from '../format.ts'
import { Badge } from '../parts/badge.ts'
import { Ago, Foreign, Heading, Standing } from '../parts/small.ts'
import { type Column, Table } from '../parts/table.ts'
import { usePoll } from '../poll.ts'
import { pathTo, withQuery } from '../routes.ts'
import { listRowsMax } from './operations.ts'

const pageRows = 100
const pollMs = 10_000
const vmName = /^[a-z0-9-]{1,63}$/

export function BackupsPage() {
  const { query, go } = useApp()
  const [limit, setLimit] = useState(pageRows)
  const view = query.get('view') ?? 'backups'
  const vm = query.get('vm') ?? ''
  const change = (fields: Record<string, string>) =>
    go(withQuery('/backups', { view, vm, ...fields }), { replace: true })
  const asked = { vm: vmName.test(vm) ? vm : '', limit }
  const list = usePoll<BackupList>(view === 'backups' ? withQuery('/v1/backups', asked) : undefined, pollMs)
  const runs = usePoll<BackupRunList>(
    view === 'backups'
      ? undefined
      : withQuery('/v1/backup-runs', { ...asked, failed: view === 'failed' || undefined }),
    pollMs
  )
  const polled = view === 'backups' ? list : runs
  return html`
    <${Heading} title="Backups" />
    <div class="filters">
      <div class="tabs" role="group" aria-label="What to list">
        ${tabs.map(([name, label]) => html`<button key=${name} aria-pressed=${view === name} onClick=${() => change({ view: name })}>${label}</button>`)}
      </div>
      <input type="search" placeholder="Whole name of a VM" aria-label="Whole name of a VM" value=${vm}
        onInput=${(event: InputEvent) => change({ vm: (event.target as HTMLInputElement).value })} />
    </div>
    <${Standing} of=${polled} />
    ${view === 'backups' && list.data && html`<${BackupTable} backups=${list.data.backups} />`}
    ${view !== 'backups' && runs.data && html`<${Table} label="Runs" columns=${runColumns} rows=${runs.data.runs} keyOf=${({ operation }: BackupRunView) => operation} empty="There was none." />`}
    ${polled.data?.more && limit < listRowsMax && html`<button onClick=${() => setLimit(Math.min(listRowsMax, limit * 4))}>Show more</button>`}`
}

const tabs = [
  ['backups', 'Backups'],
  ['runs', 'Runs'],
  ['failed', 'Failed runs']
] as const

export function BackupTable({ backups, without }: { backups: readonly BackupView[]; without?: string }) {
  const shown = columns.filter(({ title }) => title !== without)
  return html`<${Table} label="Backups" columns=${shown} rows=${backups} keyOf=${({ snapshot }: BackupView) => snapshot}
    empty=${html`There is none. <code>hostlet vm backup NAME --target REPOSITORY</code> makes one.`} />`
}

const columns: readonly Column<BackupView>[] = [
  { title: 'VM', cell: ({ vm }) => html`<a data-row href=${pathTo('vm', vm)}>${vm}</a>` },
  { title: 'Of', sort: ({ at }) => at, cell: ({ at }) => html`<${Ago} at=${at} />` },
  {
    title: 'Kind',
    cell: ({ kind, origin }) =>
      html`${kind}${origin === 'schedule' && html` <span class="faint">by schedule</span>`}`
  },
  { title: 'Repository', cell: ({ target }) => target },
  {
    title: 'Read',
    class: 'number',
    sort: ({ readBytes }) => readBytes,
    cell: ({ readBytes }) => bytes(readBytes)
  },
  {
    title: 'Stored',
    class: 'number',
    sort: ({ storedBytes }) => storedBytes,
    cell: ({ storedBytes }) => bytes(storedBytes)
  },
  {
    title: 'Took',
    class: 'number',
    sort: ({ durationMs }) => durationMs,
    cell: ({ durationMs }) => duration(durationMs)
  },
  { title: 'Consistency', cell: ({ consistency }) => consistency },
  { title: 'Verified', cell: (backup) => html`<${Verified} backup=${backup} />` },
  { title: 'Snapshot', cell: ({ snapshot }) => html`<code title=${snapshot}>…${shortId(snapshot)}</code>` }
]

function Verified({ backup: { verification } }: { backup: BackupView }) {
  if (verification === undefined) return html`<span class="faint">not yet</span>`
  const { at, outcome, booted, fault } = verification
  return html`<${Badge} state=${outcome === 'good' && booted ? 'good, booted' : outcome} tone=${outcome === 'good' ? 'ok' : 'bad'} title=${fault} />
    <span class="faint"><${Ago} at=${at} /></span>`
}

const runColumns: readonly Column<BackupRunView>[] = [
  { title: 'VM', cell: ({ vm }) => html`<a data-row href=${pathTo('vm', vm)}>${vm}</a>` },
  { title: 'Ended', cell: ({ finishedAt }) => html`<${Ago} at=${finishedAt} />` },
  {
    title: 'Result',
    cell: ({ error }) =>
      html`<${Badge} state=${error === undefined ? 'done' : 'failed'} tone=${error === undefined ? 'ok' : 'bad'} />`
  },
  {
    title: 'Why',
    class: 'wide',
    cell: ({ error }) => error && html`<code>${error.code}</code> <${Foreign} text=${error.message} />`
  },
  { title: 'By', cell: ({ origin }) => origin },
  { title: 'Repository', cell: ({ target }) => target },
  { title: 'Took', class: 'number', cell: ({ startedAt, finishedAt }) => duration(finishedAt - startedAt) },
  { title: 'Next', cell: ({ nextAt }) => nextAt && html`<${Ago} at=${nextAt} />` },
  { title: 'Host', cell: ({ host }) => html`<a href=${pathTo('host', host)}>${host}</a>` }
]
