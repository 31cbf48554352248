// Programs that a figure compares with.

import { execFileSync } from 'node:child_process'
import { NotRun } from '../harness.ts'

/** Throws NotRun for the first one that is not there. */
export function requireTools(names: readonly string[]): void {
  for (const name of names)
    try {
      execFileSync('sh', ['-c', `command -v "$0"`, name], { stdio: 'ignore' })
    } catch {
      throw new NotRun(`${name} is missing; "sh scripts/setup.sh" installs it`)
    }
}
