// Many worlds, none of which may break a promise.

import assert from 'node:assert/strict'
import { availableParallelism } from 'node:os'
import { it } from 'node:test'
import type { Summary } from '../campaign.ts'
import { simulate } from './children.ts'

/** Others: HOSTLET_SIMULATION_SEEDS. */
const seeds = Number(process.env.HOSTLET_SIMULATION_SEEDS ?? 10_000)
/** A machine that does not get through all of them in this time runs fewer, and says how many. */
const minutesMax = 20
/** However slow it is. */
const seedsMin = Math.min(seeds, 1_000)
/** A process takes so many and ends: what dead processes of worlds leave behind is gone with it. */
const seedsAtOnce = 250

it('keeps every promise in every world', async (t) => {
  const parts = Array.from({ length: Math.ceil(seeds / seedsAtOnce) }, (_, index) => index * seedsAtOnce + 1)
  const summaries: Summary[] = []
  const startedAt = performance.now()
  const isTime = () => performance.now() - startedAt < minutesMax * 60_000
  const sum = (value: (summary: Summary) => number) => summaries.reduce((all, each) => all + value(each), 0)
  const run = () => sum((each) => each.seeds)
  const work = async () => {
    while (isTime() || run() < seedsMin) {
      const from = parts.shift()
      if (from === undefined) return
      const count = Math.min(seedsAtOnce, seeds - from + 1)
      summaries.push(await simulate(['--from', String(from), '--seeds', String(count)]))
    }
  }
  await Promise.all(Array.from({ length: availableParallelism() }, work))
  const faults = sum(({ counts }) =>
    Object.entries(counts).reduce((all, [kind, times]) => all + (kind.startsWith('fault: ') ? times : 0), 0)
  )
  const cpuMs = Math.round(sum((each) => each.cpuMs) / run())
  t.diagnostic(
    `figure: ${run()} of ${seeds} seeds run, with ${sum((each) => each.commands)} commands and ${faults} faults; ${cpuMs} ms of processor time each`
  )
  const kinds = new Set(summaries.flatMap(({ counts }) => Object.keys(counts)))
  for (const kind of [...kinds].sort()) t.diagnostic(`${kind}: ${sum(({ counts }) => counts[kind] ?? 0)}`)
  const broken = summaries.flatMap((each) => each.broken)
  assert.equal(broken.length, 0, `${broken.length} seeds\n${broken.map(({ text }) => text).join('\n')}`)
  assert.ok(run() >= seedsMin)
})
