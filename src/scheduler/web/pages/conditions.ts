// What hosts say is wrong, the worst first.

import { html } from 'htm/preact'
import { type HostCondition, useFleet } from '../fleet.ts'
import { plural } from '../format.ts'
import { Badge } from '../parts/badge.ts'
import { Ago, Foreign, Heading, Standing } from '../parts/small.ts'
import { type Column, RowLink, Table } from '../parts/table.ts'
import { pathTo } from '../routes.ts'

export function ConditionsPage() {
  const { conditions, polled } = useFleet()
  return html`
    <${Heading} title="Conditions"><span class="faint">${polled.data && plural(conditions.length, 'condition')}</span><//>
    <p class="lead">What hosts have found about themselves, and the scheduler about them. Each says what to do; it goes when it is over.</p>
    <${Standing} of=${polled} />
    ${polled.data && html`<${Table} label="Conditions" columns=${columns} rows=${conditions} keyOf=${({ host, id }: HostCondition) => `${host.id} ${id}`} empty="Nothing is wrong." />`}`
}

export const conditionColumns: readonly Column<HostCondition>[] = [
  { title: 'Severity', cell: ({ severity }) => html`<${Badge} state=${severity} />` },
  { title: 'Condition', cell: ({ id }) => html`<code>${id}</code>` },
  {
    title: 'What and what to do',
    class: 'wide',
    cell: ({ message }) => html`<${Foreign} text=${message} />`
  },
  { title: 'Since', cell: ({ since }) => html`<${Ago} at=${since} />` }
]

const columns: readonly Column<HostCondition>[] = [
  ...conditionColumns.slice(0, 1),
  {
    title: 'Host',
    cell: ({ host }) =>
      html`<${RowLink} href=${pathTo('host', host.id)}><${Foreign} text=${host.hostname} /><//>`
  },
  ...conditionColumns.slice(1)
]
