// One host: how it is, how loaded, what runs on it, and what it was asked to do.

import { html } from 'htm/preact'
import { useState } from 'preact/hooks'
import type { HostDetail, HostView, OperationList } from '../../../protocol/api.ts'
import type { ForeignDomain } from '../../../protocol/vm.ts'
import type { HostCondition } from '../fleet.ts'
import { bytes, duration, moment } from '../format.ts'
import { HostDeeds } from '../parts/actions.ts'
import { Badge } from '../parts/badge.ts'
import { HostCharts } from '../parts/charts.ts'
import { OperationTable } from '../parts/operations.ts'
import { Ago, Facts, Foreign, Heading, Panel, Standing } from '../parts/small.ts'
import { type Column, Table } from '../parts/table.ts'
import { VmTable } from '../parts/vm-table.ts'
import { listMs, usePoll } from '../poll.ts'
import { withQuery } from '../routes.ts'
import { conditionColumns } from './conditions.ts'

const operationRows = 8
const vmRows = 50

export function HostPage({ name: id }: { name: string }) {
  const detail = usePoll<HostDetail>(`/v1/hosts/${encodeURIComponent(id)}`)
  const operations = usePoll<OperationList>(
    withQuery('/v1/operations', { host: id, limit: operationRows }),
    listMs
  )
  const [trail, setTrail] = useState<readonly string[]>([])
  const host = detail.data?.host
  if (detail.data === undefined || host === undefined)
    return html`<${Heading} title=${`Host ${id}`} /><${Standing} of=${detail} />`
  const refresh = () => {
    detail.refresh()
    operations.refresh()
  }
  return html`
    <${Heading} title=${host.hostname} aside=${html`<${HostDeeds} host=${host} onDone=${refresh} />`}>
      <span class="badges"><${Badge} state=${host.state} />
        ${host.drainingSince !== undefined && html`<${Badge} state="draining" title=${`since ${moment(host.drainingSince)}`} />`}
        ${host.hypervisor === 'away' && html`<${Badge} state="libvirt away" tone="bad" />`}</span>
    <//>
    <p class="lead"><${Foreign} text=${host.reason} /></p>
    <${Standing} of=${detail} />
    ${
      host.conditions.length > 0 &&
      html`<${Panel} title="Conditions">
      <${Table} label="Conditions" columns=${conditionColumns} rows=${host.conditions.map((condition) => ({ ...condition, host }))} keyOf=${({ id }: HostCondition) => id} empty="" />
    <//>`
    }
    <${HostCharts} id=${id} memoryBytes=${host.facts?.memoryBytes} />
    <${Panel} title="VMs" aside=${html`<a href=${withQuery('/vms', { host: id })}>Search them</a>`}>
      <${VmTable} filter=${{ host: id }} trail=${trail} limit=${vmRows} empty="No VM is on this host." onTrail=${setTrail} />
    <//>
    <${Panel} title="Operations" aside=${html`<a href=${withQuery('/operations', { host: id })}>All of this host</a>`}>
      <${Standing} of=${operations} />
      ${operations.data && html`<${OperationTable} operations=${operations.data.operations} without=${['Host']} empty="It was asked for nothing yet." onDone=${refresh} />`}
    <//>
    <${Panel} title="Details"><${HostFacts} host=${host} /><//>
    ${detail.data.foreign.length > 0 && html`<${ForeignDomains} domains=${detail.data.foreign} />`}`
}

function HostFacts({ host }: { host: HostView }) {
  const { facts, certificateExpiresAt, enrolledAt, clockSkewMs, agentVersion, id, lastSeenAt } = host
  return html`<${Facts} of=${[
    ['Id', html`<code>${id}</code>`],
    ['Heard', html`<${Ago} at=${lastSeenAt} />`],
    ['Agent', agentVersion],
    ['Processor', facts && `${facts.cpus} × ${facts.cpuModel}, ${facts.accelerator}`],
    ['Memory', facts && bytes(facts.memoryBytes)],
    ['Storage', facts && `${bytes(facts.poolAvailableBytes)} free of ${bytes(facts.poolCapacityBytes)}`],
    ['System', facts && `${facts.operatingSystem}, Linux ${facts.kernel}`],
    ['Hypervisor', facts && `${facts.hypervisorVersion}, libvirt ${facts.libvirtVersion}`],
    ['Up for', facts && duration(Date.now() - facts.bootedAt)],
    ['Enrolled', moment(enrolledAt)],
    ['Certificate ends', html`${moment(certificateExpiresAt)} (<${Ago} at=${certificateExpiresAt} />)`],
    ['Clock', clockSkewMs === undefined ? undefined : `${clockSkewMs} ms off`]
  ]} />`
}

const foreignColumns: readonly Column<ForeignDomain>[] = [
  { title: 'Domain', cell: ({ name }) => html`<${Foreign} text=${name} />` },
  { title: 'State', cell: ({ state }) => html`<${Badge} state=${state} tone="quiet" />` },
  {
    title: 'Why',
    class: 'wide',
    cell: ({ reason, detail }) => html`<${Foreign} text=${detail ?? reason ?? ''} />`
  }
]

function ForeignDomains({ domains }: { domains: readonly ForeignDomain[] }) {
  return html`<${Panel} title="Domains that are not ours">
    <p class="note faint">They are listed and never touched.</p>
    <${Table} label="Domains that are not ours" columns=${foreignColumns} rows=${domains} keyOf=${({ uuid }: ForeignDomain) => uuid} empty="" />
  <//>`
}
