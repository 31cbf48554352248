// How much of the trail a host keeps: whole files go, the oldest first, and the trail says up to where.

import { rmSync, statSync } from 'node:fs'
import { type ChainEntry, type EntryFields, type Link, openLine } from '../../lib/chain.ts'
import { linesOf, listTrail, readSegment, type Segment } from './segments.ts'

/** Kind of the entry without which a trail that does not begin with its first entry is not whole. */
export const prunedKind = 'trail.pruned'

/** A file that was written to within this time stays, so that a flood does not carry off what it is to hide … */
export const youngMs = 7 * 86_400_000
/** … up to so many times the bound: the disk is not for the trail alone. */
export const hardFactor = 4

export interface PruneOptions {
  readonly directory: string
  readonly keepBytes: number
  /** Milliseconds since the epoch. */
  readonly now: number
  /** On disk when it resolves. */
  append(kind: string, fields: EntryFields): Promise<unknown>
}

/** Removes what is beyond the bound; never the last file. `early` where that had to be some that are young. A crash in between leaves files that the next round removes. */
export async function pruneTrail({
  directory,
  keepBytes,
  now,
  append
}: PruneOptions): Promise<{ early: boolean }> {
  const { segments } = listTrail(directory)
  const files = segments.map(({ path }) => statSync(path))
  let bytes = files.reduce((sum, { size }) => sum + size, 0)
  let count = 0
  let early = false
  for (const { size, mtimeMs } of files.slice(0, -1)) {
    const isYoung = now - mtimeMs < youngMs
    if (bytes <= (isYoung ? keepBytes * hardFactor : keepBytes)) break
    early ||= isYoung
    bytes -= size
    count++
  }
  const first = segments[count]
  const anchor = first && anchorOf(first)
  if (count === 0 || anchor === undefined) return { early: false }
  const gone = segments.slice(0, count)
  await append(prunedKind, { through: anchor, files: gone.map(({ name }) => name) })
  for (const { path } of gone) rmSync(path, { force: true })
  return { early }
}

/** What the first entry of a file follows from. Undefined where its first line is no entry: such a file stays, for whoever looks. */
export function anchorOf(segment: Segment): Link | undefined {
  const [line] = linesOf(segment.name, readSegment(segment))
  const entry = line && openLine(line.bytes)
  return entry && { seq: entry.seq - 1, hash: entry.prev }
}

/** Whether an entry says that the trail begins after that link because the host keeps no more. */
export function saysPruned({ kind, through }: ChainEntry, { seq, hash }: Link): boolean {
  const link = through as Partial<Link> | undefined
  return kind === prunedKind && link?.seq === seq && link.hash === hash
}
