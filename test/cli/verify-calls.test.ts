// The scheduler's own audit, checked by whoever asks for it: page by page, and against what a host has witnessed.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { ApiClient } from '../../src/cli/api-client.ts'
import { verifyCalls } from '../../src/cli/audit/verify-calls.ts'
import { type ChainEntry, type Link, openLine, origin, sealEntry } from '../../src/lib/chain.ts'

const { signal } = new AbortController()

function entriesOf(count: number): ChainEntry[] {
  let tail: Link = origin
  return Array.from({ length: count }, (_, index) => {
    const { line, link } = sealEntry({ at: index, kind: 'api', fields: { route: `/v1/${index}` } }, tail)
    tail = link
    return openLine(Buffer.from(line)) ?? assert.fail()
  })
}

/** Answers with pages of three. */
function clientWith(entries: readonly ChainEntry[], anchor: Link = origin): ApiClient {
  const ask = async ({ query }: { query: { after: number } }) => {
    const rest = entries.filter(({ seq }) => seq > query.after)
    return { entries: rest.slice(0, 3), more: rest.length > 3, last: 0, anchor, head: anchor }
  }
  return { ask } as unknown as ApiClient
}

const check = (entries: readonly ChainEntry[], witnessed: readonly Link[] = [], anchor: Link = origin) =>
  verifyCalls(clientWith(entries, anchor), witnessed, signal)

describe("a check of the scheduler's audit", () => {
  it('reads all of it, from where it begins, and counts what a host bears witness of', async () => {
    const entries = entriesOf(8)
    const witnessed = [entries[2], entries[6]].flatMap((entry) => entry ?? [])
    assert.deepEqual(await check(entries, witnessed), { entries: 8, witnessed: 2, fault: undefined })
    const pruned = await check(entries.slice(3), witnessed, entries[2])
    assert.deepEqual(pruned, { entries: 5, witnessed: 1, fault: undefined })
  })

  it('finds what was changed, taken out, written anew or cut off, at its entry', async () => {
    const entries = entriesOf(8)
    const faultOf = async (changed: readonly ChainEntry[], witnessed: readonly Link[] = []) => {
      const { fault } = await check(changed, witnessed)
      return [fault?.kind, fault?.seq]
    }
    const [fourth] = entries.slice(3)
    assert.ok(fourth)
    assert.deepEqual(await faultOf(entries.with(3, { ...fourth, route: '/v1/other' })), ['changed', 4])
    assert.deepEqual(await faultOf(entries.toSpliced(3, 1)), ['removed', 4])
    assert.deepEqual(await faultOf(entries.slice(1)), ['removed', 1])
    const other = { ...(entries[4] ?? assert.fail()), hash: 'f'.repeat(64) }
    assert.deepEqual(await faultOf(entries, [other]), ['changed', 5])
    const last = entries.at(-1) ?? assert.fail()
    assert.deepEqual(await faultOf(entries.slice(0, 5), [last]), ['truncated', 6])
    assert.deepEqual(await faultOf(entries.slice(0, 5)), [undefined, undefined])
  })
})
