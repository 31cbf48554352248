// The agent of one host of the fleet that is cut apart: joins, and runs until it is told to stop. Argument: what it needs, as JSON.

import { appendFileSync } from 'node:fs'
import { startAgent } from '../../../src/agent/app.ts'
import { loadAgentConfig } from '../../../src/agent/config.ts'
import { MemoryNft } from '../../../src/agent/firewall/memory-nft.ts'
import { MemoryHypervisor } from '../../../src/agent/host/memory-hypervisor.ts'
import { enroll } from '../../../src/agent/identity/enroll.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { createLogger } from '../../../src/lib/log-output.ts'

export interface HostTask {
  readonly hostname: string
  readonly schedulerUrl: string
  readonly token: string
  readonly caHash: string
  readonly config: string
  readonly logFile: string
}

const task = JSON.parse(String(process.argv[2])) as HostTask
const { hostname, schedulerUrl, token, caHash, logFile } = task
const config = loadAgentConfig(task.config, {})
const { stateDirectory } = config
await enroll({ schedulerUrl, token, caHash, stateDirectory, hostname })
const hypervisor = new MemoryHypervisor({ clock: systemClock })
const log = createLogger({
  format: 'json',
  level: 'debug',
  stream: { write: (line) => appendFileSync(logFile, line) }
})
const agent = await startAgent(config, {
  hypervisor,
  nft: new MemoryNft(),
  log,
  // It tries again soon, for the test's sake, and not all the while.
  random: () => 0.1
})
process.send?.({ hostId: agent.hostId })
process.on('message', async (word) => {
  if (word === 'calls') process.send?.(hypervisor.calls)
  if (word !== 'stop') return
  await agent.stop()
  process.disconnect?.()
})
