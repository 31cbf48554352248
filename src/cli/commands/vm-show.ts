// hostlet vm show NAME

import type { VmView } from '../../protocol/api.ts'
import { apiPath } from '../api-client.ts'
import { clientCommand, examples, type Session } from '../client-command.ts'
import { eventColumns, shownState, since } from '../columns.ts'
import type { Define } from '../define.ts'
import { driftLines } from '../drift-text.ts'
import { describeEgress, describeMapping } from '../network-options.ts'
import { describeWish } from '../placement-options.ts'
import { formatBytes, formatTime } from '../quantities.ts'
import { renderFields, renderTable } from '../table.ts'

const eventsShown = 10

export const define: Define = (command, cli) => {
  examples(
    command.argument('<vm>', 'name of the VM'),
    'hostlet vm show web-1',
    'hostlet vm show web-1 -o json'
  )
  clientCommand<object, readonly [string]>(command, cli, async (session, given) => {
    const { client, signal } = session
    const answer = await client.ask(
      { method: 'GET', path: apiPath('vms', given.arguments[0]), signal },
      'VmReply'
    )
    if (cli.format === 'json') return cli.show(answer, () => [])
    const { drift = [] } = answer.vm
    cli.print(
      ...renderFields(fields(answer.vm, cli.clock.now()), cli.colour),
      ...(drift.length === 0 ? [] : ['', 'Not as its records say:', ...driftLines(drift, cli)]),
      ...(await recentEvents(session, answer.vm))
    )
  })
}

function fields(vm: VmView, nowMs: number): readonly (readonly [string, string | undefined])[] {
  return [
    ['VM', vm.name],
    ['UUID', vm.uuid],
    ['host', vm.host],
    ['state', `${shownState(vm)} (${vm.reason})`],
    ['wanted', vm.wanted],
    ['address', vm.address],
    ['MAC address', vm.macAddress],
    ['egress', vm.network?.egress && describeEgress(vm.network.egress)],
    ['ports', vm.network?.ports?.map(describeMapping).join(' ')],
    ['up', vm.state === 'running' ? since(vm.startedAt, nowMs) : undefined],
    ...(vm.health ?? []).map(
      ({ name, state, since: at }) => [`health ${name}`, `${state} for ${since(at, nowMs)}`] as const
    ),
    ['profile', vm.profile],
    ['CPUs', String(vm.cpus)],
    ['memory', formatBytes(vm.memoryBytes)],
    ['root disk', vm.rootDiskBytes === undefined ? undefined : formatBytes(vm.rootDiskBytes)],
    ['data disk', vm.dataDiskBytes === undefined ? undefined : formatBytes(vm.dataDiskBytes)],
    ['image', vm.image && `${vm.image.url} (${vm.image.format}, sha256:${vm.image.sha256})`],
    ['placement', vm.placement && describeWish(vm.placement)],
    ['generation', String(vm.generation)],
    ['created', formatTime(vm.createdAt)],
    ['reported', vm.reportedAt === undefined ? 'never' : formatTime(vm.reportedAt)],
    ['last operation', vm.operation]
  ]
}

/** The newest ones, as a person wants to see them beside the state. */
async function recentEvents({ cli, client, signal }: Session, vm: VmView): Promise<readonly string[]> {
  const query = { vm: vm.name, newest: 'true', limit: eventsShown }
  const { events } = await client.ask({ method: 'GET', path: '/v1/events', query, signal }, 'EventList')
  if (events.length === 0) return []
  return [
    '',
    'Recent events:',
    ...renderTable(eventColumns, events, { width: cli.width, colour: cli.colour })
  ]
}
