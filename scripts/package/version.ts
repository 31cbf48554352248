// Which release a package is of, and the time that it carries.

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

const pattern = /^\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.]+)?$/

/** As package.json has it. */
export function sourceVersion(root: string): string {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
  return version
}

/** Debian sorts what follows a tilde before the release itself. Throws for what is no version. */
export function debianVersion(version: string): string {
  if (!pattern.test(version)) throw new Error(`"${version}" is no version such as 1.2.3 or 1.2.3-rc.1`)
  return version.replace('-', '~').replaceAll('-', '.')
}

/** Seconds: SOURCE_DATE_EPOCH where it is set, otherwise the time of the last commit. */
export function sourceEpoch(root: string): number {
  const given = process.env.SOURCE_DATE_EPOCH
  const text =
    given ?? spawnSync('git', ['log', '-1', '--format=%ct'], { cwd: root, encoding: 'utf8' }).stdout
  const epoch = Number(text?.trim() || Number.NaN)
  if (Number.isSafeInteger(epoch) && epoch >= 0) return epoch
  throw new Error(
    given === undefined
      ? 'this is no git checkout: set SOURCE_DATE_EPOCH to the time of the release, in seconds'
      : `SOURCE_DATE_EPOCH is "${given}", not a number of seconds`
  )
}
