// The audit of the audit: a whole trail read from its first entry, its receipts checked, and what others hold of it compared.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { asHostletError } from '../../errors.ts'
import { type ChainEntry, type Link, openLine, origin } from '../../lib/chain.ts'
import type { CommandKey } from '../../protocol/enrollment.ts'
import type { TrailLink } from '../../protocol/trail.ts'
import { checkChain, placeOf, type TrailFault } from './check-chain.ts'
import { Hashes } from './hashes.ts'
import { pendingActions } from './local-actions.ts'
import { type Receipt, verifyReceipt } from './receipt.ts'
import { anchorOf, prunedKind, saysPruned } from './retention.ts'
import {
  linesOf,
  listTrail,
  localDirectoryName,
  readSegment,
  receiptName,
  type Segment,
  type TrailListing
} from './segments.ts'

/** How long a line that is just being written is waited for. */
const lineTries = 10
const lineWaitMs = 50

export interface VerifyOptions {
  readonly directory: string
  /** Keys that are trusted by this host's identity; those that the trail itself names are trusted besides. */
  readonly keys: readonly CommandKey[]
  /** Who this host is now; it may have been another before it enrolled anew, as the trail says then. */
  readonly hostId?: string | undefined
  /** What the scheduler has signed for, asked before the trail is read. */
  readonly held?: readonly Link[]
}

export interface TrailReport {
  readonly files: number
  /** Up to the first fault, those that the host keeps no more included. */
  readonly entries: number
  /** The oldest so many are no longer kept, as the trail itself says. */
  readonly pruned: number
  readonly head: Link
  readonly receipts: number
  /** The newest entry that a receipt in the trail proves to have been there. */
  readonly receipted: number
  /** Heads that the scheduler holds and the trail agrees with. */
  readonly agreed: number
  /** Times that a crash cut an entry, which was noted and kept. */
  readonly torn: readonly string[]
  /** Files that nothing of ours has written. */
  readonly strangers: readonly string[]
  /** Actions of the command line that the agent has not taken in. */
  readonly waiting: number
  /** What the receipts witness of the scheduler's own audit, the oldest first. */
  readonly witnessed: readonly Link[]
  readonly fault: TrailFault | undefined
}

const witnessedMax = 1_000

/** Throws E_NOT_FOUND where there is no trail, E_UNAVAILABLE where it cannot be read. Changes nothing. */
export async function verifyTrail(options: VerifyOptions): Promise<TrailReport> {
  const { directory, held = [] } = options
  // Before the files: what it is for has to be in them.
  const kept = keptText(directory)
  const listing = listTrail(directory)
  const last = listing.segments.at(-1)
  const newest = last && { name: last.name, content: await readEnded(last) }
  const read = (segment: Segment) => (newest?.name === segment.name ? newest.content : readSegment(segment))
  const reader = new TrailReader(options)
  const after = beginningOf(listing, read)
  const state = checkChain(listing.segments, { read, after, onEntry: (entry) => reader.take(entry) })
  const found = { listing, read, reader, tail: state.tail, pruned: after.seq }
  const fault = state.fault ?? faultOfKept(options, found, kept) ?? faultOfHeld(held, found)
  return {
    files: listing.segments.length,
    entries: state.tail.seq,
    pruned: after.seq,
    head: state.tail,
    receipts: reader.receipts,
    receipted: reader.receipted,
    agreed: fault === undefined ? held.filter(({ seq }) => seq > after.seq).length : 0,
    torn: listing.torn,
    strangers: listing.strangers,
    waiting: pendingActions(join(directory, localDirectoryName)).length,
    witnessed: reader.witnessed,
    fault
  }
}

/** What the first entry must follow from: nothing, or what the trail itself says to keep no more. */
function beginningOf({ segments }: TrailListing, read: (segment: Segment) => Buffer): Link {
  const [first] = segments
  const anchor = first && anchorOf(first)
  if (anchor === undefined || anchor.seq === 0) return origin
  for (const segment of segments.toReversed())
    for (const line of linesOf(segment.name, read(segment))) {
      const entry = line.bytes.includes(prunedKind) ? openLine(line.bytes) : undefined
      if (entry !== undefined && saysPruned(entry, anchor)) return anchor
    }
  return origin
}

/** An agent that runs may be in the middle of a line. */
async function readEnded(segment: Segment): Promise<Buffer> {
  for (let tries = 1; ; tries++) {
    const content = readSegment(segment)
    if (content.length === 0 || content.at(-1) === 0x0a || tries === lineTries) return content
    await sleep(lineWaitMs)
  }
}

type Finding = Pick<TrailFault, 'kind' | 'message'>

/** Keeps of the entries what later ones are compared with. */
class TrailReader {
  readonly hashes = new Hashes()
  readonly witnessed: Link[] = []
  receipts = 0
  receipted = 0
  keys: CommandKey[]
  readonly #hosts: Set<string>

  constructor({ keys, hostId }: VerifyOptions) {
    this.keys = [...keys]
    this.#hosts = new Set(hostId === undefined ? [] : [hostId])
  }

