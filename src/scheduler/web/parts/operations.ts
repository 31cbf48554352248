// A list of operations with their progress: as a table, or short where it stands beside other things.

import { html } from 'htm/preact'
import type { OperationView } from '../../../protocol/api.ts'
import { duration } from '../format.ts'
import { pathTo } from '../routes.ts'
import { CancelDeed, isOpen } from './actions.ts'
import { OperationBadge } from './badge.ts'
import { Progress } from './progress.ts'
import { Ago } from './small.ts'
import { type Column, RowLink, Table } from './table.ts'

export interface OperationTableProps {
  readonly operations: readonly OperationView[]
  readonly empty: string
  onDone(): void
  /** On the page of a VM or host its name need not stand in each row. */
  readonly without?: readonly ('VM' | 'Host')[]
}

export function OperationTable({ operations, empty, onDone, without = [] }: OperationTableProps) {
  const columns: readonly Column<OperationView>[] = [
    { title: 'Operation', cell: (of) => html`<${RowLink} href=${pathTo('operation', of.id)}>${of.verb}<//>` },
    {
      title: 'VM',
      class: 'short',
      cell: ({ vm }) => vm && html`<a class="above" href=${pathTo('vm', vm)}>${vm}</a>`
    },
    {
      title: 'Host',
      class: 'short',
      cell: ({ host }) => html`<a class="above" href=${pathTo('host', host)}>${host}</a>`
    },
    { title: 'State', cell: (of) => html`<${OperationBadge} operation=${of} />` },
    { title: 'Progress', class: 'wide', cell: (of) => html`<${Outcome} operation=${of} />` },
    { title: 'Asked', cell: ({ createdAt }) => html`<${Ago} at=${createdAt} />` },
    {
      title: '',
      class: 'actions',
      cell: (of) => html`<span class="above"><${CancelDeed} operation=${of} onDone=${onDone} /></span>`
    }
  ]
  const shown = columns.filter(({ title }) => !(without as readonly string[]).includes(title))
  return html`<${Table} label="Operations" columns=${shown} rows=${operations} keyOf=${({ id }: OperationView) => id} empty=${empty} />`
}

/** While it is under way how far it is, afterwards how it ended. */
export function Outcome({ operation }: { operation: OperationView }) {
  const { error, startedAt, finishedAt, awaits, next } = operation
  if (awaits !== undefined) return html`<span class="cut two" title=${next}>${next}</span>`
  if (isOpen(operation)) return html`<${Progress} operation=${operation} />`
  if (error !== undefined)
    return html`<span class="cut two" title=${error.message}><code>${error.code}</code> <bdi>${error.message}</bdi></span>`
  if (startedAt === undefined || finishedAt === undefined) return null
  return html`<span class="faint">in ${duration(finishedAt - startedAt)}</span>`
}

export function OperationCards({ operations }: { operations: readonly OperationView[] }) {
  return html`<ul class="cards">
    ${operations.map(
      (of) => html`<li key=${of.id}>
        <div><a data-row href=${pathTo('operation', of.id)}>${of.verb}</a> <span class="faint">of</span> <b>${of.vm ?? of.host}</b>
          <${OperationBadge} operation=${of} /></div>
        <${Outcome} operation=${of} />
      </li>`
    )}
  </ul>`
}
