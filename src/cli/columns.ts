// How hosts, VMs, operations, events and keys look as rows of a table.

import type { EventView, HostView, KeyView, OperationView, TokenView, VmView } from '../protocol/api.ts'
import { progressText } from './follow.ts'
import { healthWord } from './health-probe.ts'
import { describeLabels } from './placement-options.ts'
import { formatBytes, formatDuration, formatTime } from './quantities.ts'
import type { Column, Style } from './table.ts'

const stateStyles: Readonly<Record<string, Style>> = {
  running: 'green',
  connected: 'green',
  done: 'green',
  healthy: 'green',
  open: 'green',
  pending: 'yellow',
  stopping: 'yellow',
  waiting: 'yellow',
  sent: 'yellow',
  paused: 'yellow',
  retained: 'yellow',
  away: 'red',
  unhealthy: 'red',
  crashed: 'red',
  failed: 'red',
  expired: 'red',
  missing: 'red',
  revoked: 'red',
  stopped: 'dim',
  used: 'dim'
}

export function styleOfState(state: string): Style | undefined {
  return stateStyles[state]
}

export function stateColumn<Row extends { readonly state: string }>(): Column<Row> {
  return { title: 'STATE', cell: ({ state }) => state, style: ({ state }) => styleOfState(state) }
}

export function hostColumns(nowMs: number): readonly Column<HostView>[] {
  return [
    { title: 'HOST', cell: ({ id }) => id },
    { title: 'NAME', cell: ({ hostname }) => hostname, shrinks: true },
    stateColumn(),
    {
      title: 'LIBVIRT',
      cell: ({ hypervisor }) => hypervisor,
      style: ({ hypervisor }) => styleOfState(hypervisor)
    },
    { title: 'VMS', cell: ({ vmCount }) => String(vmCount), align: 'right' },
    { title: 'CPUS', cell: ({ facts }) => (facts === undefined ? '-' : String(facts.cpus)), align: 'right' },
    {
      title: 'MEMORY',
      cell: ({ facts }) => (facts === undefined ? '-' : formatBytes(facts.memoryBytes)),
      align: 'right'
    },
    { title: 'LABELS', cell: ({ labels }) => describeLabels(labels ?? {}) || '-', shrinks: true, spare: 1 },
    { title: 'SEEN', cell: ({ lastSeenAt }) => ago(lastSeenAt, nowMs), align: 'right' },
    { title: 'REASON', cell: ({ reason }) => reason, shrinks: true }
  ]
}

export function vmColumns(nowMs: number): readonly Column<VmView>[] {
  return [
    { title: 'VM', cell: ({ name }) => name },
    { title: 'HOST', cell: ({ host }) => host },
    {
      title: 'STATE',
      cell: shownState,
      style: ({ state, fresh }) => (fresh ? styleOfState(state) : 'yellow')
    },
    {
      title: 'HEALTH',
      cell: ({ health }) => healthWord(health),
      style: ({ health }) => styleOfState(healthWord(health).split(' ').at(-1) ?? ''),
      spare: 1
    },
    { title: 'WANTED', cell: ({ wanted }) => wanted, spare: 2 },
    { title: 'PROFILE', cell: ({ profile }) => profile, spare: 3 },
    { title: 'CPUS', cell: ({ cpus }) => String(cpus), align: 'right', spare: 1 },
    { title: 'MEMORY', cell: ({ memoryBytes }) => formatBytes(memoryBytes), align: 'right' },
    { title: 'ADDRESS', cell: ({ address }) => address ?? '-' },
    {
      title: 'UP',
      cell: ({ startedAt, state }) => (state === 'running' ? since(startedAt, nowMs) : '-'),
      align: 'right'
    },
    { title: 'REASON', cell: ({ reason }) => reason, shrinks: true }
  ]
}

/** With a question mark where the host is away and the state is the last known. */
export function shownState({ state, fresh }: VmView): string {
  return fresh || state === 'pending' ? state : `${state}?`
}

export function operationColumns(nowMs: number): readonly Column<OperationView>[] {
  return [
    { title: 'OPERATION', cell: ({ id }) => id },
    { title: 'VERB', cell: ({ verb }) => verb },
    { title: 'VM', cell: ({ vm }) => vm ?? '-' },
    { title: 'HOST', cell: ({ host }) => host, spare: 1 },
    {
      title: 'STATE',
      cell: ({ state, awaits }) => (awaits === undefined ? state : `${state} (${awaits})`),
      style: ({ state }) => styleOfState(state)
    },
    { title: 'AGE', cell: ({ createdAt }) => since(createdAt, nowMs), align: 'right' },
    { title: 'TOOK', cell: took, align: 'right', spare: 2 },
    {
      title: 'STEP OR NEXT',
      cell: (operation) => {
        if (operation.error !== undefined) return operation.error.message
        return operation.finishedAt === undefined ? progressText(operation) : operation.next
      },
      shrinks: true,
      spare: 3
    }
  ]
}

export const eventColumns: readonly Column<EventView>[] = [
  { title: 'TIME', cell: ({ at }) => formatTime(at) },
  { title: 'HOST', cell: ({ host }) => host },
  { title: 'VM', cell: ({ vm }) => vm },
  { title: 'EVENT', cell: ({ kind }) => kind },
  stateColumn(),
  { title: 'DETAIL', cell: ({ detail }) => detail, shrinks: true }
]

export function keyColumns(nowMs: number): readonly Column<KeyView>[] {
  return [
    { title: 'KEY', cell: ({ id }) => id },
    { title: 'TIER', cell: ({ tier }) => tier },
    { title: 'AGE', cell: ({ createdAt }) => since(createdAt, nowMs), align: 'right' },
    { title: 'USED', cell: ({ lastUsedAt }) => ago(lastUsedAt, nowMs), align: 'right' },
    { title: 'NOTE', cell: ({ note }) => note, shrinks: true }
  ]
}

export function tokenColumns(nowMs: number): readonly Column<TokenView>[] {
  return [
    { title: 'TOKEN', cell: ({ id }) => id },
    stateColumn(),
    { title: 'AGE', cell: ({ createdAt }) => since(createdAt, nowMs), align: 'right' },
    { title: 'EXPIRES', cell: ({ expiresAt }) => formatTime(expiresAt) },
    { title: 'HOST', cell: ({ host }) => host ?? '-' },
    { title: 'NOTE', cell: ({ note }) => note, shrinks: true }
  ]
}

export function since(atMs: number | undefined, nowMs: number): string {
  return atMs === undefined ? '-' : formatDuration(Math.max(0, nowMs - atMs))
}

export function ago(atMs: number | undefined, nowMs: number): string {
  return atMs === undefined ? 'never' : `${since(atMs, nowMs)} ago`
}

function took({ startedAt, finishedAt }: OperationView): string {
  return startedAt === undefined || finishedAt === undefined
    ? '-'
    : formatDuration(Math.max(0, finishedAt - startedAt))
}
