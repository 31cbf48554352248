// Room that is kept beside the journal for the start on a full disk: SQLite needs some before it reads anything.

import { rmSync, statSync, writeFileSync } from 'node:fs'
import { asHostletError } from '../../errors.ts'
import { privateFileMode } from '../../lib/private-file.ts'

/** The index of the log, 32 KiB, and a few pages of the log itself. */
export const reserveBytes = 64 * 1024

/**
 * What `open` returns. Where the disk is full the room is given up for it, and put aside again by a start that finds some.
 * Throws what `open` throws.
 */
export function openWithReserve<Opened>(path: string, open: () => Opened): Opened {
  const reserve = `${path}.reserve`
  try {
    const opened = open()
    putAside(reserve)
    return opened
  } catch (error) {
    if (asHostletError(error).code !== 'E_CAPACITY' || bytesOf(reserve) === 0) throw error
    rmSync(reserve, { force: true })
    return open()
  }
}

/** Not a hole: written, so that it takes its room. Where there is none the agent goes on without. */
function putAside(reserve: string): void {
  if (bytesOf(reserve) === reserveBytes) return
  try {
    writeFileSync(reserve, Buffer.alloc(reserveBytes, '.'), { mode: privateFileMode })
  } catch {
    rmSync(reserve, { force: true })
  }
}

function bytesOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0
}
