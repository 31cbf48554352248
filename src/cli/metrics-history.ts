// What a host or a VM has used, moment by moment: the question, and its answer as a table.

import type { Command } from 'commander'
import type { HostMetrics, VmMetrics } from '../protocol/api.ts'
import { apiPath } from './api-client.ts'
import type { Cli } from './cli.ts'
import { clientCommand, examples } from './client-command.ts'
import { listing } from './listing.ts'
import { formatBytesShort, formatTime, parseDuration, parseInteger } from './quantities.ts'
import type { Column } from './table.ts'

interface Options {
  readonly since?: string
  readonly limit: string
}

interface Point<Sample> {
  readonly at: number
  readonly sample: Sample
}
type HostPoint = HostMetrics['points'][number]
type VmPoint = VmMetrics['points'][number]

/** Figures that hosts and VMs have alike. */
interface Flow {
  readonly diskReadBytesPerSecond?: number
  readonly diskWriteBytesPerSecond?: number
  readonly receiveBytesPerSecond?: number
  readonly transmitBytesPerSecond?: number
}

export interface History<Row extends Point<Flow>> {
  /** Of the path and of the help. */
  readonly kind: 'hosts' | 'vms'
  readonly answer: 'HostMetrics' | 'VmMetrics'
  readonly columns: readonly Column<Row>[]
}

export function metricsHistory<Row extends Point<Flow>>(
  command: Command,
  cli: Cli,
  { kind, answer, columns }: History<Row>
): void {
  command
    .argument(kind === 'hosts' ? '<host>' : '<vm>', kind === 'hosts' ? 'id of the host' : 'name of the VM')
    .option('--since <duration>', 'only from so long ago on')
    .option('--limit <count>', 'at most so many, the newest', '20')
  const words = kind === 'hosts' ? 'host metrics kvm-1' : 'vm metrics web-1'
  examples(command, `hostlet ${words}`, `hostlet ${words} --since 1h --limit 1000 -o json`)
  clientCommand<Options, readonly [string]>(command, cli, async ({ client, signal }, given) => {
    const { since, limit } = given.options
    const query = {
      limit: parseInteger(limit, { what: '--limit', minimum: 1, maximum: 1_000 }),
      sinceMs: since === undefined ? undefined : Math.max(0, cli.clock.now() - parseDuration(since))
    }
    const path = apiPath(kind, given.arguments[0], 'metrics')
    const told = await client.ask({ method: 'GET', path, query, signal }, answer)
    cli.show(told, () =>
      listing(cli, [time, ...columns, ...flow], told.points as unknown as readonly Row[], {
        none: 'No figures have come yet.'
      })
    )
  })
}

export const hostFigures: readonly Column<HostPoint>[] = [
  { title: 'CPU', cell: ({ sample }) => percent(sample.cpuUsedRatio), align: 'right' },
  { title: 'LOAD', cell: ({ sample }) => sample.loadAverage1m.toFixed(2), align: 'right' },
  {
    title: 'MEMORY',
    cell: ({ sample }) => formatBytesShort(sample.memoryTotalBytes - sample.memoryAvailableBytes),
    align: 'right'
  }
]

export const vmFigures: readonly Column<VmPoint>[] = [
  { title: 'STATE', cell: ({ sample }) => sample.state },
  { title: 'CORES', cell: ({ sample }) => sample.cpuCoresUsed?.toFixed(2) ?? '-', align: 'right' },
  { title: 'MEMORY', cell: ({ sample }) => bytes(sample.memoryResidentBytes), align: 'right' },
  { title: 'DISK', cell: ({ sample }) => bytes(sample.diskAllocationBytes), align: 'right' }
]

const time: Column<Point<unknown>> = { title: 'TIME', cell: ({ at }) => formatTime(at) }

const flow: readonly Column<Point<Flow>>[] = [
  { title: 'READ/S', cell: ({ sample }) => bytes(sample.diskReadBytesPerSecond), align: 'right' },
  { title: 'WRITE/S', cell: ({ sample }) => bytes(sample.diskWriteBytesPerSecond), align: 'right' },
  { title: 'IN/S', cell: ({ sample }) => bytes(sample.receiveBytesPerSecond), align: 'right' },
  { title: 'OUT/S', cell: ({ sample }) => bytes(sample.transmitBytesPerSecond), align: 'right' }
]

function percent(ratio: number): string {
  return `${Math.round(ratio * 100)}%`
}

function bytes(count: number | undefined): string {
  return count === undefined ? '-' : formatBytesShort(count)
}
