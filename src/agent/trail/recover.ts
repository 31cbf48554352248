// What a start of the agent finds of its trail: where it goes on, and what the end before did to it.

import { createHash } from 'node:crypto'
import { open, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { type ChainEntry, type Link, linkOf, openLine, origin } from '../../lib/chain.ts'
import { ensurePrivateDirectory, writePrivateFile } from '../../lib/private-file.ts'
import { checkChain, type TrailFault } from './check-chain.ts'
import { syncDirectory } from './files.ts'
import {
  linesOf,
  listTrail,
  localDirectoryName,
  readSegment,
  type Segment,
  tornPendingName
} from './segments.ts'

/** Bytes after the last whole entry, which are no longer in the trail but beside it. */
export interface TornEnd {
  readonly bytes: number
  readonly sha256: string
  /** False where the disk was so full that only their hash could be kept. */
  readonly kept: boolean
}

export interface Recovered {
  readonly tail: Link
  readonly segment: { readonly name: string; readonly bytes: number } | undefined
  /** Entries of the last file, in their order. */
  readonly entries: readonly ChainEntry[]
  /** What was moved aside: its note has to be in the trail before `settle` is called. */
  readonly torn: TornEnd | undefined
  /** What is wrong with the last file. It stays as it is: mending it would hide what happened. */
  readonly fault: TrailFault | undefined
  /** The note is in the trail. */
  settle(seq: number): Promise<void>
}

/** Makes the directory where there is none. Throws E_UNAVAILABLE. */
export async function recoverTrail(directory: string): Promise<Recovered> {
  ensurePrivateDirectory(directory)
  ensurePrivateDirectory(join(directory, localDirectoryName))
  const { segments, torn } = listTrail(directory)
  const last = segments.at(-1)
  const end = lastWhole(segments)
  const bytes = end === undefined || end.segment !== last ? 0 : end.bytes
  const cut = last && (await cutTorn(directory, last, bytes))
  const entries = end?.entries ?? []
  const tail = entries.at(-1)
  return {
    tail: tail === undefined ? origin : linkOf(tail),
    segment: last && { name: last.name, bytes },
    entries,
    torn: cut?.kept === false ? cut : await pendingTorn(directory),
    fault: end && faultOf(end),
    settle: async (seq) => {
      if (cut?.kept === false) return
      const name = torn.includes(`torn-${seq}.bin`) ? `torn-${seq}-${Date.now()}.bin` : `torn-${seq}.bin`
      await rename(join(directory, tornPendingName), join(directory, name))
      await syncDirectory(directory)
    }
  }
}

interface Whole {
  readonly segment: Segment
  /** Lines that are what their hashes say. */
  readonly entries: readonly ChainEntry[]
  /** Up to the end of the last of them. */
  readonly bytes: number
}

/** Of the last file that has any whole line. */
function lastWhole(segments: readonly Segment[]): Whole | undefined {
  for (const segment of segments.toReversed()) {
    const whole = [...linesOf(segment.name, readSegment(segment))].flatMap((line) => {
      const entry = line.ended ? openLine(line.bytes) : undefined
      return entry === undefined ? [] : [{ entry, end: line.offset + line.bytes.length + 1 }]
    })
    const last = whole.at(-1)
    if (last !== undefined) return { segment, entries: whole.map(({ entry }) => entry), bytes: last.end }
  }
  return undefined
}

/**
 * What follows the last whole entry of the last file was not acknowledged to anyone. It is kept beside the trail before it is
 * cut from it, so that a crash at any moment loses neither the bytes nor the fact.
 * The entries before it may be in the page cache alone, left by an agent that was killed before its sync: they are on the disk
 * before the scheduler is told of them and signs for them.
 */
async function cutTorn(directory: string, last: Segment, bytes: number): Promise<TornEnd | undefined> {
  const rest = readSegment(last).subarray(bytes)
  const torn = rest.length === 0 ? undefined : { ...tornOf(rest), kept: keepAside(directory, rest) }
  await using handle = await open(last.path, 'r+')
  if (torn !== undefined) await handle.truncate(bytes)
  await handle.sync()
  await syncDirectory(directory)
  return torn
}

/** False on a full disk, which is what leaves half a line in the first place: the agent starts nevertheless. */
function keepAside(directory: string, rest: Buffer): boolean {
  try {
    writePrivateFile(join(directory, tornPendingName), rest)
    return true
  } catch (error) {
    const code = ((error as Error).cause as NodeJS.ErrnoException | undefined)?.code
    if (code === 'ENOSPC' || code === 'EDQUOT') return false
    throw error
  }
}

function tornOf(content: Buffer): Pick<TornEnd, 'bytes' | 'sha256'> {
  return { bytes: content.length, sha256: createHash('sha256').update(content).digest('hex') }
}

async function pendingTorn(directory: string): Promise<TornEnd | undefined> {
  try {
    return { ...tornOf(await readFile(join(directory, tornPendingName))), kept: true }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

function faultOf({ segment, entries: [first] }: Whole): TrailFault | undefined {
  const after = first && { seq: first.seq - 1, hash: first.prev }
  return checkChain([segment], { read: readSegment, ...(after && { after }) }).fault
}
