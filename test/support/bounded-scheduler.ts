// A scheduler in a process of its own, so that its memory can be measured. Argument: its directory.

import { readFileSync } from 'node:fs'
import { systemClock } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { startScheduler } from '../../src/scheduler/app.ts'
import { defaultConfig } from '../scheduler/support/test-scheduler.ts'

const scheduler = await startScheduler(defaultConfig(String(process.argv[2])), {
  clock: systemClock,
  log: silentLogger
})
process.send?.({
  url: scheduler.url,
  caFile: scheduler.caFile,
  key: readFileSync(scheduler.adminKeyFile, 'utf8').trim()
})
process.once('message', async () => {
  await scheduler.stop()
  process.disconnect?.()
})
