// One agent of a campaign from its scheduler's side: what it is to do, what it answered, and whether it has come to its end.

import { randomUUID } from 'node:crypto'
import type { CommandResult, CommandSubject } from '../../../src/protocol/command.ts'
import type { AgentMessage } from '../../../src/protocol/messages.ts'
import { claimsOf, type Signer } from '../../support/signed-commands.ts'
import { type AgentStart, type FromAgents, faultOf, type ToAgents } from './calls.ts'
import type { World } from './world.ts'

/** What is asked of an agent, in order; each once the one before has ended, or was acknowledged where that is enough. */
export interface Ask {
  readonly verb: string
  readonly arguments?: Record<string, unknown>
  readonly subject?: CommandSubject
  /** The next one does not wait for its end. */
  readonly untilAcknowledged?: true
  /** Begun by the agent itself. */
  readonly local?: true
}

interface Asked extends Ask {
  readonly id: string
  jws: string | undefined
  acknowledged: boolean
  results: CommandResult[]
}

export type End = { readonly reached: string } | { readonly effects: number; readonly open: number }

export class Run {
  readonly name: string
  readonly directory: string
  readonly world: World
  readonly refusals: string[] = []
  readonly #signer: Signer
  readonly #asked: readonly Asked[]
  readonly #neverReady: boolean
  #send: ((message: ToAgents) => void) | undefined
  #end = Promise.withResolvers<End>()
  #busy: Promise<unknown> = Promise.resolve()
  #finishing = false

  constructor(options: {
    name: string
    directory: string
    world: World
    signer: Signer
    asks: readonly Ask[]
    neverReady?: boolean
  }) {
    this.name = options.name
    this.directory = options.directory
    this.world = options.world
    this.#signer = options.signer
    this.#neverReady = options.neverReady ?? false
    const ids = options.asks.map(() => randomUUID())
    this.#asked = options.asks.map((ask, index) => ({
      ...ask,
      // The id of the first command stands for itself in what follows.
      arguments: Object.fromEntries(
        Object.entries(ask.arguments ?? {}).map(([key, value]) => [key, value === 'FIRST' ? ids[0] : value])
      ),
      id: ids[index] ?? '',
      jws: undefined,
      acknowledged: false,
      results: []
    }))
  }

  /** Of each command the results that came, repeated ones too. */
  get results(): readonly (readonly CommandResult[])[] {
    return this.#asked.filter(({ local }) => local !== true).map(({ results }) => results)
  }

  /** Starts an agent for it in a process; resolves when it is dead or has come to its end. */
  async start(send: (message: ToAgents) => void, at: number | undefined): Promise<End> {
    const { name: agent, directory } = this
    this.#send = send
    this.#end = Promise.withResolvers<End>()
    this.#finishing = false
    this.world.listener = {
      onEvent: (event) => send({ type: 'event', agent, event }),
      onRules: () => send({ type: 'rules', agent }),
      onJobLost: (job, error) => send({ type: 'lost', agent, job, error: faultOf(error) })
    }
    const begin: AgentStart = { agent, directory, at, neverReady: this.#neverReady }
    send({ type: 'start', ...begin })
    return await this.#end.promise
  }

  /** The process is dead: what it had sent is here. Resolves once what it had asked of the world is done. */
  async left(): Promise<void> {
    this.#send = undefined
    this.world.listener = undefined
    await this.#busy
  }

  take(message: FromAgents): void {
    if (message.type === 'call') this.#busy = Promise.all([this.#busy, this.#answer(message)])
    else if (message.type === 'message') this.#takeMessage(message.message)
    else if (message.type === 'ready') this.#goOn()
    else if (message.type === 'local') {
      for (const asked of this.#asked.filter(({ local }) => local === true)) asked.acknowledged = true
      this.#goOn()
    } else if (message.type === 'reached') this.#end.resolve({ reached: message.what })
    else if (message.type === 'finished') this.#end.resolve(message)
    else if (message.type === 'failed') this.#end.reject(new Error(message.reason))
  }

  /** Why it did not end, for a campaign that waited in vain. */
  get state(): string {
    return JSON.stringify(
      this.#asked.map(({ verb, acknowledged, results }) => [verb, acknowledged, results.length])
    )
  }

  giveUp(reason: string): void {
    this.#end.reject(new Error(`${reason}: ${this.state} ${this.refusals.join(' ')}`))
  }

  async #answer({ agent, number, call }: Extract<FromAgents, { type: 'call' }>): Promise<void> {
    const reply = { type: 'reply', agent, number } as const
    try {
      this.#send?.({ ...reply, value: await this.world.call(call) })
    } catch (error) {
      this.#send?.({ ...reply, error: faultOf(error) })
    }
  }

  #takeMessage(message: AgentMessage): void {
    if (message.type === 'ack') this.#find(message.command).acknowledged = true
    if (message.type === 'refusal') this.#refused(message.command, message.error)
    if (message.type !== 'result') {
      if (message.type === 'ack') this.#goOn()
      return
    }
    this.#find(message.result.command).results.push(message.result)
    this.#send?.({ type: 'acknowledge', agent: this.name, command: message.result.command })
    this.#goOn()
  }

  #refused(command: string | undefined, error: { code: string; message: string }): void {
    this.refusals.push(`${error.code} ${error.message}`)
    const now = Date.now()
    // A refusal is an end as well.
    if (command !== undefined)
      this.#find(command).results.push({
        command,
        outcome: 'failed',
        error,
        startedAt: now,
        finishedAt: now
      } as CommandResult)
    this.#goOn()
  }

  /** As a scheduler does it: what was not acknowledged is sent again, what was is waited for. */
  #goOn(): void {
    for (const asked of this.#asked) {
      const over = asked.results.length > 0 || (asked.local === true && asked.acknowledged)
      if (!over && !asked.acknowledged) void this.#ask(asked)
      if (!over && !(asked.untilAcknowledged && asked.acknowledged)) return
    }
    if (this.#finishing || !this.#asked.every(({ results, local }) => local === true || results.length > 0))
      return
    this.#finishing = true
    this.#send?.({ type: 'finish', agent: this.name })
  }

  async #ask(asked: Asked): Promise<void> {
    const send = this.#send
    if (asked.local === true)
      return send?.({ type: 'local', agent: this.name, vm: String(asked.arguments?.vm) })
    const { id, verb, subject } = asked
    const claims = claimsOf(Date.now(), { id, verb, arguments: asked.arguments ?? {} })
    const { subject: _none, ...without } = claims
    asked.jws ??= await this.#signer.sign({ ...without, ...(subject && { subject }) })
    send?.({ type: 'command', agent: this.name, jws: asked.jws })
  }

  #find(command: string): Asked {
    const asked = this.#asked.find(({ id }) => id === command)
    if (asked === undefined) throw new Error(`${this.name}: an answer to the unknown command ${command}`)
    return asked
  }
}
