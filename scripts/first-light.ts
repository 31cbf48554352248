// The main job of `npm start`: a scheduler and an agent on this machine, one VM through both, and nothing left behind.
//
//   node scripts/first-light.ts [options]
//     --once          walk the life of a VM once and end; also without a terminal
//     --stay          stay with the live table although there is no terminal
//     --name NAME     names everything it makes (default: first-light), so that two can run side by side
import { parseArgs } from 'node:util'
import { Cleaner } from './first-light/cleaner.ts'
import { Fleet } from './first-light/fleet.ts'
import { liveTable } from './first-light/live-table.ts'
import { Lock } from './first-light/lock.ts'
import { checkMachine } from './first-light/machine.ts'
import { createSettings, type Settings } from './first-light/settings.ts'
import { Story } from './first-light/story.ts'
import { firstSteps, restOfLife } from './first-light/vm-life.ts'

const interruptedStatus = 130
// A terminal that was closed can't be written to; what was made has to be taken down all the same.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined)
const story = new Story()
process.exitCode = await main()

async function main(): Promise<number> {
  let settings: Settings
  let once: boolean
  try {
    const { values } = parseArgs({
      options: {
        once: { type: 'boolean', default: false },
        stay: { type: 'boolean', default: false },
        name: { type: 'string', default: 'first-light' }
      }
    })
    settings = createSettings(values.name)
    once = values.once || !(process.stdout.isTTY || values.stay)
    checkMachine(settings)
  } catch (error) {
    return story.fail(error, undefined)
  }
  return await run(settings, once)
}

async function run(settings: Settings, once: boolean): Promise<number> {
  const interruption = listenForInterrupts()
  const { signal } = interruption
  const cleaner = new Cleaner(settings)
  let lock: Lock | undefined
  let fleet: Fleet | undefined
  let status = 0
  try {
    lock = Lock.take(settings)
    const leftovers = await cleaner.cleanUp()
    if (leftovers.length > 0) story.say(`removed what an earlier run left: ${leftovers.join(', ')}`)
    fleet = new Fleet(settings, signal)
    await firstSteps(fleet, story)
    if (once) await restOfLife(fleet, story)
    else await liveTable(fleet)
  } catch (error) {
    if (signal.aborted) status = once ? interruptedStatus : 0
    else status = story.fail(error, settings)
  }
  if (lock === undefined) return status
  interruption.takingDown()
  try {
    await story.step('teardown', async () => {
      await fleet?.takeDown()
      await cleaner.cleanUp()
      return 'scheduler and agent ended, network and pool removed'
    })
    await story.step('nothing left', async () => await cleaner.assertNothingLeft())
  } catch (error) {
    status = story.fail(error, settings)
  } finally {
    lock.release()
  }
  if (status === 0) story.end(once)
  return status
}

/** The first Ctrl-C ends the run in order; the second ends it at once, which leaves things for the next start. */
function listenForInterrupts() {
  const controller = new AbortController()
  let interrupts = 0
  let inTeardown = false
  const listener = () => {
    interrupts += 1
    if (interrupts === 1) {
      story.say(
        inTeardown
          ? 'It is being taken down already. Ctrl-C again leaves the rest; the next "npm start" removes it.'
          : 'Taking down what was made. Ctrl-C again leaves it behind; the next "npm start" removes it.'
      )
      controller.abort(new Error('interrupted'))
      return
    }
    story.say('Left as it is. The next "npm start" removes it.')
    process.exit(interruptedStatus)
  }
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, listener)
  return {
    signal: controller.signal,
    takingDown: () => {
      inTeardown = true
    }
  }
}
