// hostlet host show HOST

import type { HostView } from '../../protocol/api.ts'
import type { ForeignDomain } from '../../protocol/vm.ts'
import { apiPath } from '../api-client.ts'
import { clientCommand, examples } from '../client-command.ts'
import { stateColumn } from '../columns.ts'
import type { Define } from '../define.ts'
import { describeLabels } from '../placement-options.ts'
import { formatBytes, formatTime } from '../quantities.ts'
import { renderFields, renderTable } from '../table.ts'

export const define: Define = (command, cli) => {
  examples(command.argument('<host>', 'id of the host'), 'hostlet host show kvm-1')
  clientCommand<object, readonly [string]>(command, cli, async ({ client, signal }, given) => {
    const path = apiPath('hosts', given.arguments[0])
    const answer = await client.ask({ method: 'GET', path, signal }, 'HostDetail')
    cli.show(answer, () => [
      ...renderFields(fields(answer.host), cli.colour),
      ...section('Conditions', answer.host.conditions.length, () =>
        renderTable(
          [
            { title: 'SEVERITY', cell: ({ severity }) => severity },
            { title: 'SINCE', cell: ({ since }) => formatTime(since) },
            { title: 'CONDITION', cell: ({ id, message }) => `${id}: ${message}` }
          ],
          answer.host.conditions,
          { colour: cli.colour }
        )
      ),
      ...section('Domains that are not ours, never touched', answer.foreign.length, () =>
        renderTable(
          [
            { title: 'DOMAIN', cell: ({ name }) => name },
            stateColumn(),
            { title: 'UUID', cell: ({ uuid }) => uuid },
            { title: 'REASON', cell: ({ reason, detail }) => foreignText(reason, detail), shrinks: true }
          ],
          answer.foreign,
          {
            width: cli.width,
            colour: cli.colour
          }
        )
      )
    ])
  })
}

function fields(host: HostView): readonly (readonly [string, string | undefined])[] {
  const { facts } = host
  return [
    ['host', host.id],
    ['name', host.hostname],
    ['called now', facts?.hostname === host.hostname ? undefined : facts?.hostname],
    ['state', `${host.state} (${host.reason})`],
    ['labels', host.labels && describeLabels(host.labels)],
    ['libvirt', host.hypervisor],
    ['VMs', `${host.vmCount} ours, ${host.foreignCount} foreign`],
    ['operations', `${host.operationsRunning} running, ${host.operationsWaiting} waiting`],
    ['drained', drainText(host)],
    ['enrolled', formatTime(host.enrolledAt)],
    ['last seen', host.lastSeenAt === undefined ? 'never' : formatTime(host.lastSeenAt)],
    ['clock', clockText(host.clockSkewMs)],
    ['certificate until', formatTime(host.certificateExpiresAt)],
    ['agent', host.agentVersion],
    ['system', facts && `${facts.operatingSystem}, Linux ${facts.kernel}, ${facts.architecture}`],
    ['CPU', facts && `${facts.cpus} × ${facts.cpuModel}`],
    ['memory', facts && formatBytes(facts.memoryBytes)],
    [
      'pool',
      facts && `${formatBytes(facts.poolAvailableBytes)} free of ${formatBytes(facts.poolCapacityBytes)}`
    ],
    [
      'hypervisor',
      facts && `libvirt ${facts.libvirtVersion}, QEMU ${facts.hypervisorVersion}, ${facts.accelerator}`
    ],
    ['key for secrets', facts?.secretsKey?.kid],
    ['booted', facts && formatTime(facts.bootedAt)]
  ]
}

/** Below a second the way of the message is as long as what it measures. */
function clockText(skewMs: number | undefined): string | undefined {
  if (skewMs === undefined) return undefined
  const off = Math.abs(skewMs)
  if (off < 1_000) return "as the scheduler's"
  return `${(off / 1_000).toFixed(off < 10_000 ? 1 : 0)} s ${skewMs > 0 ? 'ahead of' : 'behind'} the scheduler's`
}

function drainText({ drainingSince }: HostView): string | undefined {
  return drainingSince === undefined ? undefined : `takes no new work since ${formatTime(drainingSince)}`
}

function section(title: string, count: number, lines: () => readonly string[]): readonly string[] {
  return count === 0 ? [] : ['', `${title}:`, ...lines()]
}

/** One that was a VM of ours says what to do with it. */
function foreignText(reason: ForeignDomain['reason'], detail: string | undefined): string {
  if (reason === undefined) return '-'
  return reason === 'other' ? 'not made by hostlet' : `quarantined, ${reason}: ${detail ?? ''}`
}
