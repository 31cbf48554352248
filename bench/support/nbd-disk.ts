// Images behind qemu-nbd as sources of backups, with a bitmap of what changed where one is kept.

import { execFileSync } from 'node:child_process'
import type { DiskSource } from '../../src/backup/disk.ts'
import { type QemuNbdOptions, startQemuNbd } from '../../src/backup/nbd/qemu-nbd.ts'
import { openNbdSource } from '../../src/backup/nbd/source.ts'
import { timeMs } from '../harness.ts'

const wait = { signal: new AbortController().signal }
const bitmap = 'bench'

/** Serves the image for as long as the work takes, and returns the time of the work, in which the source is opened. */
export async function timeSource(
  { file, format, changed = false }: Pick<QemuNbdOptions, 'file' | 'format'> & { changed?: boolean },
  work: (source: DiskSource) => Promise<unknown>
): Promise<number> {
  const served = { file, format, ...(changed && { bitmap }), ...wait }
  await using server = await startQemuNbd(served)
  const { socketPath, exportName } = server
  return await timeMs(async () => {
    const source = await openNbdSource({
      ...{ socketPath, exportName, ...wait },
      ...(changed && { dirtyBitmap: bitmap })
    })
    await work(source)
    await source.close()
  })
}

/** From here on the image knows what is written to it. */
export function trackChanges(file: string): void {
  execFileSync('qemu-img', ['bitmap', '--add', file, bitmap])
}

/** What was written is forgotten, as after a backup. */
export function forgetChanges(file: string): void {
  execFileSync('qemu-img', ['bitmap', '--clear', file, bitmap])
}

export interface Change {
  readonly offset: number
  readonly content: Buffer
}

/** Writes into a qcow2 as its guest would, so that the bitmap marks it. Lengths are the same throughout. */
export async function writeChanges(file: string, changes: readonly Change[]): Promise<void> {
  const { openNbdTarget } = await import('../../src/backup/nbd/target.ts')
  await using server = await startQemuNbd({ file, format: 'qcow2', writable: true, ...wait })
  const { socketPath, exportName } = server
  const target = await openNbdTarget({ socketPath, exportName, ...wait })
  for (const { offset, content } of changes) await target.write(offset, content, wait)
  await target.finish(wait)
}
