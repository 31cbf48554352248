// All hosts with their newest figures: filtered and sorted here, since there are not that many.

import { html } from 'htm/preact'
import { useState } from 'preact/hooks'
import { useApp } from '../context.ts'
import { type HostEntry, memoryOf, poolOf, useFleet } from '../fleet.ts'
import { bytesPerSecond, plural } from '../format.ts'
import { Badge } from '../parts/badge.ts'
import { Ago, Foreign, Heading, Meter, Standing } from '../parts/small.ts'
import { type Column, RowLink, Table } from '../parts/table.ts'
import { pathTo, withQuery } from '../routes.ts'

const shownAtFirst = 200

export function HostsPage() {
  const { go, query } = useApp()
  const { hosts, polled } = useFleet()
  const [isAll, setAll] = useState(false)
  const search = query.get('search') ?? ''
  const state = query.get('state') ?? ''
  const change = (fields: { search?: string; state?: string }) =>
    go(withQuery('/hosts', { search, state, ...fields }), { replace: true })
  const found = hosts.filter(
    ({ host }) =>
      (state === '' ? host.state !== 'revoked' : host.state === state) &&
      `${host.hostname} ${host.id}`.toLowerCase().includes(search.toLowerCase())
  )
  const shown = isAll ? found : found.slice(0, shownAtFirst)
  return html`
    <${Heading} title="Hosts"><span class="faint">${polled.data && plural(found.length, 'host')}</span><//>
    <div class="filters" role="group" aria-label="Which hosts">
      <input type="search" placeholder="Name or id" aria-label="Name or id" value=${search}
        onInput=${(event: InputEvent) => change({ search: (event.target as HTMLInputElement).value })} />
      <select aria-label="State" value=${state} onChange=${(event: Event) => change({ state: (event.target as HTMLSelectElement).value })}>
        <option value="">All but revoked</option>
        ${['connected', 'away', 'new', 'revoked'].map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
      </select>
    </div>
    <${Standing} of=${polled} />
    ${
      polled.data &&
      html`<${Table} label="Hosts" columns=${columns} rows=${shown} keyOf=${({ host }: HostEntry) => host.id}
      empty=${hosts.length === 0 ? html`No host has joined. <code>hostlet host token</code> prints the line that lets one join.` : 'No host is like that.'} />`
    }
    ${shown.length < found.length && html`<button onClick=${() => setAll(true)}>Show all ${found.length}</button>`}`
}

const columns: readonly Column<HostEntry>[] = [
  {
    title: 'Host',
    sort: ({ host }) => host.hostname,
    cell: ({ host }) =>
      html`<${RowLink} href=${pathTo('host', host.id)}><${Foreign} text=${host.hostname} /><//> ${host.id !== host.hostname && html`<span class="faint below">${host.id}</span>`}`
  },
  {
    title: 'State',
    sort: ({ host }) => host.state,
    cell: ({ host }) => html`<span class="badges"><${Badge} state=${host.state} title=${host.reason} />
      ${host.drainingSince !== undefined && html`<${Badge} state="draining" />`}
      ${host.hypervisor === 'away' && html`<${Badge} state="libvirt away" tone="bad" />`}
      ${worst(host.conditions)}</span>`
  },
  { title: 'VMs', class: 'number', sort: ({ host }) => host.vmCount, cell: ({ host }) => host.vmCount },
  {
    title: 'CPU',
    sort: ({ sample }) => sample?.cpuUsedRatio ?? -1,
    cell: ({ sample }) => html`<${Meter} label="CPU" ratio=${sample?.cpuUsedRatio} />`
  },
  {
    title: 'Memory',
    sort: (entry) => memoryOf(entry) ?? -1,
    cell: (entry) => html`<${Meter} label="Memory" ratio=${memoryOf(entry)} />`
  },
  {
    title: 'Disk',
    sort: (entry) => poolOf(entry) ?? -1,
    cell: (entry) => html`<${Meter} label="Disk" ratio=${poolOf(entry)} />`
  },
  {
    title: 'Network',
    class: 'number',
    sort: ({ sample }) => (sample?.receiveBytesPerSecond ?? -1) + (sample?.transmitBytesPerSecond ?? 0),
    cell: ({ sample }) =>
      sample && bytesPerSecond(sample.receiveBytesPerSecond + sample.transmitBytesPerSecond)
  },
  {
    title: 'Heard',
    sort: ({ host }) => host.lastSeenAt ?? 0,
    cell: ({ host }) => html`<${Ago} at=${host.lastSeenAt} />`
  }
]

function worst(conditions: HostEntry['host']['conditions']) {
  const critical = conditions.filter(({ severity }) => severity === 'critical').length
  const warnings = conditions.filter(({ severity }) => severity === 'warning').length
  if (critical > 0) return html`<${Badge} state=${`${critical} critical`} tone="bad" />`
  return warnings > 0 && html`<${Badge} state=${plural(warnings, 'warning')} tone="warning" />`
}
