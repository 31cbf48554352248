// Entries of the two audits as rows: which of them are asked for, and what a person or a spreadsheet sees of each.

import type { ChainEntry } from '../../lib/chain.ts'
import type { CsvColumn } from '../../lib/csv.ts'
import { formatDuration, formatTime } from '../quantities.ts'
import type { Column, Style } from '../table.ts'

/** An entry, or what is not one: an action that waits to be taken in, a line that cannot be read. */
export interface Shown extends Pick<ChainEntry, 'at' | 'kind' | 'prev' | 'hash'> {
  readonly seq: number | undefined
  readonly [field: string]: unknown
}

export interface EntryFilter {
  readonly since?: number | undefined
  /** A kind, or the part of it before a dot. */
  readonly kind?: string | undefined
  readonly vm?: string | undefined
  readonly command?: string | undefined
}

export function wanted({ since, kind, vm, command }: EntryFilter): (entry: Shown) => boolean {
  return (entry) =>
    (since === undefined || entry.at >= since) &&
    (kind === undefined || entry.kind === kind || entry.kind.startsWith(`${kind}.`)) &&
    (vm === undefined || entry.vm === vm || entry.uuid === vm) &&
    (command === undefined || entry.command === command)
}

export const hostColumns: readonly Column<Shown>[] = [
  { title: 'SEQ', cell: ({ seq }) => (seq === undefined ? '-' : String(seq)), align: 'right' },
  { title: 'TIME', cell: ({ at }) => formatTime(at) },
  { title: 'KIND', cell: ({ kind }) => kind, style: ({ kind }) => styleOf(kind) },
  { title: 'VM', cell: ({ vm }) => text(vm) },
  { title: 'WHO', cell: whoOf, spare: 1 },
  { title: 'OUTCOME', cell: outcomeOf, style: (entry) => styleOfOutcome(outcomeOf(entry)) },
  { title: 'DETAIL', cell: detailOf, shrinks: true }
]

export const callColumns: readonly Column<Shown>[] = [
  { title: 'SEQ', cell: ({ seq }) => (seq === undefined ? '-' : String(seq)), align: 'right' },
  { title: 'TIME', cell: ({ at }) => formatTime(at) },
  {
    title: 'WHO',
    cell: ({ key, note, owner }) => text(owner) || text(note) || text(key),
    shrinks: true,
    widthMin: 12
  },
  { title: 'FROM', cell: ({ from }) => text(from), spare: 1 },
  { title: 'WHAT', cell: callOf },
  { title: 'OBJECT', cell: ({ object }) => text(object) },
  {
    title: 'OUTCOME',
    cell: ({ status, code, reason, why }) =>
      [status, reason ?? code, why].filter((part) => part !== undefined).join(' '),
    style: ({ status }) => (Number(status) >= 400 ? 'red' : 'green')
  },
  { title: 'DETAIL', cell: ({ operation, message }) => text(operation ?? message), shrinks: true, spare: 2 }
]

const hostFields = [
  ...['kind', 'command', 'verb', 'vm', 'uuid', 'generation', 'signer', 'approvers', 'decision', 'outcome'],
  ...[
    'code',
    'message',
    'startedAt',
    'finishedAt',
    'durationMs',
    'digest',
    'action',
    'uid',
    'user',
    'sudoUser'
  ]
]
const callFields = [
  ...['kind', 'request', 'key', 'note', 'tier', 'owner', 'session', 'factors', 'from', 'method', 'route'],
  ...['object', 'status', 'code', 'reason', 'operation', 'durationMs', 'message']
]

/** Every fact is in a column: what has none of its own is in `more`, as JSON. */
export function csvColumns(of: 'host' | 'scheduler'): readonly CsvColumn<Shown>[] {
  const fields = of === 'host' ? hostFields : callFields
  const named = new Set(['seq', 'at', 'prev', 'hash', ...fields])
  return [
    { title: 'seq', cell: ({ seq }) => seq },
    { title: 'at', cell: ({ at }) => new Date(at).toISOString() },
    ...fields.map((title) => ({ title, cell: (entry: Shown) => csvValue(entry[title]) })),
    {
      title: 'more',
      cell: (entry) => {
        const more = Object.entries(entry).filter(([name]) => !named.has(name))
        return more.length === 0 ? undefined : JSON.stringify(Object.fromEntries(more))
      }
    },
    { title: 'prev', cell: ({ prev }) => prev },
    { title: 'hash', cell: ({ hash }) => hash }
  ]
}

function csvValue(value: unknown): string | number | undefined {
  if (typeof value === 'number' || typeof value === 'string' || value === undefined) return value
  return JSON.stringify(value)
}

function whoOf({ kind, signer, user, sudoUser, uid, by }: Shown): string {
  if (kind === 'local') return text(sudoUser ?? user ?? uid)
  if (kind.startsWith('console.')) return text(by)
  return text(signer).slice(0, 12)
}

function outcomeOf({ decision, outcome, code, why }: Shown): string {
  return text(code ?? decision ?? outcome ?? why)
}

function detailOf(entry: Shown): string {
  const { kind, verb, command, message, durationMs, action } = entry
  if (kind === 'local') return [text(action), facts(entry.facts), text(message)].filter(Boolean).join(', ')
  const took = typeof durationMs === 'number' ? `took ${formatDuration(durationMs)}` : ''
  const told = [[text(verb), text(command)].filter(Boolean).join(' '), took, text(message)].filter(Boolean)
  return told.length > 0 ? told.join(', ') : facts(restOf(entry))
}

function callOf({ kind, method, route }: Shown): string {
  return kind === 'api' ? `${text(method)} ${text(route)}` : kind
}

function restOf({
  seq: _seq,
  at: _at,
  kind: _kind,
  prev: _prev,
  hash: _hash,
  jws: _jws,
  keys,
  ...rest
}: Shown) {
  const kids = Array.isArray(keys) ? { keys: keys.map(({ kid }) => String(kid)).join(' ') } : {}
  return { ...rest, ...kids }
}

function facts(of: unknown): string {
  if (typeof of !== 'object' || of === null) return ''
  return Object.entries(of)
    .map(([name, value]) => `${name} ${typeof value === 'object' ? JSON.stringify(value) : String(value)}`)
    .join(', ')
}

function text(value: unknown): string {
  return value === undefined || value === null ? '' : String(value)
}

function styleOf(kind: string): Style | undefined {
  if (kind === 'trail.fault' || kind === 'receipt.refused' || kind === 'unreadable') return 'red'
  return kind === 'trail.torn' || kind.startsWith('command.refused') ? 'yellow' : undefined
}

function styleOfOutcome(outcome: string): Style | undefined {
  if (outcome === 'accepted' || outcome === 'done') return 'green'
  return outcome.startsWith('E_') || outcome === 'failed' ? 'red' : undefined
}
