// The fleet at a glance: what needs somebody, what is under way, how full hosts are, and what happened last.

import { html } from 'htm/preact'
import type { ComponentChildren } from 'preact'
import type { EventList, OperationList, VmList } from '../../../protocol/api.ts'
import { type HostEntry, memoryOf, poolOf, useFleet } from '../fleet.ts'
import { count, plural } from '../format.ts'
import { Badge, VmBadge } from '../parts/badge.ts'
import { OperationCards } from '../parts/operations.ts'
import { Ago, Foreign, Heading, Meter, Panel, Standing } from '../parts/small.ts'
import { type Column, RowLink, Table } from '../parts/table.ts'
import { listMs, liveMs, usePoll } from '../poll.ts'
import { pathTo } from '../routes.ts'

const shownMax = 6

export function OverviewPage() {
  const { polled } = useFleet()
  return html`
    <${Heading} title="Overview" />
    <${Standing} of=${polled} />
    <${Tiles} />
    <div class="columns">
      <div><${Attention} /><${FullestHosts} /></div>
      <div><${UnderWay} /><${LatestEvents} /></div>
    </div>`
}

function Tiles() {
  const { status, conditions } = useFleet()
  if (status === undefined) return null
  const { hosts, vms, operations } = status
  const critical = conditions.filter(({ severity }) => severity === 'critical').length
  const warnings = conditions.filter(({ severity }) => severity === 'warning').length
  return html`<ul class="tiles">
    <${Tile} href="/hosts" label="Hosts" value=${count(hosts.connected)} of=${hosts.total}
      text=${hosts.away === 0 ? 'all connected' : `${hosts.away} away`} tone=${hosts.away === 0 ? 'ok' : 'bad'} />
    <${Tile} href="/vms" label="VMs running" value=${count(vms.running)} of=${vms.total}
      text=${plural(vms.total - vms.running, 'other')} tone="quiet" />
    <${Tile} href="/operations" label="Operations under way" value=${count(operations.open)}
      text=${operations.open === 0 ? 'nothing to wait for' : 'see how far they are'} tone="quiet" />
    <${Tile} href="/conditions" label="Conditions" value=${count(critical + warnings)}
      text=${critical + warnings === 0 ? 'nothing is wrong' : `${critical} critical, ${plural(warnings, 'warning')}`}
      tone=${critical > 0 ? 'bad' : warnings > 0 ? 'warning' : 'ok'} />
  </ul>`
}

interface TileProps {
  readonly href: string
  readonly label: string
  readonly value: ComponentChildren
  readonly of?: number
  readonly text: string
  readonly tone: string
}

function Tile({ href, label, value, of, text, tone }: TileProps) {
  return html`<li><a class="tile" href=${href}>
    <span class="tile-label">${label}</span>
    <span class="tile-value">${value}${of !== undefined && html`<small> of ${count(of)}</small>`}</span>
    <span class=${`tile-text ${tone}`}>${text}</span>
  </a></li>`
}

function Attention() {
  const { conditions } = useFleet()
  const amiss = usePoll<VmList>(`/v1/vms?amiss=true&limit=${shownMax}`)
  const grave = conditions.filter(({ severity }) => severity !== 'info')
  const vms = amiss.data?.vms ?? []
  const all = html`<a href="/vms?amiss=true">VMs amiss</a>`
  return html`<${Panel} title="Needs attention" aside=${all}>
    <${Standing} of=${amiss} />
    ${amiss.data && grave.length + vms.length === 0 && html`<p class="note faint">Nothing. All hosts and VMs are as they should be.</p>`}
    <ul class="cards">
      ${grave.slice(0, shownMax).map(
        ({
          id,
          severity,
          message,
          since,
          host
        }) => html`<li key=${`${host.id} ${id}`} class=${`edge ${severity}`}>
          <div><${Badge} state=${severity} /> <a data-row href=${pathTo('host', host.id)}><${Foreign} text=${host.hostname} /></a>
            <code>${id}</code> <span class="faint end"><${Ago} at=${since} /></span></div>
          <p class="cut two"><${Foreign} text=${message} /></p>
        </li>`
      )}
      ${vms.map(
        (vm) => html`<li key=${vm.name} class="edge warning">
          <div><a data-row href=${pathTo('vm', vm.name)}>${vm.name}</a> <${VmBadge} vm=${vm} /></div>
          <p class="cut"><${Foreign} text=${vm.drift?.[0]?.title ?? vm.reason} /></p>
        </li>`
      )}
    </ul>
    ${grave.length > shownMax && html`<p class="note"><a href="/conditions">${plural(grave.length - shownMax, 'more condition')}</a></p>`}
  <//>`
}

function UnderWay() {
  const open = usePoll<OperationList>(`/v1/operations?open=true&limit=${shownMax}`, liveMs)
  const failed = usePoll<OperationList>('/v1/operations?state=failed&limit=3', listMs)
  const operations = open.data?.operations ?? []
  const failures = failed.data?.operations ?? []
  return html`<${Panel} title="Under way" aside=${html`<a href="/operations">All operations</a>`}>
    <${Standing} of=${open} />
    ${open.data && operations.length === 0 && html`<p class="note faint">No operation is under way.</p>`}
    <${OperationCards} operations=${operations} />
    ${failures.length > 0 && html`<h3>Failed last</h3><${OperationCards} operations=${failures} />`}
  <//>`
}

const hostColumns: readonly Column<HostEntry>[] = [
  {
    title: 'Host',
    cell: ({ host }) =>
      html`<${RowLink} href=${pathTo('host', host.id)}><${Foreign} text=${host.hostname} /><//>`
  },
  { title: 'CPU', cell: ({ sample }) => html`<${Meter} label="CPU" ratio=${sample?.cpuUsedRatio} />` },
  { title: 'Memory', cell: (entry) => html`<${Meter} label="Memory" ratio=${memoryOf(entry)} />` },
  { title: 'Disk', cell: (entry) => html`<${Meter} label="Disk" ratio=${poolOf(entry)} />` }
]

function FullestHosts() {
  const { hosts, polled } = useFleet()
  const load = (entry: HostEntry) =>
    Math.max(entry.sample?.cpuUsedRatio ?? 0, memoryOf(entry) ?? 0, poolOf(entry) ?? 0)
  const fullest = hosts
    .filter(({ host, sample }) => host.state === 'connected' && sample !== undefined)
    .sort((left, right) => load(right) - load(left))
    .slice(0, shownMax)
  return html`<${Panel} title="Fullest hosts" aside=${html`<a href="/hosts">All hosts</a>`}>
    ${polled.data && html`<${Table} label="Fullest hosts" columns=${hostColumns} rows=${fullest} keyOf=${({ host }: HostEntry) => host.id} empty="No host has sent samples yet." />`}
  <//>`
}

function LatestEvents() {
  const events = usePoll<EventList>('/v1/events?newest=true&limit=8')
  return html`<${Panel} title="Latest events">
    <${Standing} of=${events} />
    ${events.data?.events.length === 0 && html`<p class="note faint">Nothing has happened to a VM yet.</p>`}
    <ul class="lines">
      ${events.data?.events.toReversed().map(
        ({ sequence, at, vm, host, kind, detail }) => html`<li key=${sequence}>
          <span class="faint when"><${Ago} at=${at} /></span>
          <a href=${pathTo('vm', vm)}>${vm}</a> ${kind}
          <span class="faint cut"><${Foreign} text=${detail} /> on ${host}</span>
        </li>`
      )}
    </ul>
  <//>`
}
