// The program: runs worlds by their seeds, says what it met, and for a broken promise how to see it again.
//
//   node test/simulation/run.ts --seeds 10000 [--from N] [--minutes M] [--twice]
//   node test/simulation/run.ts --seed N --trace

import { writeSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { campaign } from './campaign.ts'

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '100' },
    from: { type: 'string', default: '1' },
    /** One world, and all of it where `trace` is given. */
    seed: { type: 'string' },
    trace: { type: 'boolean', default: false },
    /** Stops after so long, with what was run by then. */
    minutes: { type: 'string' },
    /** Runs each world twice, and compares. */
    twice: { type: 'boolean', default: false },
    /** One of mutations.ts. */
    mutation: { type: 'string' },
    /** One line of JSON at the end instead of a report, for those that run several of these at once. */
    json: { type: 'boolean', default: false }
  }
})
const print = (text: string) => writeSync(1, `${text}\n`)
const summary = await campaign({
  from: Number(values.seed ?? values.from),
  seeds: values.seed === undefined ? Number(values.seeds) : 1,
  minutes: Number(values.minutes ?? Number.POSITIVE_INFINITY),
  twice: values.twice,
  keepTrace: values.trace,
  mutation: values.mutation,
  untilBroken: values.mutation !== undefined,
  onBroken: values.json ? () => undefined : print,
  onTrace: print
})
if (values.json) print(JSON.stringify(summary))
else {
  const { seeds, broken, cpuMs, steps, commands, counts } = summary
  for (const [kind, times] of Object.entries(counts)) print(`  ${kind}: ${times}`)
  print(
    `${seeds} seeds, ${broken.length} with a broken promise; ${commands} commands signed, ${steps} steps,`
  )
  print(`${(cpuMs / seeds).toFixed(1)} ms of processor time a seed`)
}
// What sleeps in dead processes of worlds keeps nothing alive; timers of libraries might.
process.exitCode = summary.broken.length === 0 ? 0 : 1
