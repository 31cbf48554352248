// Tables for people: columns as wide as their cells, narrowed to the terminal, colours only where the stream takes them.

import { styleText } from 'node:util'

export type Style = Parameters<typeof styleText>[0]

export interface Column<Row> {
  readonly title: string
  readonly cell: (row: Row) => string
  readonly align?: 'left' | 'right'
  readonly style?: (row: Row) => Style | undefined
  /** Gives way when the terminal is narrow; the columns without it keep their width. */
  readonly shrinks?: boolean
  /** How far it gives way; the title's width, or 6, without it. */
  readonly widthMin?: number
  /** Left out altogether, the highest first, when shrinking would not make enough room. */
  readonly spare?: number
}

export interface TableOptions {
  /** Columns of the terminal; without it nothing is cut, as for a pipe. */
  readonly width?: number | undefined
  readonly colour: boolean
  /** Spaces between two columns. */
  readonly gap?: number
}

const gapDefault = 2
const bold: Style = 'bold'
const shrunkWidthMin = 6

/** Lines without line ends: a title line and one line a row. */
export function renderTable<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  options: TableOptions
): string[] {
  const gap = options.gap ?? gapDefault
  const shown = measure(columns, rows)
  const fitting = options.width === undefined ? shown : fit(shown, options.width, gap)
  const titles = fitting.map(({ column, width }) => cellText(column.title, column, width, bold, options))
  return [titles, ...rows.map((row, at) => fitting.map((each) => bodyCell(each, at, row, options)))].map(
    (parts) => parts.join(' '.repeat(gap)).trimEnd()
  )
}

/** Columns of a terminal that the table takes with all of its columns, each as narrow as it may be. */
export function widthMinOf<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): number {
  return total(measure(columns, rows).map(narrowest), gapDefault)
}

function measure<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): readonly Shown<Row>[] {
  return columns.map((column) => {
    const cells = rows.map((row) => plain(column.cell(row)))
    return { column, cells, width: Math.max(length(column.title), ...cells.map(length)) }
  })
}

/** `key: value` lines with the values under each other; what is undefined is left out. */
export function renderFields(
  fields: readonly (readonly [string, string | undefined])[],
  colour: boolean
): string[] {
  const present = fields.filter((field): field is readonly [string, string] => field[1] !== undefined)
  const width = Math.max(0, ...present.map(([key]) => length(key))) + 1
  return present.map(([key, value]) => {
    const title = `${key}:`.padEnd(width)
    return `${colour ? paint('bold', title) : title}  ${plain(value)}`
  })
}

/** Whatever came from outside, without the control characters that would command the terminal. */
export function plain(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: removing them is the purpose
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]+/g, ' ')
}

/** At most so many characters, the last an ellipsis where something was cut. */
export function cut(text: string, width: number): string {
  const characters = [...text]
  if (characters.length <= width) return text
  return width <= 0 ? '' : `${characters.slice(0, width - 1).join('')}…`
}

export function paint(style: Style, text: string): string {
  return styleText(style, text, { validateStream: false })
}

interface Shown<Row> {
  readonly column: Column<Row>
  readonly cells: readonly string[]
  readonly width: number
}

function bodyCell<Row>(
  { column, cells, width }: Shown<Row>,
  at: number,
  row: Row,
  options: TableOptions
): string {
  return cellText(cells[at] ?? '', column, width, column.style?.(row), options)
}

function cellText<Row>(
  text: string,
  column: Column<Row>,
  width: number,
  style: Style | undefined,
  options: TableOptions
): string {
  const shortened = cut(text, width)
  const space = ' '.repeat(Math.max(0, width - length(shortened)))
  // Spaces stay outside of the colour, so that the last ones of a line can be cut off.
  const painted = options.colour && style !== undefined && text !== '' ? paint(style, shortened) : shortened
  return column.align === 'right' ? space + painted : painted + space
}

/** Leaves out spare columns while even the narrowest form is too wide, then takes the rest from those that shrink. */
function fit<Row>(shown: readonly Shown<Row>[], available: number, gap: number): readonly Shown<Row>[] {
  let left = shown
  while (total(left.map(narrowest), gap) > available) {
    const spare = Math.max(...left.map(({ column }) => column.spare ?? 0))
    if (spare === 0) break
    left = left.filter(({ column }) => column.spare !== spare)
  }
  for (;;) {
    const widths = left.map(({ width }) => width)
    const excess = total(widths, gap) - available
    const widest = left
      .filter((each) => each.width > narrowest(each))
      .toSorted((a, b) => b.width - a.width)[0]
    if (excess <= 0 || widest === undefined) return left
    left = left.map((each) => (each === widest ? { ...each, width: each.width - 1 } : each))
  }
}

function narrowest<Row>({ column, width }: Shown<Row>): number {
  if (!column.shrinks) return width
  return Math.min(width, column.widthMin ?? Math.max(shrunkWidthMin, length(column.title)))
}

function total(widths: readonly number[], gap: number): number {
  return widths.reduce((sum, width) => sum + width, 0) + gap * Math.max(0, widths.length - 1)
}

function length(text: string): number {
  return [...text].length
}
