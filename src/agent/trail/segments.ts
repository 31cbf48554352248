// The files of an audit trail: their names, what lies in the directory, and their lines with the place of each.

import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { HostletError } from '../../errors.ts'

/** A new file is begun once one has grown to this. */
export const segmentBytesMax = 16 * 1024 ** 2
export const localDirectoryName = 'local'
/** The newest receipt of the scheduler, as compact JWS. */
export const receiptName = 'receipt.jws'
/** What a crash left half written, on its way out of the trail. */
export const tornPendingName = 'torn.pending'
const lineEnd = 0x0a

export function trailDirectory(stateDirectory: string): string {
  return join(stateDirectory, 'audit')
}

export interface Segment {
  readonly path: string
  readonly name: string
  /** Sequence of its first entry, as its name says. */
  readonly first: number
}

export interface TrailListing {
  /** In the order of their names, which is the order of their entries. */
  readonly segments: readonly Segment[]
  /** What crashes left half written, moved aside. */
  readonly torn: readonly string[]
  /** Names that nothing of ours has. */
  readonly strangers: readonly string[]
}

export interface Line {
  readonly file: string
  /** From 1 within its file. */
  readonly line: number
  /** Of its first byte within its file. */
  readonly offset: number
  readonly bytes: Buffer
  /** False when the file ends without ending the line. */
  readonly ended: boolean
}

/** Throws E_NOT_FOUND when there is no trail, E_UNAVAILABLE when it cannot be read. */
export function listTrail(directory: string): TrailListing {
  const names = guarded(directory, () => readdirSync(directory)).sort()
  const segments = names
    .filter((name) => /^\d{8,15}\.jsonl$/.test(name))
    .map((name) => ({ name, path: join(directory, name), first: Number.parseInt(name, 10) }))
    .sort((left, right) => left.first - right.first)
  const torn = names.filter((name) => /^torn-\d+(-\d+)?\.bin$/.test(name) || name === tornPendingName)
  const known = new Set([...segments.map(({ name }) => name), ...torn, localDirectoryName, receiptName])
  // A file that begins with a dot is one that is just being written.
  return { segments, torn, strangers: names.filter((name) => !known.has(name) && !name.startsWith('.')) }
}

export function segmentName(first: number): string {
  return `${String(first).padStart(8, '0')}.jsonl`
}

/** Throws E_UNAVAILABLE. */
export function readSegment({ path }: Pick<Segment, 'path'>): Buffer {
  return guarded(path, () => readFileSync(path))
}

export function* linesOf(file: string, content: Buffer): Generator<Line> {
  let offset = 0
  for (let line = 1; offset < content.length; line++) {
    const found = content.indexOf(lineEnd, offset)
    const end = found < 0 ? content.length : found
    yield { file, line, offset, bytes: content.subarray(offset, end), ended: found >= 0 }
    offset = end + 1
  }
}

function guarded<Value>(path: string, read: () => Value): Value {
  try {
    return read()
  } catch (cause) {
    const code = String((cause as NodeJS.ErrnoException).code ?? 'unknown error')
    if (code === 'ENOENT')
      throw new HostletError(
        'E_NOT_FOUND',
        `there is no audit trail ${basename(path) === 'audit' ? path : `file ${path}`} on this host. The agent writes it from its first start on; is "stateDirectory" right?`,
        { cause }
      )
    throw new HostletError(
      'E_UNAVAILABLE',
      `${path} cannot be read (${code}). Run this as root or as the agent's user: "runuser -u hostlet -- hostlet audit …".`,
      { cause }
    )
  }
}
