// Runs the table: each scenario once undisturbed, to count its effects, and then once for each of them, killed after it.

import { createHash } from 'node:crypto'
import { cpSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DiskKeys } from '../../../src/agent/keys/disk-keys.ts'
import { HostKey } from '../../../src/agent/keys/host-key.ts'
import { createPrivateKey, publicHalf } from '../../../src/agent/keys/jwk.ts'
import { verbs } from '../../../src/agent/verbs/registry.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import type { CommandResult } from '../../../src/protocol/command.ts'
import { createSigner, hostId, type Signer } from '../../support/signed-commands.ts'
import { TestAuthority, trustDomain } from '../../support/test-authority.ts'
import { type Fixture, writePolicy } from './agent.ts'
import { difference, digestOf } from './digest.ts'
import { AgentProcess } from './process.ts'
import { type Ask, type End, Run } from './run.ts'
import {
  type Images,
  type Making,
  makingOf,
  type Scenario,
  type State,
  scenariosOf,
  states
} from './scenarios.ts'
import { toldOf } from './trail.ts'
import { World } from './world.ts'

/** Agents that die together. As many recover beside them. */
const togetherMax = 24
/** Every so manieth kill is followed by another one while its agent recovers. */
const secondKillEvery = 7
const blockBytes = 65_536

interface Host {
  readonly directory: string
  readonly world: World
}

/** How a scenario ends when nobody disturbs it. */
export interface Undisturbed {
  readonly effects: number
  readonly before: readonly string[]
  readonly after: readonly string[]
  readonly happened: readonly string[]
  readonly results: readonly string[]
  readonly draining: boolean
}

interface Task {
  readonly scenario: Scenario
  readonly at: number
  /** An effect of the recovery after which it is killed again. */
  readonly second: number | undefined
}

interface Dying extends Task {
  readonly run: Run
  readonly reached: string[]
}

export interface Tally {
  readonly scenario: Scenario
  readonly undisturbed: Undisturbed
  /** Effects after which it was killed, and kills in all. */
  points: number
  kills: number
  readonly faults: string[]
}

/** Every so manieth of the points, from that one on. */
export interface Sample {
  readonly stride: number
  readonly first: number
}

export class Campaign implements AsyncDisposable {
  readonly tallies = new Map<string, Tally>()
  readonly #processes: AgentProcess[] = []
  readonly #directory: string
  readonly #fixturePath: string
  readonly fixture: Fixture
  readonly signer: Signer
  readonly images: Images
  readonly #hosts = new Map<State, Host>()
  /** Keys that the host of the state `keyless` has lost. */
  readonly #lost: { id: string; jwe: string }[] = []
  #made = 0

