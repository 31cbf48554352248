// What a test run prints: a line a file, the reason of each failure, and the sums.
import { styleText } from 'node:util'
import type { FileResult } from './run-file.ts'

const FAILURE_LINES_MAX = 12
const OUTPUT_LINES_MAX = 30

export function printFile({
  file,
  passed,
  failures,
  skips,
  figures = [],
  durationMs,
  output
}: FileResult): void {
  const isFailed = failures.length > 0
  const mark = isFailed ? styleText('red', 'FAIL') : styleText('green', 'ok  ')
  const counts = [`${passed} passed`]
  if (isFailed) counts.push(`${failures.length} failed`)
  if (skips.length > 0) counts.push(`${skips.length} skipped`)
  console.log(`  ${mark}  ${file.padEnd(52)} ${counts.join(', ')}  ${(durationMs / 1000).toFixed(1)} s`)
  for (const figure of figures) printIndented([figure])
  if (!isFailed) return
  for (const { name, message } of failures)
    printIndented([name, ...message.split('\n').slice(0, FAILURE_LINES_MAX)])
  const lines = output.trimEnd().split('\n').slice(-OUTPUT_LINES_MAX)
  if (lines[0] !== '') printIndented(['output:', ...lines])
}

/** Prints skips, failures and, last, the line of sums; returns the sums. */
export function printTotals(results: readonly FileResult[]): {
  passed: number
  failed: number
  skipped: number
} {
  const skips = results.flatMap(({ file, skips }) =>
    skips.map(({ name, reason }) => `${file}: ${name}: ${reason}`)
  )
  const failures = results.flatMap(({ file, failures }) => failures.map(({ name }) => `${file}: ${name}`))
  printList('skipped', skips)
  printList('failed', failures)
  const passed = results.reduce((sum, result) => sum + result.passed, 0)
  console.log(`${passed} passed, ${failures.length} failed, ${skips.length} skipped`)
  return { passed, failed: failures.length, skipped: skips.length }
}

function printList(title: string, lines: readonly string[]): void {
  if (lines.length === 0) return
  console.log(`${title}:`)
  for (const line of lines) console.log(`  ${line}`)
}

function printIndented([first, ...rest]: readonly string[]): void {
  console.log(`          ${first}`)
  for (const line of rest) console.log(`            ${line}`)
}
