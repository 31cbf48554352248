// Has the kernel write out a file system: one of several names that are in it is enough.

import { mustRun, runProcess } from '../../lib/run-process.ts'
import type { Wait } from './hypervisor.ts'

const flushMs = 120_000

/**
 * Flushes the file system of the first path that this process may open, and no other: one that hangs would hold up the
 * rest. Where it may open none, all of the machine's. Throws what mustRun throws.
 */
export async function flushFileSystem(paths: readonly string[], wait: Wait): Promise<void> {
  const options = { ...wait, deadlineMs: flushMs }
  for (const path of paths) {
    const { exitCode } = await runProcess('sync', ['--file-system', '--', path], options)
    if (exitCode === 0) return
  }
  await mustRun('sync', [], options)
}