  private constructor(options: { directory: string; fixture: Fixture; signer: Signer; images: Images }) {
    this.#directory = options.directory
    this.fixture = options.fixture
    this.signer = options.signer
    this.images = options.images
    this.#fixturePath = join(options.directory, 'fixture.json')
    writeFileSync(this.#fixturePath, JSON.stringify(options.fixture), { mode: 0o600 })
  }

  static async create(directory: string): Promise<Campaign> {
    const images = join(directory, 'images')
    mkdirSync(images)
    mkdirSync(join(directory, 'agents'), { recursive: true })
    const authority = await TestAuthority.create()
    const { cert: certificate, key } = await authority.issue({
      uris: [`spiffe://${trustDomain}/host/${hostId}`]
    })
    const signer = await createSigner()
    const fixture: Fixture = {
      identity: { certificate, key, caCertificate: authority.certificate, trustDomain },
      commandKey: signer.publicKey,
      recovery: publicHalf(await createPrivateKey()),
      images
    }
    return new Campaign({
      directory,
      fixture,
      signer,
      images: { first: image(images, 'first'), second: image(images, 'second') }
    })
  }

  get scenarios(): readonly Scenario[] {
    return scenariosOf(this.images)
  }

  /** Makes the hosts that scenarios begin with, and runs each scenario once. */
  async prepare(scenarios: readonly Scenario[]): Promise<void> {
    const agents = this.process()
    const makings = makingOf(this.images)
    for (const state of statesFor(scenarios, makings)) {
      const { from, asks, guestWrites = [], losesKeys, afterwards } = makings[state]
      const run = await this.runOn(from, { name: `make-${state.toLowerCase()}`, asks })
      await this.#whole(await agents.start(run), run)
      const failed = run.results.flat().find(({ outcome }) => outcome !== 'done')
      if (failed !== undefined) throw new Error(`${run.name}: ${JSON.stringify(failed.error)}`)
      for (const block of guestWrites) {
        const bytes = new Uint8Array(blockBytes).fill(block + 1)
        const args = ['web-1', 'root', block * blockBytes, bytes]
        await run.world.call({ port: 'hypervisor', method: 'writeAsGuest', args })
      }
      if (losesKeys) await this.#loseKeys(run)
      await afterwards?.(run.world)
      this.#hosts.set(state, run)
    }
    // Until what is kept for a day of the campaign is due.
    await new Promise((resolve) => setTimeout(resolve, 1_100))
    await Promise.all(scenarios.map((scenario) => this.#undisturbed(scenario, agents)))
    await agents.kill()
  }

  /** Kills at every so manieth point of each scenario, many at a time. */
  async killAll(sample: Sample): Promise<void> {
    const tasks = interleaved([...this.tallies.values()].map((tally, index) => tasksOf(tally, sample, index)))
    let recovering: Dying[] = []
    let next = this.process()
    while (tasks.length + recovering.length > 0) {
      const agents = next
      next = this.process()
      const dying = await Promise.all(tasks.splice(0, togetherMax).map((task) => this.#begin(task)))
      const again = await Promise.all([
        ...dying.map((each) => this.#die(each, each.at, agents)),
        ...recovering.map((each) => this.#recover(each, agents))
      ])
      await agents.kill()
      recovering = again.filter((each) => each !== undefined)
    }
    await next.kill()
  }

  async #undisturbed(scenario: Scenario, agents: AgentProcess): Promise<void> {
    const run = await this.#runOf(scenario)
    const before = await digestOf(run.world, run.directory)
    const { effects, draining } = await this.#whole(await agents.start(run), run)
    const failed = run.results.flat().find(({ outcome }) => outcome !== 'done')
    if (failed !== undefined && scenario.cancels !== true)
      throw new Error(`${scenario.name}: ${JSON.stringify(failed.error)}`)
    const undisturbed = {
      effects,
      before,
      after: await digestOf(run.world, run.directory),
      happened: [...run.world.happened],
      results: run.results.map(([result]) => brief(result)),
      draining
    }
    this.tallies.set(scenario.name, { scenario, undisturbed, points: 0, kills: 0, faults: [] })
  }

  async #begin(task: Task): Promise<Dying> {
    return { ...task, run: await this.#runOf(task.scenario), reached: [] }
  }

  /** Undefined where it came to its end before the point. */
  async #die(dying: Dying, at: number, agents: AgentProcess): Promise<Dying | undefined> {
    return await this.#noted(dying, async () => {
      const end = await agents.start(dying.run, at)
      if ('effects' in end) return void (await this.#judge(dying, end))
      dying.reached.push(`${at}: ${end.reached}`)
      this.#tally(dying).kills++
      return dying
    })
  }

  /** Defined where it was killed once more. */
  async #recover(dying: Dying, agents: AgentProcess): Promise<Dying | undefined> {
    if (dying.second !== undefined && dying.reached.length === 1)
      return await this.#die(dying, dying.second, agents)
    return await this.#noted(
      dying,
      async () => void (await this.#judge(dying, await agents.start(dying.run)))
    )
  }

  async #noted(dying: Dying, work: () => Promise<Dying | undefined>): Promise<Dying | undefined> {
    try {
      const left = await work()
      if (left === undefined) rmSync(dying.run.directory, { recursive: true })
      return left
    } catch (error) {
      this.#fault(dying, String(error))
      return undefined
    }
  }

  async #judge(dying: Dying, end: End): Promise<void> {
    const { run, scenario } = dying
    const { undisturbed } = this.#tally(dying)
    this.#tally(dying).points++
    if (!('effects' in end)) return this.#fault(dying, 'the agent died where it was not to')
    if (end.open > 0) this.#fault(dying, `${end.open} operations or results are left open`)
    if (end.draining !== undisturbed.draining)
      this.#fault(dying, `the host takes ${end.draining ? 'no new work' : 'work'}`)
    for (const what of faultsOfTrail(run)) this.#fault(dying, what)
    for (const results of run.results) {
      const different = new Set(results.map((result) => JSON.stringify(result)))
      if (different.size !== 1) this.#fault(dying, `${different.size} results: ${[...different].join(' ')}`)
    }
    const results = run.results.map(([result]) => brief(result))
    const rolledBack = results.some((result) =>
      (scenario.mayFail ?? []).some((code) => result.includes(code))
    )
    if (!rolledBack && results.join() !== undisturbed.results.join())
      this.#fault(
        dying,
        `ended with ${results.join()} instead of ${undisturbed.results.join()}: ${JSON.stringify(run.results)}`
      )
    const after = await digestOf(run.world, run.directory)
    // The network of a profile is of all its VMs, and stays when one of them is taken back.
    const kept = (line: string) => scenario.cancels !== true || !/^. network /.test(line)
    const differs = difference(rolledBack ? undisturbed.before : undisturbed.after, after).filter(kept)
    if (differs.length > 0) this.#fault(dying, differs.join('\n    '))
    const happened = effectsOf(run.world.happened)
    const expected = effectsOf(undisturbed.happened)
    // Where it was undone nobody knows how much of it had happened, which was not more than once.
    if (rolledBack ? !expected.startsWith(happened) : happened !== expected)
      this.#fault(dying, `what happened: ${happened} instead of ${expected}`)
  }

