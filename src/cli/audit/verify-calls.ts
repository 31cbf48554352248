// Whether the scheduler's own audit is a whole chain, page by page, and agrees with what a host has witnessed of it.

import { type ChainEntry, follows, type Link, linkOf, openLine } from '../../lib/chain.ts'
import type { ApiClient } from '../api-client.ts'

export interface CallsReport {
  readonly entries: number
  /** Places where the receipts of a host vouch for the chain. */
  readonly witnessed: number
  readonly fault:
    | { readonly kind: 'changed' | 'removed' | 'truncated'; readonly seq: number; readonly message: string }
    | undefined
}

const pageItems = 1_000

export async function verifyCalls(
  client: ApiClient,
  witnessed: readonly Link[],
  signal: AbortSignal
): Promise<CallsReport> {
  const witnesses = new Map(witnessed.map(({ seq, hash }) => [seq, hash]))
  let entries = 0
  let agreed = 0
  let tail: Link | undefined
  for (;;) {
    const query = { after: tail?.seq ?? 0, limit: pageItems }
    const page = await client.ask({ method: 'GET', path: '/v1/audit', query, signal }, 'AuditList')
    tail ??= page.anchor
    for (const entry of page.entries as ChainEntry[]) {
      const fault = faultOf(entry, tail, witnesses)
      if (fault !== undefined) return { entries, witnessed: agreed, fault }
      entries++
      if (witnesses.has(entry.seq)) agreed++
      tail = linkOf(entry)
    }
    if (!page.more) return { entries, witnessed: agreed, fault: faultOfEnd(tail, witnessed) }
  }
}

function faultOf(
  entry: ChainEntry,
  tail: Link,
  witnesses: ReadonlyMap<number, string>
): CallsReport['fault'] {
  const next = tail.seq + 1
  const opened = openLine(Buffer.from(JSON.stringify(entry)))
  if (opened === undefined)
    return { kind: 'changed', seq: entry.seq, message: `entry ${entry.seq} is not what its hash says` }
  if (entry.seq > next)
    return { kind: 'removed', seq: next, message: `entries ${next} to ${entry.seq - 1} are gone` }
  const witness = witnesses.get(entry.seq)
  if (follows(opened, tail) && (witness === undefined || witness === opened.hash)) return undefined
  const message = `entry ${entry.seq} does not follow from the one before, or is not the one that this host has a receipt of`
  return { kind: 'changed', seq: entry.seq, message }
}

function faultOfEnd(tail: Link, witnessed: readonly Link[]): CallsReport['fault'] {
  const seq = Math.max(0, ...witnessed.map((link) => link.seq))
  if (seq <= tail.seq) return undefined
  const message = `it ends with entry ${tail.seq}, and this host has a receipt that tells of entry ${seq}`
  return { kind: 'truncated', seq: tail.seq + 1, message }
}
