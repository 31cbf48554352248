// A process with one agent that runs into trouble on purpose: a full file system, a clock that is set. Tells what came of it.

import { join } from 'node:path'
import { writePolicy } from './agent.ts'
import { Agents } from './agents.ts'
import type { Call } from './calls.ts'
import { Campaign } from './campaign.ts'
import { fill } from './full.ts'
import type { Run } from './run.ts'
import { seededProvision, uuid, vm } from './scenarios.ts'

const [directory = '', trouble = ''] = process.argv.slice(2)
const hourMs = 3_600_000
const subject = (generation: number) => ({ vm, uuid, generation })

const campaign = await Campaign.create(directory)
const agents: Agents = new Agents({
  fixture: campaign.fixture,
  tell: (message) => queueMicrotask(() => run.take(message))
})
const run = await campaign.runOn(undefined, { name: 'one', asks: [], stays: true })

// One that was accepted and failed counts as well.
writePolicy(run.directory, campaign.fixture, { max: 2 })

/** More that is asked of the same agent, while it runs; resolves with the ends. */
async function asked(...asks: Parameters<Run['ask']>[0][]) {
  return await Promise.all(asks.map((ask) => run.ask(ask)))
}

/** Has a call of the hypervisor wait, so that an operation is in the middle of it. */
function held(method: string): { reached: Promise<void>; release(): void } {
  const reached = Promise.withResolvers<void>()
  const released = Promise.withResolvers<void>()
  run.world.hold = async (call: Call) => {
    if (call.method !== method) return
    reached.resolve()
    await released.promise
  }
  return { reached: reached.promise, release: () => released.resolve() }
}

async function fullState() {
  const [made] = await asked(seededProvision(campaign.images, 1))
  const holding = held('cutPower')
  const stop = run.ask({ verb: 'vm.stop', subject: subject(2), arguments: { vm, force: true } })
  await holding.reached
  const free = fill(join(run.directory, 'state'))
  const [refused] = await asked({ verb: 'vm.resize', subject: subject(3), arguments: { vm, cpus: 2 } })
  const [looked] = await asked({ verb: 'vm.state', arguments: { vm } })
  holding.release()
  const first = await Promise.race([
    stop.then(() => 'ended'),
    new Promise((resolve) => setTimeout(resolve, 1_000, 'waits'))
  ])
  free()
  const stopped = await stop
  const [started] = await asked({ verb: 'vm.start', subject: subject(4), arguments: { vm } })
  return { made, refused, looked, first, stopped, started }
}

async function fullRun() {
  const free = fill(join(run.directory, 'run'))
  const [refused] = await asked(seededProvision(campaign.images, 1))
  const left = (await run.world.hypervisor.listVms({ signal: AbortSignal.timeout(10_000) })).length
  free()
  const [made] = await asked(seededProvision(campaign.images, 2))
  return { refused, left, made }
}

/** The clock of the host is set while an operation is under way; the scheduler's stays right. */
async function clockStep(byMs: number) {
  const [made] = await asked(seededProvision(campaign.images, 1))
  const holding = held('cutPower')
  const stop = run.ask({ verb: 'vm.stop', subject: subject(2), arguments: { vm, force: true } })
  await holding.reached
  const right = Date.now
  Date.now = () => right() + byMs
  run.now = right
  const [refused] = await asked({ verb: 'vm.start', subject: subject(3), arguments: { vm } })
  holding.release()
  const stopped = await stop
  Date.now = right
  const [started] = await asked({ verb: 'vm.start', subject: subject(4), arguments: { vm } })
  return { made, refused, stopped, started }
}

const troubles: Readonly<Record<string, () => Promise<unknown>>> = {
  'state is full': fullState,
  'run is full': fullRun,
  'clock goes forward': () => clockStep(hourMs),
  'clock goes back': () => clockStep(-hourMs)
}

run
  .start((message) => agents.take(message), undefined)
  .catch((error) => {
    process.stderr.write(`${error}\n`)
  })
await run.ready
process.stdout.write(JSON.stringify(await troubles[trouble]?.()))
process.kill(process.pid, 'SIGKILL')