  #fault(dying: Dying, what: string): void {
    const points = [dying.at, dying.second].join(' ')
    this.#tally(dying).faults.push(`${points}: killed after ${dying.reached.join(' and after ')}: ${what}`)
  }

  #tally({ scenario }: Task): Tally {
    const tally = this.tallies.get(scenario.name)
    if (tally === undefined) throw new Error(`${scenario.name} was not run undisturbed`)
    return tally
  }

  async #runOf({ state, asks, neverReady }: Scenario): Promise<Run> {
    const known = asks.map((ask) =>
      ask.verb === 'vm.adopt-keys' ? { ...ask, arguments: { ...ask.arguments, keys: this.#lost } } : ask
    )
    return await this.runOn(state, {
      name: `a${++this.#made}`,
      asks: known,
      ...(neverReady && { neverReady })
    })
  }

  async runOn(
    from: State | undefined,
    options: {
      readonly name: string
      readonly asks: readonly Ask[]
      readonly neverReady?: boolean
      readonly stays?: true
    }
  ): Promise<Run> {
    const directory = join(this.#directory, 'agents', options.name)
    const origin = from === undefined ? undefined : this.#hosts.get(from)
    if (from !== undefined && origin === undefined) throw new Error(`there is no host that is ${from}`)
    if (origin === undefined) {
      for (const name of ['state', 'policy', 'repository', 'exports'])
        mkdirSync(join(directory, name), { recursive: true, mode: 0o700 })
    } else cpSync(origin.directory, directory, { recursive: true })
    writePolicy(directory, this.fixture)
    const world = (await origin?.world.copy(origin.directory, directory)) ?? new World(directory)
    return new Run({ ...options, directory, world, signer: this.signer })
  }

  /** What an operator with the recovery key has, once the host has lost the keys of its disks. */
  async #loseKeys({ directory, world }: Run): Promise<void> {
    const wait = { signal: AbortSignal.timeout(30_000) }
    const stateDirectory = join(directory, 'state')
    const hostKey = await HostKey.open({ stateDirectory, clock: systemClock })
    const keys = join(stateDirectory, 'keys')
    const disks = new DiskKeys({ directory: keys, hostKey: () => hostKey, clock: systemClock })
    await disks.prepare()
    const [record] = await world.hypervisor.listVms(wait)
    for (const id of [record?.placement.rootKey, record?.placement.dataKey])
      if (id !== undefined) this.#lost.push({ id, jwe: await hostKey.seal(await disks.unwrap(id, wait)) })
    for (const name of readdirSync(keys)) rmSync(join(keys, name))
  }

  async #whole(end: End, run: Run): Promise<Extract<End, { effects: number }>> {
    if (!('effects' in end)) throw new Error(`${run.name} died`)
    if (end.open > 0) throw new Error(`${run.name} left ${end.open} things open`)
    return end
  }

  /** How many were killed with all agents in them. */
  get processes(): number {
    return this.#processes.length
  }

  /** Nothing of it runs on, wherever it came to an end. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#processes.map((each) => each.kill()))
  }

  /** Another one for agents to live in. */
  process(): AgentProcess {
    const made = new AgentProcess(this.#fixturePath)
    this.#processes.push(made)
    return made
  }
}

