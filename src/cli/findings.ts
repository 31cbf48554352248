// Findings of the doctor for people: what is wrong with what mends it, the rest in a word.

import type { Finding } from '../agent/doctor/checks.ts'
import type { Cli } from './cli.ts'
import { paint, plain, type Style } from './table.ts'

type Status = Finding['status']

const styles: Readonly<Record<Status, Style>> = {
  ok: 'green',
  warning: 'yellow',
  failed: 'red',
  skipped: 'dim'
}
/** In a column of their own; what fails stands out without colours too. */
const words: Readonly<Record<Status, string>> = {
  ok: 'ok     ',
  warning: 'warning',
  failed: 'FAILED ',
  skipped: 'skipped'
}

export function counts(findings: readonly Finding[]): Record<Status, number> {
  const count = (status: Status) => findings.filter((finding) => finding.status === status).length
  return {
    ok: count('ok'),
    warning: count('warning'),
    failed: count('failed'),
    skipped: count('skipped')
  }
}

/** A paragraph a group. Without `verbose` only failures and warnings have lines of their own. */
export function findingLines(
  findings: readonly Finding[],
  { verbose, cli }: { readonly verbose: boolean; readonly cli: Pick<Cli, 'colour'> }
): string[] {
  const shown = findings.filter(({ status }) => verbose || status === 'failed' || status === 'warning')
  const width = Math.max(0, ...shown.map(({ title }) => title.length))
  const groups = [...new Set(findings.map(({ group }) => group))]
  return groups.flatMap((group, index) => {
    const members = findings.filter((finding) => finding.group === group)
    const own = shown.filter((finding) => finding.group === group)
    const before = shown.some((finding) => finding.group === groups[index - 1])
    const gap = index > 0 && (own.length > 0 || before || verbose) ? [''] : []
    return [
      ...gap,
      headLine(group, members, verbose),
      ...own.flatMap((each) => findingText(each, width, cli.colour))
    ]
  })
}

export function summaryLine(findings: readonly Finding[], verbose: boolean): string {
  const { ok, warning, failed, skipped } = counts(findings)
  const hint = verbose ? '' : ' ("hostlet doctor -v" shows each)'
  return `${failed} failed, ${warning} ${warning === 1 ? 'warning' : 'warnings'}, ${ok} ok, ${skipped} skipped${hint}`
}

function headLine(group: string, members: readonly Finding[], verbose: boolean): string {
  if (verbose) return `${group}:`
  const { ok, skipped } = counts(members)
  const parts = [ok > 0 ? `${ok} ok` : '', skipped > 0 ? `${skipped} skipped` : ''].filter(Boolean)
  return `${group}: ${parts.join(', ') || 'nothing well'}`
}

function findingText(
  { status, title, message, fix, command }: Finding,
  width: number,
  colour: boolean
): string[] {
  const word = colour ? paint(styles[status], words[status]) : words[status]
  const line = `  ${word}  ${title.padEnd(width)}  ${plain(message)}`
  if (fix === undefined) return [line]
  if (command === undefined) return [line, `           fix: ${plain(fix)}`]
  const note = fix.slice(command.length).replace(/^: /, '')
  return [
    line,
    `           run: ${plain(command)}`,
    ...(note === '' ? [] : [`                ${plain(note)}`])
  ]
}
