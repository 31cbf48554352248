// Processes that simulate, a part of the seeds each: a world takes chance and time out of its whole process.

import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Summary } from '../campaign.ts'

const program = join(import.meta.dirname, '..', 'run.ts')
/** Most of what a world makes is gone soon: with room for it less is copied by the garbage collector. */
const flags = ['--disable-warning=DEP0204', '--max-semi-space-size=64']
const outputBytesMax = 16 * 1024 ** 2

export async function simulate(args: readonly string[]): Promise<Summary> {
  const words = [...flags, program, '--json', ...args]
  const { stdout } = await promisify(execFile)(process.execPath, words, { maxBuffer: outputBytesMax }).catch(
    // It says so, too, when a promise was broken.
    (error) => {
      if (typeof error.stdout === 'string' && error.stdout.startsWith('{')) return { stdout: error.stdout }
      throw error
    }
  )
  return JSON.parse(stdout) as Summary
}
