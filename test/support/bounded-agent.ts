// An agent in a process of its own, so that its memory can be measured. Argument: its configuration.

import { startAgent } from '../../src/agent/app.ts'
import { loadAgentConfig } from '../../src/agent/config.ts'
import { MemoryNft } from '../../src/agent/firewall/memory-nft.ts'
import { MemoryHypervisor } from '../../src/agent/host/memory-hypervisor.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { createLogger } from '../../src/lib/log-output.ts'

const log = createLogger({ format: 'json', level: 'error', stream: { write: () => undefined } })
const hypervisor = new MemoryHypervisor({ clock: systemClock })
const agent = await startAgent(loadAgentConfig(String(process.argv[2]), {}), {
  ...{ hypervisor, log, nft: new MemoryNft() }
})
process.send?.({ started: true })
process.once('message', async () => {
  await agent.stop()
  process.disconnect?.()
})
