// Many worlds one after the other, and what came of them.

import { installDeterminism } from './determinism.ts'
import { type Fixtures, makeFixtures } from './fixtures.ts'
import { mutations } from './mutations.ts'
import { type Plan, planOf } from './plan.ts'
import { World, type WorldResult } from './world.ts'

export interface CampaignOptions {
  readonly from: number
  readonly seeds: number
  readonly minutes?: number
  readonly twice?: boolean
  readonly keepTrace?: boolean
  readonly mutation?: string | undefined
  /** Stops at the first broken promise. */
  readonly untilBroken?: boolean
  onBroken?(text: string): void
  onTrace?(line: string): void
}

export interface Broken {
  readonly seed: number
  readonly promise: string
  readonly text: string
}

export interface Summary {
  readonly seeds: number
  readonly broken: readonly Broken[]
  readonly steps: number
  readonly commands: number
  readonly cpuMs: number
  /** Faults and questions by kind. */
  readonly counts: Readonly<Record<string, number>>
}

/** Changes this process for good: chance and time come from the worlds from then on. */
export async function campaign(options: CampaignOptions): Promise<Summary> {
  using fixtures = await makeFixtures()
  await installDeterminism()
  const mutation = options.mutation === undefined ? undefined : mutations[options.mutation]
  if (options.mutation !== undefined && mutation === undefined)
    throw new Error(`there is no mutation ${options.mutation}: ${Object.keys(mutations).join(', ')}`)
  mutation?.apply()
  // Worlds throw all the time, and seldom does anybody look where: who does looks at one world, with its trace.
  if (mutation === undefined && !options.keepTrace) Error.stackTraceLimit = 0
  const startedAt = process.hrtime.bigint()
  const cpu = process.cpuUsage()
  const broken: Broken[] = []
  const counts = new Map<string, number>()
  let [seeds, steps, commands] = [0, 0, 0]
  for (let seed = options.from; seed < options.from + options.seeds; seed++) {
    const minutes = Number(process.hrtime.bigint() - startedAt) / 60e9
    if (minutes > (options.minutes ?? Number.POSITIVE_INFINITY)) break
    const plan = planOf(seed)
    const world = { fixtures, plan, keepTrace: options.keepTrace === true }
    const result = await new World(world).run()
    seeds++
    steps += result.steps
    commands += result.commands
    for (const [kind, times] of result.counts) counts.set(kind, (counts.get(kind) ?? 0) + times)
    for (const line of result.lines) options.onTrace?.(line)
    if (options.twice && (await new World(world).run()).hash !== result.hash)
      broken.push({ seed, promise: 'sameCourse', text: 'two runs of the seed went different ways' })
    if (result.broken === undefined) continue
    const text = options.untilBroken ? result.broken.message : await told(result, fixtures)
    broken.push({ seed, promise: result.broken.promise, text })
    options.onBroken?.(text)
    if (options.untilBroken) break
  }
  const { user, system } = process.cpuUsage(cpu)
  const cpuMs = (user + system) / 1_000
  return { seeds, broken, steps, commands, cpuMs, counts: Object.fromEntries([...counts].sort()) }
}

/** What was broken, by the fewest events that break it, and the command that shows it again. */
async function told({ plan, broken }: WorldResult, fixtures: Fixtures): Promise<string> {
  const least = await shortened(plan, broken?.promise, fixtures)
  const events = least.events.map(({ at, kind }) => `${at} ms: ${kind}`)
  return [
    `seed ${plan.seed} breaks a promise, see it again: node test/simulation/run.ts --seed ${plan.seed} --trace`,
    `  ${broken?.message}`,
    `  broken already by ${events.length} of ${plan.events.length} events: ${events.join('; ')}`
  ].join('\n')
}

/** Leaves out one event after the other, as long as the same promise breaks. */
async function shortened(plan: Plan, promise: string | undefined, fixtures: Fixtures): Promise<Plan> {
  let least = plan
  for (const event of plan.events) {
    const shorter = { ...least, events: least.events.filter((each) => each !== event) }
    const { broken } = await new World({ fixtures, plan: shorter }).run()
    if (broken?.promise === promise) least = shorter
  }
  return least
}
