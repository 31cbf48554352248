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
  const says = plain(`${why.says.charAt(0).toUpperCase()}${why.says.slice(1)}.`).replace(/\.\.$/, '.')
  return [painted('bold', says), ...findings, 'next:', ...why.next.map((step) => `  ${plain(step)}`)]
}

function sinceText(since: number, nowMs: number): string {
  return `  (${formatTime(since)}, ${formatDuration(Math.max(0, nowMs - since))} ago)`
}
