// One agent a state directory: a lock that the kernel releases when its process ends, however that happens.

import { chmodSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { guarded } from './sqlite-errors.ts'

/** How long the lock may take: an agent that was just killed still holds it for a moment. */
export const lockWaitMs = 2_000

/**
 * Holds the lock until it is disposed of. Throws E_BUSY when another process has it. Node has no flock; SQLite's exclusive
 * lock on an empty file is the kernel's (fcntl), and a file of its own leaves the database open to a second connection of ours.
 */
export function lockState(path: string): Disposable {
  const file = `${path}-lock`
  const lock = new DatabaseSync(file, { timeout: lockWaitMs, allowExtension: false })
  try {
    guarded('lock the journal', () => lock.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE'))
    chmodSync(file, 0o600)
  } catch (error) {
    lock.close()
    throw error
  }
  return { [Symbol.dispose]: () => lock.close() }
}
