// Many worlds, none of which may break a promise.

import assert from 'node:assert/strict'
import { availableParallelism } from 'node:os'
import { it } from 'node:test'
import type { Summary } from '../campaign.ts'
import { simulate } from './children.ts'

/** More, or fewer for a look: HOSTLET_SIMULATION_SEEDS. */
const seeds = Number(process.env.HOSTLET_SIMULATION_SEEDS ?? 2_000)
/** A process takes so many and ends: what dead processes of worlds leave behind is gone with it. */
const seedsAtOnce = 500

it(`keeps every promise in ${seeds} worlds`, async (t) => {
  const parts = Array.from({ length: Math.ceil(seeds / seedsAtOnce) }, (_, index) => index * seedsAtOnce + 1)
  const summaries: Summary[] = []
  const work = async () => {
    for (let from = parts.shift(); from !== undefined; from = parts.shift()) {
      const count = Math.min(seedsAtOnce, seeds - from + 1)
      summaries.push(await simulate(['--from', String(from), '--seeds', String(count)]))
    }
  }
  await Promise.all(Array.from({ length: availableParallelism() }, work))
  const sum = (value: (summary: Summary) => number) => summaries.reduce((all, each) => all + value(each), 0)
  t.diagnostic(
    `${sum((each) => each.seeds)} seeds, ${sum((each) => each.commands)} commands, ${sum((each) => each.steps)} steps`
  )
  const kinds = new Set(summaries.flatMap(({ counts }) => Object.keys(counts)))
  for (const kind of [...kinds].sort()) t.diagnostic(`${kind}: ${sum(({ counts }) => counts[kind] ?? 0)}`)
  assert.equal(
    sum((each) => each.seeds),
    seeds
  )
  assert.deepEqual(
    summaries.flatMap(({ broken }) => broken.map(({ text }) => text)),
    []
  )
})
