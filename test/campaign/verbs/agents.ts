// Agents side by side in one process, and what goes between them and the campaign.

import type { DomainEvent } from '../../../src/agent/host/hypervisor.ts'
import { asHostletError } from '../../../src/errors.ts'
import { type Campaigner, type Fixture, openAgent } from './agent.ts'
import { type AgentStart, errorOf, type FromAgents, type ToAgents } from './calls.ts'
import { Dead, Gate } from './gate.ts'
import { RemoteWorld } from './remote.ts'

interface Entry {
  readonly gate: Gate
  readonly world: RemoteWorld
  readonly calls: Map<number, PromiseWithResolvers<unknown>>
  readonly opened: Promise<Campaigner>
}

export interface AgentsOptions {
  readonly fixture: Fixture
  tell(message: FromAgents): void
}

export class Agents {
  readonly #options: AgentsOptions
  readonly #agents = new Map<string, Entry>()
  #calls = 0

  constructor(options: AgentsOptions) {
    this.#options = options
  }

  gateOf(agent: string): Gate | undefined {
    return this.#agents.get(agent)?.gate
  }

  take(message: ToAgents): void {
    if (message.type === 'start') this.#start(message)
    else this.#hand(message, this.#agents.get(message.agent))
  }

  #hand(message: Exclude<ToAgents, { type: 'start' }>, entry: Entry | undefined): void {
    if (entry === undefined) return
    if (message.type === 'event') entry.world.takeEvent(message.event as DomainEvent)
    else if (message.type === 'rules') entry.world.rulesChanged()
    else if (message.type === 'lost') entry.world.jobLost(message.job, errorOf(message.error))
    else if (message.type === 'reply') this.#reply(entry, message)
    else this.#guarded(message.agent, async () => await this.#ask(entry, await entry.opened, message))
  }

  #start(begin: AgentStart): void {
    const { agent, at } = begin
    const { tell, fixture } = this.#options
    const gate = new Gate({
      at,
      onReached: (what) => tell({ type: 'reached', agent, what })
    })
    const calls: Entry['calls'] = new Map()
    const world = new RemoteWorld({
      gate,
      call: (call) => {
        const answer = Promise.withResolvers<unknown>()
        const number = ++this.#calls
        calls.set(number, answer)
        tell({ type: 'call', agent, number, call })
        return answer.promise
      }
    })
    const { promise: opened, resolve, reject } = Promise.withResolvers<Campaigner>()
    this.#agents.set(agent, { gate, world, calls, opened })
    this.#guarded(agent, async () => (await opened).attach())
    openAgent(begin, {
      gate,
      world,
      fixture,
      send: (message) => tell({ type: 'message', agent, message })
    }).then(resolve, reject)
    this.#guarded(agent, async () => tell({ type: 'ready', agent, unfinished: (await opened).unfinished }))
  }

  #reply(entry: Entry, { number, value, error }: Extract<ToAgents, { type: 'reply' }>): void {
    const answer = entry.calls.get(number)
    entry.calls.delete(number)
    if (error === undefined) answer?.resolve(value)
    else answer?.reject(errorOf(error))
  }

  async #ask(
    { gate }: Entry,
    opened: Campaigner,
    message: Extract<ToAgents, { type: 'command' | 'acknowledge' | 'local' | 'finish' }>
  ): Promise<void> {
    const { agent } = message
    if (message.type === 'command') opened.receive(message.jws)
    else if (message.type === 'acknowledge') opened.acknowledge(message.command)
    else if (message.type === 'local') {
      await opened.erase(message.vm)
      this.#options.tell({ type: 'local', agent })
    } else {
      this.#options.tell({ type: 'finished', agent, effects: gate.effects, ...(await opened.finish()) })
    }
  }

  /** A dead agent's faults are nobody's. */
  #guarded(agent: string, work: () => Promise<void>): void {
    work().catch((error) => {
      if (error instanceof Dead || this.gateOf(agent)?.isDead) return
      const { code, message } = asHostletError(error)
      this.#options.tell({ type: 'failed', agent, reason: `${code}: ${message}` })
    })
  }
}
