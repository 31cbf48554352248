// Lines that hold on to one another: each ends with a SHA-256 over itself and the hash of the line before.

import { createHash } from 'node:crypto'

/** What a chain has come to: the next entry follows from this. */
export interface Link {
  /** Of the last entry; 0 before the first. */
  readonly seq: number
  readonly hash: string
}

/** Facts of an entry besides what makes it a link. */
export type EntryFields = Readonly<Record<string, unknown>> & {
  readonly seq?: never
  readonly at?: never
  readonly kind?: never
  readonly prev?: never
  readonly hash?: never
}

export interface ChainEntry {
  readonly seq: number
  /** Milliseconds since the epoch, by the writer's clock: order is told by `seq` alone. */
  readonly at: number
  readonly kind: string
  readonly prev: string
  readonly hash: string
  readonly [field: string]: unknown
}

/** Before the first entry. */
export const origin: Link = { seq: 0, hash: '0'.repeat(64) }
/** Longest line; what would make a longer one is cut. */
export const lineBytesMax = 32 * 1024
const textCharactersMax = 2_048
const itemsMax = 64

const hashStart = ',"hash":"'
const hashEnd = '"}'
const hashBytes = hashStart.length + 64 + hashEnd.length

/**
 * The line of the entry that follows, without a line end. Its hash is of its own bytes with the member `hash` left out, so
 * that no two ways to write the same entry down are ever compared.
 */
export function sealEntry(
  { at, kind, fields }: { at: number; kind: string; fields: EntryFields },
  before: Link
): { readonly line: string; readonly link: Link } {
  const seq = before.seq + 1
  const body = bodyOf({ seq, at, kind }, fields, before.hash)
  const hash = createHash('sha256').update(body).digest('hex')
  return { line: `${body.slice(0, -1)}${hashStart}${hash}${hashEnd}`, link: { seq, hash } }
}

/** The entry of a line, if the line is what its own hash says. Whether it follows from the one before is not looked at. */
export function openLine(line: Buffer): ChainEntry | undefined {
  const bodyBytes = line.length - hashBytes
  if (bodyBytes < 2 || line.length > lineBytesMax) return undefined
  const tail = line.toString('latin1', bodyBytes)
  const hash = tail.slice(hashStart.length, -hashEnd.length)
  if (!tail.startsWith(hashStart) || !tail.endsWith(hashEnd)) return undefined
  const own = createHash('sha256').update(line.subarray(0, bodyBytes)).update('}').digest('hex')
  return own === hash ? parsed(line) : undefined
}

/** Whether the entry is the one that comes after that link. */
export function follows(entry: ChainEntry, before: Link): boolean {
  return entry.seq === before.seq + 1 && entry.prev === before.hash
}

export function linkOf({ seq, hash }: ChainEntry): Link {
  return { seq, hash }
}

function bodyOf(frame: { seq: number; at: number; kind: string }, fields: EntryFields, prev: string): string {
  const body = JSON.stringify({ ...frame, ...fields, prev }, bounded)
  if (Buffer.byteLength(body) + hashBytes <= lineBytesMax) return body
  return JSON.stringify({ ...frame, cut: `its facts were longer than ${lineBytesMax} bytes`, prev })
}

/** What others wrote is cut to what a line holds. */
function bounded(_key: string, value: unknown): unknown {
  if (typeof value === 'string' && value.length > textCharactersMax)
    return `${value.slice(0, textCharactersMax).toWellFormed()}…`
  return Array.isArray(value) && value.length > itemsMax ? value.slice(0, itemsMax) : value
}

/** A line that bears its own hash was written by who writes such lines; its form is looked at nevertheless. */
function parsed(line: Buffer): ChainEntry | undefined {
  try {
    const entry = JSON.parse(line.toString('utf8')) as Partial<ChainEntry> | null
    const { seq, at, kind, prev, hash } = entry ?? {}
    const isEntry = Number.isSafeInteger(seq) && Number.isSafeInteger(at) && typeof kind === 'string'
    return isEntry && typeof prev === 'string' && typeof hash === 'string' ? (entry as ChainEntry) : undefined
  } catch {
    // Not JSON: no entry.
    return undefined
  }
}
