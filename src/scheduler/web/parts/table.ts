// Tables: on a wide screen rows and columns, on a narrow one a card for each row; sorted by whoever looks, where all rows are here.

import { html } from 'htm/preact'
import type { ComponentChildren } from 'preact'
import { useState } from 'preact/hooks'

export interface Column<Row> {
  readonly title: string
  readonly cell: (row: Row) => ComponentChildren
  readonly sort?: (row: Row) => number | string
  readonly class?: string
}

export interface TableProps<Row> {
  /** What the table has, for those who do not see it. */
  readonly label: string
  readonly columns: readonly Column<Row>[]
  readonly rows: readonly Row[]
  readonly keyOf: (row: Row) => string
  readonly empty: ComponentChildren
}

interface Order {
  readonly index: number
  readonly isDown: boolean
}

export function Table<Row>({ label, columns, rows, keyOf, empty }: TableProps<Row>) {
  const [order, setOrder] = useState<Order>()
  if (rows.length === 0) return html`<p class="note faint">${empty}</p>`
  const shown = sorted(rows, columns, order)
  return html`<div class="table-frame"><table aria-label=${label}>
    <thead><tr>
      ${columns.map(
        (
          column,
          index
        ) => html`<th key=${column.title} scope="col" class=${column.class} aria-sort=${directionOf(order, index)}>
          ${
            column.sort === undefined
              ? column.title
              : html`<button class="plain" onClick=${() => setOrder(turned(order, index))}>${column.title}</button>`
          }
        </th>`
      )}
    </tr></thead>
    <tbody>
      ${shown.map(
        (row) => html`<tr key=${keyOf(row)}>
          ${columns.map(
            ({ title, cell, class: style }) =>
              html`<td key=${title} class=${style} data-label=${title}>${cell(row)}</td>`
          )}
        </tr>`
      )}
    </tbody>
  </table></div>`
}

function sorted<Row>(
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  order: Order | undefined
): readonly Row[] {
  const sort = order && columns[order.index]?.sort
  if (sort === undefined) return rows
  const sign = order?.isDown ? -1 : 1
  return rows.toSorted((left, right) => sign * compared(sort(left), sort(right)))
}

function compared(left: number | string, right: number | string): number {
  if (typeof left === 'string' || typeof right === 'string')
    return String(left).localeCompare(String(right), 'en', { numeric: true })
  return left - right
}

function turned(order: Order | undefined, index: number): Order | undefined {
  if (order?.index !== index) return { index, isDown: false }
  return order.isDown ? undefined : { index, isDown: true }
}

function directionOf(order: Order | undefined, index: number): string | undefined {
  if (order?.index !== index) return undefined
  return order.isDown ? 'descending' : 'ascending'
}

/** The link of a row: all of the row leads where it leads. */
export function RowLink({ href, children }: { href: string; children: ComponentChildren }) {
  return html`<a class="row-link" data-row href=${href}>${children}</a>`
}
