// The program: runs worlds by their seeds, says what it met, and for a broken promise how to see it again.
//
//   node test/simulation/run.ts --seeds 10000 [--from N] [--minutes M]
//   node test/simulation/run.ts --seed N --trace

import { parseArgs } from 'node:util'
import { installDeterminism } from './determinism.ts'
import { makeFixtures } from './fixtures.ts'
import { planOf } from './plan.ts'
import { World } from './world.ts'

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '100' },
    from: { type: 'string', default: '1' },
    seed: { type: 'string' },
    minutes: { type: 'string' },
    twice: { type: 'boolean', default: false },
    trace: { type: 'boolean', default: false }
  }
})
using fixtures = await makeFixtures()
await installDeterminism()
const from = Number(values.seed ?? values.from)
const count = values.seed === undefined ? Number(values.seeds) : 1
const started = process.cpuUsage()
let steps = 0
let virtualMs = 0
let failed = 0
const counts = new Map<string, number>()
for (let seed = from; seed < from + count; seed++) {
  const result = await new World({
    fixtures,
    plan: planOf(seed),
    keepTrace: values.trace || values.twice
  }).run()
  if (values.twice) {
    const again = await new World({ fixtures, plan: planOf(seed), keepTrace: true }).run()
    if (again.hash !== result.hash) {
      const at = again.lines.findIndex((line, index) => line !== result.lines[index])
      console.log(
        `seed ${seed} differs at line ${at}:\n  ${result.lines.slice(at - 3, at + 2).join('\n  ')}\n  ${again.lines[at]}`
      )
    }
  }
  steps += result.steps
  virtualMs += result.virtualMs
  for (const [kind, times] of result.counts) counts.set(kind, (counts.get(kind) ?? 0) + times)
  if (values.trace) console.log(result.lines.join('\n'))
  if (values.seed !== undefined) console.log(result.hash, result.steps, result.virtualMs)
  if (result.broken) {
    failed++
    console.log(`seed ${seed}: ${result.broken.message}`)
  }
}
const { user, system } = process.cpuUsage(started)
const ms = (user + system) / 1e3
console.log(
  `${count} seeds, ${failed} failed, ${(ms / count).toFixed(1)} ms and ${Math.round(steps / count)} steps and ${Math.round(virtualMs / count / 1000)} s each`
)
for (const [kind, times] of [...counts].sort()) console.log(`  ${kind}: ${times}`)
