// CSV as RFC 4180 has it, for spreadsheets that would take a cell of somebody else's for a formula.

/** Of the answer and the file. */
export const csvType = 'text/csv; charset=utf-8'

export interface CsvColumn<Row> {
  readonly title: string
  cell(row: Row): string | number | undefined
}

/** One record, with its line end. */
export function csvLine(cells: readonly (string | number | undefined)[]): string {
  return `${cells.map(csvCell).join(',')}\r\n`
}

export function csvTitles<Row>(columns: readonly CsvColumn<Row>[]): string {
  return csvLine(columns.map(({ title }) => title))
}

export function csvRow<Row>(columns: readonly CsvColumn<Row>[], row: Row): string {
  return csvLine(columns.map(({ cell }) => cell(row)))
}

/** What begins as a formula does gets an apostrophe before it: spreadsheets show the rest as text. */
function csvCell(value: string | number | undefined): string {
  if (value === undefined) return ''
  if (typeof value === 'number') return String(value)
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}
