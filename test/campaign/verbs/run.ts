// One agent of a campaign from its scheduler's side: what it is to do, what it answered, and whether it has come to its end.

import { randomUUID } from 'node:crypto'
import type { CommandResult, CommandSubject } from '../../../src/protocol/command.ts'
import type { AgentMessage } from '../../../src/protocol/messages.ts'
import { claimsOf, type Signer } from '../../support/signed-commands.ts'
import type { Finish } from './agent.ts'
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

export interface Asked extends Ask {
  readonly id: string
  jws: string | undefined
  acknowledged: boolean
  results: CommandResult[]
}

export type End = { readonly reached: string } | ({ readonly effects: number } & Finish)

export interface RunOptions {
  readonly name: string
  readonly directory: string
  readonly world: World
  readonly neverReady?: boolean
  /** It does not end when it has done what was asked: more will be. */
  readonly stays?: boolean
  readonly signer: Signer
  readonly asks: readonly Ask[]
}

/** Refusals after which a scheduler sends the command again: a host under load may take long to look. */
const comesAgain: ReadonlySet<string> = new Set(['E_UNAVAILABLE', 'E_BUSY'])
const againMs = 500

export class Run {
  readonly name: string
  readonly directory: string
  readonly world: World
  readonly refusals: string[] = []
  readonly #signer: Signer
  readonly #asked: Asked[]
  readonly #waiting = new Map<string, (result: CommandResult) => void>()
  readonly #ready = Promise.withResolvers<void>()
  /** The scheduler's own clock. */
  now = Date.now
  readonly #neverReady: boolean
  readonly #stays: boolean
  readonly #sent = new Set<string>()
  #send: ((message: ToAgents) => void) | undefined
  #end = Promise.withResolvers<End>()
  #busy: Promise<unknown> = Promise.resolve()
  #finishing = false

  constructor(options: RunOptions) {
    this.name = options.name
    this.directory = options.directory
    this.world = options.world
    this.#neverReady = options.neverReady ?? false
    this.#stays = options.stays ?? false
    this.#asked = askedOf(options)
    this.#signer = options.signer
  }

  /** The agent is there. */
  get ready(): Promise<void> {
    return this.#ready.promise
  }

  /** Asks one thing more of the agent, beside whatever else runs; resolves with its end. */
  async ask(ask: Ask): Promise<CommandResult> {
    const [asked] = askedOf({ asks: [ask], directory: this.directory })
    if (asked === undefined) throw new Error('nothing is asked')
    this.#asked.push(asked)
    const ended = new Promise<CommandResult>((resolve) => this.#waiting.set(asked.id, resolve))
    await this.#ask(asked)
    return await ended
  }

  /** Of each thing that was asked: how it was told to have ended, where that is told. */
  get asked(): readonly Readonly<Asked>[] {
    return this.#asked
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
    this.#sent.clear()
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
    else if (message.type === 'ready') {
      this.#ready.resolve()
      if (!this.#stays) this.#goOn()
    } else if (message.type === 'local') {
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
    this.#waiting.get(message.result.command)?.(message.result)
    this.#send?.({ type: 'acknowledge', agent: this.name, command: message.result.command })
    this.#goOn()
  }

  #refused(command: string | undefined, error: { code: string; message: string }): void {
    this.refusals.push(`${error.code} ${error.message}`)
    if (command === undefined) return
    if (comesAgain.has(error.code) && !this.#stays)
      return void setTimeout(() => this.#again(command), againMs)
    // A refusal is an end as well.
    const now = this.now()
    const result: CommandResult = {
      command,
      outcome: 'failed',
      error: error as NonNullable<CommandResult['error']>,
      startedAt: now,
      finishedAt: now
    }
    this.#find(command).results.push(result)
    this.#waiting.get(command)?.(result)
    this.#goOn()
  }

  #again(command: string): void {
    this.#sent.delete(command)
    this.#goOn()
  }

  /** As a scheduler does it: to each new run of the agent everything is sent again that has not ended. */
  #goOn(): void {
    if (this.#stays) return
    for (const asked of this.#asked) {
      const over = asked.results.length > 0 || (asked.local === true && asked.acknowledged)
      if (!over && !this.#sent.has(asked.id)) void this.#ask(asked)
      if (!over && !(asked.untilAcknowledged && asked.acknowledged)) return
    }
    if (this.#finishing || !this.#asked.every(({ results, local }) => local === true || results.length > 0))
      return
    this.#finishing = true
    this.#send?.({ type: 'finish', agent: this.name })
  }

  async #ask(asked: Asked): Promise<void> {
    const send = this.#send
    this.#sent.add(asked.id)
    if (asked.local === true)
      return send?.({ type: 'local', agent: this.name, vm: String(asked.arguments?.vm) })
    const { id, verb, subject } = asked
    const claims = claimsOf(this.now(), { id, verb, arguments: asked.arguments ?? {} })
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

function askedOf({ asks, directory }: { asks: readonly Ask[]; directory: string }): Asked[] {
  const ids = asks.map(() => randomUUID())
  return asks.map((ask, index) => ({
    ...ask,
    arguments: filled(ask.arguments ?? {}, { FIRST: ids[0] ?? '', DIRECTORY: directory }),
    id: ids[index] ?? '',
    jws: undefined,
    acknowledged: false,
    results: []
  }))
}

/** What only this run knows, put where the table names it: the id of its first command, its directory. */
function filled(
  args: Readonly<Record<string, unknown>>,
  places: Readonly<Record<string, string>>
): Record<string, unknown> {
  const put = (value: unknown) =>
    typeof value === 'string' ? value.replace(/FIRST|DIRECTORY/, (name) => places[name] ?? name) : value
  return Object.fromEntries(Object.entries(args).map(([key, value]) => [key, put(value)]))
}