  take(entry: ChainEntry): Finding | undefined {
    this.hashes.add(entry)
    if (entry.kind === 'agent.started' && typeof entry.host === 'string') this.#hosts.add(entry.host)
    if (entry.kind === 'trust' && Array.isArray(entry.keys)) this.#trust(entry.keys as CommandKey[])
    return entry.kind === 'receipt' ? this.#receipt(entry) : undefined
  }

  /** Undefined when it is a receipt by a trusted key for what the trail has. */
  check(jws: string): { receipt: Receipt } | { fault: Finding } {
    try {
      const receipt = verifyReceipt(jws, this.keys)
      const { seq, hash, host } = receipt
      if (!this.#hosts.has(host))
        return { fault: { kind: 'receipt', message: `this receipt is for the trail of host ${host}` } }
      const own = this.hashes.at(seq)
      if (own === undefined || own === hash) return { receipt }
      const message = `entry ${seq} is not the one that the scheduler has signed for: the trail was written anew from there, or before`
      return { fault: { kind: 'receipt', message } }
    } catch (error) {
      return { fault: { kind: 'receipt', message: asHostletError(error).message } }
    }
  }

  #trust(keys: readonly CommandKey[]): void {
    const known = new Set(this.keys.map(({ kid, x }) => `${kid} ${x}`))
    this.keys.push(...keys.filter(({ kid, x }) => !known.has(`${kid} ${x}`)))
  }

  #receipt(entry: ChainEntry): Finding | undefined {
    const checked = this.check(String(entry.jws))
    if ('fault' in checked) return checked.fault
    const { seq, scheduler } = checked.receipt
    const of = entry.of as TrailLink | undefined
    if (of?.seq !== seq)
      return { kind: 'receipt', message: `its receipt is for entry ${seq}, not for ${of?.seq}` }
    this.receipts++
    this.receipted = seq
    if (scheduler !== undefined) this.witnessed.push(scheduler)
    if (this.witnessed.length > witnessedMax) this.witnessed.shift()
    return undefined
  }
}

interface Found {
  readonly listing: TrailListing
  readonly read: (segment: Segment) => Buffer
  readonly reader: TrailReader
  readonly tail: Link
  readonly pruned: number
}

/** The newest receipt lies beside the trail as well: it shows what was cut off behind the last one within. */
function faultOfKept(
  { directory }: VerifyOptions,
  { reader, ...found }: Found,
  before: string | undefined
): TrailFault | undefined {
  const place = { file: receiptName, line: 1, offset: 0 }
  const first = before === undefined ? undefined : reader.check(before)
  const isBehind = first === undefined || ('receipt' in first && first.receipt.seq < reader.receipted)
  // An agent that runs may have replaced it meanwhile.
  const text = isBehind && reader.receipts > 0 ? keptText(directory) : before
  if (text === undefined) {
    if (reader.receipts === 0) return undefined
    return { ...place, kind: 'removed', message: 'the newest receipt, which lies beside the trail, is gone' }
  }
  const checked = reader.check(text)
  if ('fault' in checked) return { ...place, ...checked.fault }
  const { seq } = checked.receipt
  if (seq < reader.receipted) {
    const message = `it is for entry ${seq}, and was for ${reader.receipted} or later`
    return { ...place, kind: 'changed', message }
  }
  return text === before && seq > found.tail.seq ? truncated(seq, { reader, ...found }) : undefined
}

function keptText(directory: string): string | undefined {
  const path = join(directory, receiptName)
  return existsSync(path) ? readFileSync(path, 'utf8').trim() : undefined
}

/** Heads that the scheduler holds. The oldest that does not fit is nearest to where it was done. */
function faultOfHeld(held: readonly Link[], found: Found): TrailFault | undefined {
  for (const { seq, hash } of held.toSorted((left, right) => left.seq - right.seq)) {
    if (seq > found.tail.seq) return truncated(seq, found)
    const own = found.reader.hashes.at(seq)
    // No longer kept here: nothing to compare.
    if (own === hash || (own === undefined && seq <= found.pruned)) continue
    const message = `entry ${seq} is not the one that the scheduler has signed for: the trail was written anew from there, or before`
    return { ...placeOfEntry(seq, found), kind: 'changed', message }
  }
  return undefined
}

function truncated(seq: number, { listing, read, tail }: Found): TrailFault {
  const last = listing.segments.at(-1)
  const content = last && read(last)
  const lines = content === undefined || last === undefined ? [] : [...linesOf(last.name, content)]
  return {
    kind: 'truncated',
    file: last?.name ?? '',
    line: lines.length + 1,
    offset: content?.length ?? 0,
    message: `the trail ends with entry ${tail.seq}, and the scheduler has signed for entry ${seq}`
  }
}

function placeOfEntry(seq: number, { listing, read }: Found): Pick<TrailFault, 'file' | 'line' | 'offset'> {
  const segment = listing.segments.findLast(({ first }) => first <= seq)
  const line = segment && [...linesOf(segment.name, read(segment))][seq - segment.first]
  return line === undefined ? { file: '', line: 0, offset: 0 } : placeOf(line)
}
