// An explanation as people read it: the reason first, what is behind it, and what to do last.

import type { Cli } from '../cli.ts'
import { formatDuration, formatTime } from '../quantities.ts'
import { paint, plain, type Style } from '../table.ts'
import type { Finding, Why } from './facts.ts'

const styles: Readonly<Record<NonNullable<Finding['severity']>, Style>> = {
  info: 'dim',
  warning: 'yellow',
  critical: 'red'
}

export function whyLines(why: Why, nowMs: number, { colour }: Pick<Cli, 'colour'>): string[] {
  const painted = (style: Style, text: string) => (colour ? paint(style, text) : text)
  const findings = why.findings.map(({ text, since, severity }) => {
    const mark = severity === undefined ? '-' : painted(styles[severity], severity === 'info' ? '-' : '!')
    return `  ${mark} ${plain(text)}${since === undefined ? '' : sinceText(since, nowMs)}`
  })
  const says = plain(`${capital(why.says)}.`).replace(/\.\.$/, '.')
  const next = why.next.map((step) => `  ${plain(step)}`)
  return [painted('bold', says), ...findings, ...(next.length === 0 ? [] : ['next:', ...next])]
}

/** A verb stays as it is written. */
function capital(text: string): string {
  return /^[a-z]+\.[a-z]/.test(text) ? text : `${text.charAt(0).toUpperCase()}${text.slice(1)}`
}

function sinceText(since: number, nowMs: number): string {
  return `  (${formatTime(since)}, ${formatDuration(Math.max(0, nowMs - since))} ago)`
}
