// A process of many agents, each with its own directories: they are killed together, each at the effect that it waits at.

import { readFileSync } from 'node:fs'
import type { Fixture } from './agent.ts'
import { Agents } from './agents.ts'
import type { FromAgents, ToAgents } from './calls.ts'
import { gateFiles } from './files.ts'
import { Dead } from './gate.ts'

const tell = (message: FromAgents) => void process.send?.(message)
const fixture = JSON.parse(readFileSync(String(process.argv[2]), 'utf8')) as Fixture
const agents = new Agents({ fixture, tell })

gateFiles((agent) => agents.gateOf(agent))
process.on('message', (message: ToAgents) => agents.take(message))
// What a dead agent throws where nobody waits for it is no fault.
for (const name of ['unhandledRejection', 'uncaughtException'] as const)
  process.on(name, (error) => {
    if (!(error instanceof Dead))
      tell({ type: 'failed', agent: '', reason: String((error as Error)?.stack ?? error) })
  })
