// A process of many agents, each with its own directories: they are killed together, each at the effect that it waits at.

import { readFileSync } from 'node:fs'
import type { DomainEvent } from '../../../src/agent/host/hypervisor.ts'
import { asHostletError } from '../../../src/errors.ts'
import { type Campaigner, type Fixture, openAgent } from './agent.ts'
import { type AgentStart, errorOf, type FromAgents, type ToAgents } from './calls.ts'
import { gateFiles } from './files.ts'
import { Dead, Gate } from './gate.ts'
import { RemoteWorld } from './remote.ts'

interface Entry {
  readonly gate: Gate
  readonly world: RemoteWorld
  readonly calls: Map<number, PromiseWithResolvers<unknown>>
  opened: Promise<Campaigner>
}

const agents = new Map<string, Entry>()
let calls = 0

gateFiles((agent) => agents.get(agent)?.gate)
const fixture = JSON.parse(readFileSync(String(process.argv[2]), 'utf8')) as Fixture

function tell(message: FromAgents): void {
  process.send?.(message)
}

// What a dead agent throws where nobody waits for it is no fault.
for (const name of ['unhandledRejection', 'uncaughtException'] as const)
  process.on(name, (error) => {
    if (!(error instanceof Dead))
      tell({ type: 'failed', agent: '', reason: String((error as Error)?.stack ?? error) })
  })

function start(begin: AgentStart): void {
  const { agent, at } = begin
  const gate = new Gate({ at, onReached: (what) => tell({ type: 'reached', agent, what }) })
  const waiting: Entry['calls'] = new Map()
  const world = new RemoteWorld({
    gate,
    call: (call) => {
      const answer = Promise.withResolvers<unknown>()
      const number = ++calls
      waiting.set(number, answer)
      tell({ type: 'call', agent, number, call })
      return answer.promise
    }
  })
  const entry: Entry = { gate, world, calls: waiting, opened: Promise.reject(new Error('not begun')) }
  entry.opened.catch(() => undefined)
  agents.set(agent, entry)
  entry.opened = openAgent(begin, {
    gate,
    world,
    fixture,
    send: (message) => tell({ type: 'message', agent, message })
  })
  guarded(agent, async () => {
    const opened = await entry.opened
    opened.attach()
    tell({ type: 'ready', agent, unfinished: opened.unfinished })
  })
}

/** A dead agent's faults are nobody's. */
function guarded(agent: string, work: () => Promise<void>): void {
  work().catch((error) => {
    if (error instanceof Dead || agents.get(agent)?.gate.isDead) return
    tell({ type: 'failed', agent, reason: `${asHostletError(error).message} ${(error as Error).stack}` })
  })
}

process.on('message', (message: ToAgents) => {
  if (message.type === 'start') return start(message)
  const { agent } = message
  const entry = agents.get(agent)
  if (entry === undefined) return
  if (message.type === 'event') entry.world.takeEvent(message.event as DomainEvent)
  else if (message.type === 'rules') entry.world.rulesChanged()
  else if (message.type === 'lost') entry.world.jobLost(message.job, errorOf(message.error))
  else if (message.type === 'reply') {
    const answer = entry.calls.get(message.number)
    entry.calls.delete(message.number)
    if (message.error === undefined) answer?.resolve(message.value)
    else answer?.reject(errorOf(message.error))
  } else
    guarded(agent, async () => {
      const opened = await entry.opened
      if (message.type === 'command') opened.receive(message.jws)
      else if (message.type === 'acknowledge') opened.acknowledge(message.command)
      else if (message.type === 'local') {
        await opened.erase(message.vm)
        tell({ type: 'local', agent })
      } else {
        const open = await opened.finish()
        tell({ type: 'finished', agent, effects: entry.gate.effects, open })
      }
    })
})
