// How the differences between a VM and its records look as a table.

import type { DriftItem } from '../protocol/drift.ts'
import type { Cli } from './cli.ts'
import { formatTime } from './quantities.ts'
import { type Column, renderTable, type Style } from './table.ts'

const styles: Readonly<Record<DriftItem['severity'], Style>> = {
  info: 'dim',
  warning: 'yellow',
  critical: 'red'
}

const columns: readonly Column<DriftItem>[] = [
  { title: 'WHAT', cell: ({ id }) => id, style: ({ severity }) => styles[severity] },
  { title: 'RECORDED', cell: ({ recorded }) => recorded, shrinks: true, widthMin: 12 },
  { title: 'ACTUAL', cell: ({ actual }) => actual, shrinks: true, widthMin: 12 },
  { title: 'SINCE', cell: ({ since }) => formatTime(since) },
  { title: 'REPAIR', cell: ({ repair }) => repair }
]

/** Each with what to do below. */
export function driftLines(items: readonly DriftItem[], cli: Pick<Cli, 'width' | 'colour'>): string[] {
  return [
    ...renderTable(columns, items, { width: cli.width, colour: cli.colour }),
    ...items.map(({ id, next }) => `${id}: ${next}`)
  ]
}
