// The changelog in Debian's form: the newest section of CHANGELOG.md.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { maintainer } from './deb.ts'
import type { Release } from './tree.ts'
import { debianVersion } from './version.ts'

const columns = 80

export function debianChangelog(root: string, { version, epoch }: Release): string {
  const text = readFileSync(join(root, 'CHANGELOG.md'), 'utf8')
  const section = text.split(/^## /m)[1] ?? ''
  const entries = section.split(/^- /m).slice(1)
  const date = new Date(epoch * 1_000).toUTCString().replace('GMT', '+0000')
  return [
    `hostlet (${debianVersion(version)}) unstable; urgency=medium`,
    '',
    ...entries.flatMap(item),
    '',
    ` -- ${maintainer(root)}  ${date}`,
    ''
  ].join('\n')
}

/** One entry, without headings that follow it, in lines of at most 80 columns. */
function item(entry: string): string[] {
  const words = entry
    .replace(/\n#[\s\S]*/, '')
    .replaceAll('`', '')
    .split(/\s+/)
    .filter((word) => word !== '')
  const lines: string[] = []
  let line = '  *'
  for (const word of words) {
    if (line.length + 1 + word.length > columns) {
      lines.push(line)
      line = '   '
    }
    line += ` ${word}`
  }
  return [...lines, line]
}
