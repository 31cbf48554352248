// Which test files a run takes, in the order of its groups.
import { globSync, statSync } from 'node:fs'
import { relative, resolve, sep } from 'node:path'

const groupNames = ['unit', 'contract', 'campaign', 'integration'] as const

export interface Group {
  name: (typeof groupNames)[number]
  files: string[]
}

/** The groups that have files, each sorted. `wanted` holds group names, files and directories; empty means all. */
export function selectFiles(root: string, wanted: readonly string[]): Group[] {
  const groups = wanted.filter((word) => isGroup(word))
  const paths = wanted.filter((word) => !isGroup(word))
  const files = paths.length > 0 ? paths.flatMap((path) => filesUnder(root, path)) : allFiles(root)
  return groupNames
    .filter((name) => groups.length === 0 || groups.includes(name))
    .map((name) => ({ name, files: [...new Set(files)].filter((file) => groupOf(file) === name).sort() }))
    .filter((group) => group.files.length > 0)
}

/** What shares the machine's libvirtd, or has the machine to itself for minutes, lies in a folder of the group's name, at any depth. */
export function groupOf(file: string): Group['name'] {
  const folders = file.split(sep)
  return groupNames.find((name) => folders.includes(name) && name !== 'unit') ?? 'unit'
}

function isGroup(word: string): word is Group['name'] {
  return (groupNames as readonly string[]).includes(word)
}

function allFiles(root: string): string[] {
  return globSync('test/**/*.test.ts', { cwd: root })
}

function filesUnder(root: string, path: string): string[] {
  const full = resolve(root, path)
  const found = statSync(full, { throwIfNoEntry: false })
  if (!found?.isDirectory()) return found ? [relative(root, full)] : []
  return globSync('**/*.test.ts', { cwd: full }).map((file) => relative(root, resolve(full, file)))
}
