// One VM: how it is, what can be done to it, its figures, operations, backups and events.

import { html } from 'htm/preact'
import type {
  BackupList,
  BackupScheduleView,
  EventList,
  EventView,
  OperationList,
  VmReply,
  VmView
} from '../../../protocol/api.ts'
import { bytes, duration, moment } from '../format.ts'
import { VmDeeds } from '../parts/actions.ts'
import { Badge, VmBadge } from '../parts/badge.ts'
import { VmCharts } from '../parts/charts.ts'
import { OperationTable } from '../parts/operations.ts'
import { Ago, Facts, Foreign, Heading, Panel, Standing } from '../parts/small.ts'
import { type Column, Table } from '../parts/table.ts'
import { listMs, liveMs, usePoll } from '../poll.ts'
import { pathTo, withQuery } from '../routes.ts'
import { BackupTable } from './backups.ts'

const rows = 8

export function VmPage({ name }: { name: string }) {
  const path = `/v1/vms/${encodeURIComponent(name)}`
  const polled = usePoll<VmReply>(path, listMs)
  const operations = usePoll<OperationList>(
    withQuery('/v1/operations', { vm: name, looks: false, limit: rows }),
    liveMs
  )
  const vm = polled.data?.vm
  if (vm === undefined) return html`<${Heading} title=${name} /><${Standing} of=${polled} />`
  const refresh = () => {
    polled.refresh()
    operations.refresh()
  }
  return html`
    <${Heading} title=${name} aside=${html`<${VmDeeds} vm=${vm} onDone=${refresh} />`}><${VmBadge} vm=${vm} /><//>
    <p class="lead"><${Foreign} text=${vm.reason} /> · on <a href=${pathTo('host', vm.host)}>${vm.host}</a></p>
    <${Standing} of=${polled} />
    <${Drift} vm=${vm} />
    <${Health} vm=${vm} />
    <${Panel} title="Operations" aside=${html`<a href=${withQuery('/operations', { vm: name })}>All of this VM</a>`}>
      <${Standing} of=${operations} />
      ${operations.data && html`<${OperationTable} operations=${operations.data.operations} without=${['VM', 'Host']} empty="It was asked for nothing yet." onDone=${refresh} />`}
    <//>
    <${VmCharts} name=${name} cpus=${vm.cpus} memoryBytes=${vm.memoryBytes} />
    <${Panel} title="Details"><${VmFacts} vm=${vm} /><//>
    <${Backups} name=${name} path=${path} />
    <${Events} name=${name} />`
}

function VmFacts({ vm }: { vm: VmView }) {
  const {
    uuid,
    cpus,
    memoryBytes,
    rootDiskBytes,
    dataDiskBytes,
    address,
    macAddress,
    profile,
    image,
    network
  } = vm
  return html`<${Facts} of=${[
    ['Size', `${cpus} ${cpus === 1 ? 'core' : 'cores'}, ${bytes(memoryBytes)}`],
    [
      'Disks',
      rootDiskBytes &&
        `${bytes(rootDiskBytes)}${dataDiskBytes === undefined ? '' : ` and ${bytes(dataDiskBytes)}`}`
    ],
    ['Profile', profile],
    ['Address', address && html`<code>${address}</code>`],
    ['MAC', macAddress && html`<code>${macAddress}</code>`],
    ['Egress', network?.egress?.mode],
    [
      'Ports',
      network?.ports
        ?.map(({ hostPort, vmPort, transport }) => `${hostPort} → ${vmPort}/${transport}`)
        .join(', ')
    ],
    ['Running since', vm.startedAt && html`${moment(vm.startedAt)} (<${Ago} at=${vm.startedAt} />)`],
    ['Made', moment(vm.createdAt)],
    ['Last reported', html`<${Ago} at=${vm.reportedAt} />`],
    ['Image', image && html`<${Foreign} text=${image.url} />`],
    ['Kept until', vm.retainedUntil && moment(vm.retainedUntil)],
    ['UUID', html`<code>${uuid}</code>`]
  ]} />`
}

function Drift({ vm: { drift = [], name } }: { vm: VmView }) {
  if (drift.length === 0) return null
  return html`<${Panel} title="Not as its host’s records say" aside=${html`<code>hostlet vm repair ${name}</code>`}>
    <ul class="cards">${drift.map(
      ({
        id,
        title,
        recorded,
        actual,
        since,
        severity,
        next
      }) => html`<li key=${id} class=${`edge ${severity}`}>
        <div><${Badge} state=${severity} /> <b><${Foreign} text=${title} /></b> <span class="faint end"><${Ago} at=${since} /></span></div>
        <p>recorded <code><${Foreign} text=${recorded} /></code>, actual <code><${Foreign} text=${actual} /></code>. <${Foreign} text=${next} /></p>
      </li>`
    )}</ul>
  <//>`
}

function Health({ vm: { health = [] } }: { vm: VmView }) {
  if (health.length === 0) return null
  return html`<p class="badges row">${health.map(
    ({ name, state, since }) =>
      html`<span key=${name} class="chip">${name} <${Badge} state=${state} tone=${state === 'unknown' ? 'quiet' : undefined} /> <span class="faint"><${Ago} at=${since} /></span></span>`
  )}</p>`
}

function Backups({ name, path }: { name: string; path: string }) {
  const schedule = usePoll<BackupScheduleView>(`${path}/backup-schedule`, 30_000)
  const backups = usePoll<BackupList>(withQuery('/v1/backups', { vm: name, limit: rows }), 30_000)
  return html`<${Panel} title="Backups" aside=${html`<a href=${withQuery('/backups', { vm: name })}>All of this VM</a>`}>
    <p class="note"><${Schedule} of=${schedule.data} /></p>
    <${Standing} of=${backups} />
    ${backups.data && html`<${BackupTable} backups=${backups.data.backups} without="VM" />`}
  <//>`
}

function Schedule({ of }: { of: BackupScheduleView | undefined }) {
  if (of === undefined) return null
  const { schedule, lastRun } = of
  if (schedule === null)
    return html`<span class="faint">No schedule: it is backed up when somebody asks for it.</span>`
  const rhythm =
    schedule.everyMs === undefined ? `at ${schedule.cron}` : `every ${duration(schedule.everyMs)}`
  return html`Backed up ${rhythm} into ${schedule.target}.
    ${lastRun?.nextAt !== undefined && html` Next <${Ago} at=${lastRun.nextAt} />.`}
    ${lastRun?.error !== undefined && html` <${Badge} state="last run failed" tone="bad" /> <${Foreign} text=${lastRun.error.message} />`}`
}

const eventColumns: readonly Column<EventView>[] = [
  { title: 'When', cell: ({ at }) => html`<${Ago} at=${at} />` },
  { title: 'What', cell: ({ kind }) => kind },
  { title: 'State after', cell: ({ state }) => html`<${Badge} state=${state} />` },
  { title: 'Detail', class: 'wide', cell: ({ detail }) => html`<${Foreign} text=${detail} />` }
]

function Events({ name }: { name: string }) {
  const events = usePoll<EventList>(withQuery('/v1/events', { vm: name, newest: true, limit: rows }))
  return html`<${Panel} title="Events">
    <${Standing} of=${events} />
    ${events.data && html`<${Table} label="Events" columns=${eventColumns} rows=${events.data.events.toReversed()} keyOf=${({ sequence }: EventView) => String(sequence)} empty="Nothing has happened to it yet." />`}
  <//>`
}
