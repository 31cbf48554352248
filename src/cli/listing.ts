// A list as lines: the table, or what to do when there is nothing to list.

import type { Cli } from './cli.ts'
import { type Column, renderTable } from './table.ts'

/** The sentence for an empty list is a note, so that a pipe gets no line that looks like an item. */
export function listing<Row>(
  cli: Cli,
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  options: { none: string; more?: boolean }
): readonly string[] {
  if (rows.length === 0) cli.note(options.none)
  if (options.more) cli.note(`Only ${rows.length} are shown: there are more.`)
  return rows.length === 0 ? [] : renderTable(columns, rows, { width: cli.width, colour: cli.colour })
}
