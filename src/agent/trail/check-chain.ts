// Whether lines are a whole chain, and where they are not: the first fault with its place and its kind.

import { type ChainEntry, follows, type Link, linkOf, openLine, origin } from '../../lib/chain.ts'
import type { Line, Segment } from './segments.ts'
import { linesOf } from './segments.ts'

export const faultKinds = [
  'changed',
  'removed',
  'inserted',
  'reordered',
  'renamed',
  'truncated',
  'torn',
  'receipt'
] as const
export type FaultKind = (typeof faultKinds)[number]

/** The first place where a trail is not what it should be. */
export interface TrailFault {
  readonly kind: FaultKind
  readonly file: string
  /** From 1. */
  readonly line: number
  /** Of the line's first byte within its file. */
  readonly offset: number
  readonly message: string
}

export interface ChainReading {
  /** Reads a segment whole. */
  read(segment: Segment): Buffer
  /** Each entry that follows from those before it, in order. Returns what is wrong with it beyond that. */
  onEntry?(entry: ChainEntry, line: Line): Omit<TrailFault, 'file' | 'line' | 'offset'> | undefined
  /** What the first entry must follow from. */
  readonly after?: Link
}

export interface ChainState {
  /** The last entry that follows from all before it. */
  readonly tail: Link
  readonly fault: TrailFault | undefined
}

/** Reads from the first segment to the first fault. Throws what reading a file throws. */
export function checkChain(segments: readonly Segment[], reading: ChainReading): ChainState {
  let tail = reading.after ?? origin
  for (const [index, segment] of segments.entries()) {
    const isLast = index === segments.length - 1
    for (const line of linesOf(segment.name, reading.read(segment))) {
      const entry = openLine(line.bytes)
      const place = { segment, line, isLast }
      const fault =
        entry !== undefined && line.ended && follows(entry, tail)
          ? faultOfName(segment, line, entry)
          : faultOfLine(place, { entry, tail, segments, reading })
      const further = fault ?? (entry && reading.onEntry?.(entry, line))
      if (further !== undefined) return { tail, fault: { ...placeOf(line), ...further } }
      if (entry !== undefined) tail = linkOf(entry)
    }
  }
  return { tail, fault: undefined }
}

export function placeOf({ file, line, offset }: Line): Pick<TrailFault, 'file' | 'line' | 'offset'> {
  return { file, line, offset }
}

type Finding = Omit<TrailFault, 'file' | 'line' | 'offset'> & Partial<TrailFault>

interface Seen {
  readonly entry: ChainEntry | undefined
  readonly tail: Link
  readonly segments: readonly Segment[]
  readonly reading: ChainReading
}

function faultOfName(segment: Segment, line: Line, { seq }: ChainEntry): Finding | undefined {
  return line.line !== 1 || segment.first === seq ? undefined : nameFault(segment, seq)
}

function nameFault({ first }: Segment, seq: number): Finding {
  return {
    kind: 'renamed',
    message: `the file begins with entry ${seq}, its name says ${first}: it was renamed`
  }
}

/** A file that is whole but for its name: its first two lines follow one another. */
function isRenamed({ segment, place, seq, hash }: Found, all: readonly Found[]): boolean {
  if (place.line !== 1 || segment.first === seq) return false
  const second = all.find((other) => other.segment === segment && other.place.line === 2)
  return second === undefined || second.prev === hash
}

/** What has become of a line that is not the one that was expected. Looks at the rest of the trail to tell. */
function faultOfLine(
  { segment, line, isLast }: { segment: Segment; line: Line; isLast: boolean },
  seen: Seen
): Finding {
  const { entry, tail } = seen
  const next = tail.seq + 1
  if (!line.ended && isLast && (entry === undefined || follows(entry, tail)))
    return { kind: 'torn', message: `the trail ends within entry ${next}: a crash, or somebody, cut it` }
  const all = entriesOf(seen)
  const expected = all.find(({ seq, prev }) => seq === next && prev === tail.hash)
  if (entry === undefined) {
    if (expected !== undefined)
      return { kind: 'inserted', message: `this line is none of the trail's: entry ${next} comes after it` }
    return { kind: 'changed', message: `entry ${next} is not what its hash says` }
  }
  if (expected === undefined) return withoutExpected(entry, { segment, line }, tail)
  const renamed = all.find(
    (found) => isRenamed(found, all) && [expected.segment, segment].includes(found.segment)
  )
  const isPlain = renamed?.segment === segment || segment.first === entry.seq
  if (renamed !== undefined && expected.segment !== segment && isPlain)
    return { ...nameFault(renamed.segment, renamed.seq), ...renamed.place }
  const copies = all.filter(({ hash }) => hash === entry.hash)
  if (entry.seq <= next || copies.length > 1)
    return { kind: 'inserted', message: `entry ${entry.seq} stands where entry ${next} belongs` }
  return {
    kind: 'reordered',
    message: `entry ${entry.seq} stands where entry ${next} belongs, which comes later`
  }
}

/** The entry that belongs here is nowhere. */
function withoutExpected(
  entry: ChainEntry,
  { segment, line }: { segment: Segment; line: Line },
  { seq }: Link
): Finding {
  const next = seq + 1
  if (entry.seq <= seq)
    return { kind: 'inserted', message: `entry ${entry.seq} stands here once more, as a copy` }
  if (entry.seq > next) {
    const missing = entry.seq - 1 === next ? `entry ${next} is` : `entries ${next} to ${entry.seq - 1} are`
    const isFile = line.line === 1 && segment.first === entry.seq
    return { kind: 'removed', message: `${missing} gone${isFile ? ', with a file or the end of one' : ''}` }
  }
  if (!line.ended) return { kind: 'changed', message: `entry ${next} has lost the end of its line` }
  return {
    kind: 'changed',
    message: `entry ${next} does not follow from the one before: it, or what is before it, was written anew`
  }
}

interface Found extends Pick<ChainEntry, 'seq' | 'prev' | 'hash'> {
  readonly segment: Segment
  readonly place: Pick<TrailFault, 'file' | 'line' | 'offset'>
}

/** Every line of the trail that is what its own hash says, wherever it stands. */
function entriesOf({ segments, reading }: Seen): Found[] {
  return segments.flatMap((segment) => {
    const lines = [...linesOf(segment.name, reading.read(segment))].filter(({ ended }) => ended)
    return lines.flatMap((line) => {
      const entry = openLine(line.bytes)
      if (entry === undefined) return []
      const { seq, prev, hash } = entry
      return [{ segment, place: placeOf(line), seq, prev, hash }]
    })
  })
}
