// How results are shown: a table for the terminal, a page for the docs.

import { type FigureResult, met, type Row, type Target } from './harness.ts'
import type { Summary } from './statistics.ts'

export interface Machine {
  readonly processor: string
  readonly cores: number
  readonly memoryGib: number
  readonly kernel: string
}

/** One file in bench/results. */
export interface Outcome {
  readonly id: string
  readonly title: string
  /** ISO 8601, UTC. */
  readonly date: string
  readonly quick: boolean
  readonly machine: Machine
  readonly versions: Readonly<Record<string, string>>
  /** Mean number of programs that wanted to run in the 15 minutes before the end, the figure's own among them. */
  readonly load?: number
  readonly result: FigureResult | { readonly notRun: string }
}

export function verdict(row: Row): 'met' | 'missed' | '' {
  if (row.target === undefined) return ''
  return met(row.target, valueIn(row).median) ? 'met' : 'missed'
}

export function terminalTable(outcomes: readonly Outcome[]): string {
  const lines = outcomes.flatMap((outcome) => {
    const head = ['', outcome.title + (outcome.quick ? ' (quick: too few runs to trust)' : '')]
    if ('notRun' in outcome.result) return [...head, `  not run: ${outcome.result.notRun}`]
    const table = outcome.result.rows.map(cells)
    const widths = [0, 1, 2, 3, 4].map((column) => Math.max(...table.map((row) => row[column]?.length ?? 0)))
    return [
      ...head,
      ...table.map((row) => `  ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')}`)
    ]
  })
  return lines.map((line) => line.trimEnd()).join('\n')
}

export function markdownPage(outcomes: readonly Outcome[]): string {
  const sections = outcomes.flatMap((outcome) => ['', `## ${outcome.title}`, '', ...sectionBody(outcome)])
  return `${[...preamble(outcomes), ...sections].join('\n')}\n`
}

function sectionBody({ result, date, machine, versions, load }: Outcome): string[] {
  if ('notRun' in result) return [`Not run: ${result.notRun}`]
  return [
    '| what | result | 10th to 90th percentile | target | each side |',
    '|---|---|---|---|---|',
    ...result.rows.map(
      (row) =>
        `| ${cells(row)
          .map((cell) => cell.replaceAll('|', '\\|'))
          .join(' | ')} |`
    ),
    '',
    ...result.how.map((sentence) => `- ${sentence}`),
    `- Measured ${date.slice(0, 10)} on ${describeMachine(machine)}${load === undefined ? '' : `, load average ${short(load)}`}; ${describeVersions(versions)}.`
  ]
}

function preamble(outcomes: readonly Outcome[]): string[] {
  const rows = outcomes.flatMap(({ result }) => ('rows' in result ? result.rows : []))
  const judged = rows.filter((row) => row.target !== undefined)
  const missed = judged.filter((row) => verdict(row) === 'missed')
  return [
    '# Benchmarks',
    '',
    '`npm run bench -- --write` wrote this page: do not edit it. `npm run bench` measures again;',
    '`-- --only <name>` runs one figure, `-- --list` names them.',
    '',
    'A figure is the ratio of two things that ran in turn in the same minutes on the same machine (A B, B A, A B, ...),',
    'after a warm-up that does not count: the median of the ratios of the pairs, and between which values the middle 80 %',
    'of them lie. Times are shown for orientation; they say more about the machine than about the software. Where there is',
    'no peer, the figure is a plain measure.',
    '',
    missed.length === 0
      ? `All ${judged.length} targets are met.`
      : `${judged.length - missed.length} of ${judged.length} targets are met; missed: ${missed.map((row) => row.what).join('; ')}.`
  ]
}

function cells(row: Row): [what: string, value: string, spread: string, target: string, sides: string] {
  const value = valueIn(row)
  const unit = row.kind === 'ratio' ? 'x' : ` ${row.unit}`
  const target = row.target ? `${targetText(row.target, unit)}: ${verdict(row)}` : ''
  const spread = value.count === 1 ? '' : `${short(value.p10)} to ${short(value.p90)} (${value.count})`
  return [row.what, `${short(value.median)}${unit}`, spread, target, row.kind === 'ratio' ? sides(row) : '']
}

function sides(row: Extract<Row, { kind: 'ratio' }>): string {
  return row.compared
    .map((name, index) => `${name} ${short(row.samples[index]?.median ?? 0)} ${row.unit}`)
    .join(', ')
}

function valueIn(row: Row): Summary {
  return row.kind === 'ratio' ? row.ratio : row.measure
}

function targetText(target: Target, unit: string): string {
  return 'atMost' in target ? `at most ${target.atMost}${unit}` : `at least ${target.atLeast}${unit}`
}

function describeMachine({ processor, cores, memoryGib, kernel }: Machine): string {
  return `${processor}, ${cores} cores, ${memoryGib} GiB of memory, Linux ${kernel}`
}

function describeVersions(versions: Readonly<Record<string, string>>): string {
  return Object.entries(versions)
    .map(([name, version]) => `${name} ${version}`)
    .join(', ')
}

/** Three significant digits: more would be noise. */
function short(value: number): string {
  if (value === 0) return '0'
  const magnitude = Math.abs(value)
  return magnitude >= 100
    ? value.toFixed(0)
    : magnitude < 0.001
      ? value.toExponential(1)
      : String(Number(value.toPrecision(3)))
}