/** Others in each scenario, so that what is common to all is met at all its points. */
function tasksOf({ scenario, undisturbed }: Tally, { stride, first }: Sample, index: number): Task[] {
  const tasks: Task[] = []
  const every = stride * (scenario.stride ?? 1)
  for (let at = (first + index) % every; at <= undisturbed.effects; at += every)
    tasks.push({ scenario, at, second: at % secondKillEvery === 3 ? 1 + ((at * 5) % 11) : undefined })
  return tasks
}

/** What the scenarios begin with, and what that is made of. */
function statesFor(scenarios: readonly Scenario[], makings: Readonly<Record<State, Making>>): State[] {
  const needed = new Set<State>()
  for (const { state } of scenarios)
    for (let each: State | undefined = state; each !== undefined; each = makings[each].from) needed.add(each)
  return states.filter((state) => needed.has(state))
}

/** A definition may be written twice, which is all the same; a machine may not be switched twice. */
function effectsOf(happened: readonly string[]): string {
  return happened.filter((each) => !each.startsWith('defined')).join()
}

/** Costly scenarios are spread among the others. */
function interleaved<Value>(lists: readonly Value[][]): Value[] {
  const placed = lists.flatMap((list) => list.map((value, index) => ({ value, place: index / list.length })))
  return placed.sort((left, right) => left.place - right.place).map(({ value }) => value)
}

/** Each command is there with its decision, and what was journaled with its end, as it was told. */
function faultsOfTrail({ asked, directory }: Run): string[] {
  const told = toldOf(directory)
  return asked.flatMap(({ id, verb, local, results }) => {
    if (local === true) return []
    const lines = told.get(id) ?? []
    const ends = lines.filter((line) => line === 'done' || line === 'failed')
    const isJournaled = verbs.find(({ name }) => name === verb)?.lock !== 'none'
    const isWhole =
      lines.includes('accepted') &&
      (ends.length > 0 || !isJournaled) &&
      ends.every((end) => end === results[0]?.outcome)
    return isWhole ? [] : [`the audit trail tells of ${verb}: ${lines.join()}`]
  })
}

function brief(result: CommandResult | undefined): string {
  return result?.outcome === 'done' ? 'done' : `${result?.error?.code}`
}

function image(directory: string, name: string): Images['first'] {
  const content = Buffer.alloc(64 * 1024, `${name} image `)
  const path = join(directory, `${name}.img`)
  writeFileSync(path, content)
  return { url: `file://${path}`, sha256: createHash('sha256').update(content).digest('hex'), format: 'raw' }
}
