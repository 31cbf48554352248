// A fleet in one process, from its first moment to its rest: one seed, one course of events.

import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { HostletError } from '../../src/errors.ts'
import { enterWorld } from './determinism.ts'
import { checkAtRest, type Rest, unrest, viewsAgree, viewsMsMax } from './final-checks.ts'
import type { Fixtures } from './fixtures.ts'
import { happenings, replayAll } from './happenings.ts'
import { HostMachine } from './host-machine.ts'
import { Network } from './network.ts'
import { type Plan, troubleMs } from './plan.ts'
import { BrokenPromise, Promises } from './promises.ts'
import { Random } from './random.ts'
import { SchedulerMachine } from './scheduler-machine.ts'
import { Trace } from './trace.ts'
import { epochMs, VirtualTime } from './virtual-time.ts'

/** From the end of the trouble to rest, at the latest. */
const restMsMax = 30 * 60_000
const lookMs = 5_000
/** For inventories and events that are on their way. */
const lingerMs = 3_000
/** After this no command may be begun, whatever the clocks. */
const expiredMs = 150_000
const stepsMax = 200_000
const boundsEverySteps = 64

export interface WorldOptions {
  readonly fixtures: Fixtures
  readonly plan: Plan
  /** Keeps the lines of the trace. */
  readonly keepTrace?: boolean
}

export interface WorldResult {
  readonly plan: Plan
  readonly broken: BrokenPromise | undefined
  readonly hash: string
  readonly lines: readonly string[]
  readonly counts: ReadonlyMap<string, number>
  readonly steps: number
  /** Commands that the scheduler signed. */
  readonly commands: number
  readonly virtualMs: number
}

export class World {
  readonly plan: Plan
  readonly fixtures: Fixtures
  readonly time = new VirtualTime()
  readonly random: Random
  readonly trace: Trace
  readonly network: Network
  readonly promises: Promises
  readonly machines: readonly HostMachine[]
  readonly scheduler: SchedulerMachine
  /** Revoked, and not joined again yet. */
  readonly enrolling = new Set<HostMachine>()
  /** Faults come no more. */
  isHealing = false
  readonly #directory: string
  #broken: BrokenPromise | undefined
  #steps = 0

  constructor({ fixtures, plan, keepTrace = false }: WorldOptions) {
    const { time } = this
    this.plan = plan
    this.fixtures = fixtures
    this.random = new Random(plan.seed + 1)
    this.trace = new Trace({ keep: keepTrace, now: () => time.elapsed })
    enterWorld({
      random: this.random,
      now: () => epochMs + time.elapsed,
      after: (ms, callback) => time.after(ms, callback),
      open: (path, flags, mode) => {
        const machine = this.machines.find(({ statePath }) => path.startsWith(statePath))
        if (machine === undefined) throw new Error(`${path} is of no machine`)
        return machine.disk.open(path, flags, mode)
      }
    })
    const { random, trace } = this
    this.network = new Network({ time, random, trace })
    this.promises = new Promises({
      time,
      network: this.network,
      onBroken: (error) => {
        this.#broken ??= error
        trace.note('world', `BROKEN ${error.message}`)
      }
    })
    const { network, promises } = this
    this.#directory = join(fixtures.directory, `world-${plan.seed}`)
    rmSync(this.#directory, { recursive: true, force: true })
    mkdirSync(this.#directory)
    const common = { fixtures, time, network, trace, promises }
    this.scheduler = new SchedulerMachine({
      ...common,
      directory: join(this.#directory, 'scheduler'),
      onDied: () => this.later(random.between(500, 20_000), () => this.scheduler.start())
    })
    this.machines = plan.hosts.map((name) => {
      const machine: HostMachine = new HostMachine({
        ...{ ...common, name, random, directory: join(this.#directory, name) },
        syncMsMax: plan.syncMsMax,
        onDied: () => this.restartAgent(machine),
        onPowerLost: () => this.restorePower(machine)
      })
      return machine
    })
  }

  async run(): Promise<WorldResult> {
    try {
      await this.#live()
    } catch (error) {
      this.#broken ??=
        error instanceof BrokenPromise ? error : new BrokenPromise('noBug', String((error as Error).stack))
    } finally {
      for (const machine of this.machines) machine.killAgent()
      this.scheduler.kill()
      // What was awake to the last moment goes to sleep in its own world.
      await settle()
      rmSync(this.#directory, { recursive: true, force: true })
    }
    const { plan, trace, time } = this
    return {
      plan,
      broken: this.#broken,
      hash: trace.digest(),
      lines: trace.lines,
      counts: trace.counts,
      steps: this.#steps,
      commands: this.promises.commands,
      virtualMs: time.elapsed
    }
  }

  /** Something that the world itself does: an error of it is one of the product. */
  later(ms: number, work: () => unknown): void {
    this.time.after(ms, () => this.own(work))
  }

  own(work: () => unknown): void {
    const report = (error: unknown) => {
      const text = error instanceof Error ? `${error.stack}` : String(error)
      this.promises.break('noBug', text)
    }
    try {
      Promise.resolve(work()).catch(report)
    } catch (error) {
      report(error)
    }
  }

  restartAgent(machine: HostMachine, withinMs = 15_000): void {
    this.later(this.random.between(100, withinMs), () => machine.startAgent())
  }

  restorePower(machine: HostMachine): void {
    this.later(this.random.between(1_000, 20_000), () => {
      machine.libvirtd.start()
      return machine.startAgent()
    })
  }

  /** A person asks; errors that have a code are answers. */
  ask(...question: Parameters<SchedulerMachine['ask']>): void {
    const [line, { params = {}, body = {} } = {}] = question
    this.trace.note('user', `${line} ${JSON.stringify({ ...params, ...(body as object) })}`)
    this.own(async () => {
      try {
        await this.scheduler.ask(...question)
        this.trace.count(`asked: ${question[0]}`)
      } catch (error) {
        if (!(error instanceof HostletError) || error.code === 'E_INTERNAL') throw error
        this.trace.note('user', `refused: ${error.code} ${error.message}`)
      }
    })
  }

  async #live(): Promise<void> {
    const { scheduler, machines, plan } = this
    scheduler.start()
    for (const machine of machines) {
      await machine.prepare()
      await scheduler.enroll(machine.hostId, epochMs)
      machine.libvirtd.weather = plan.weather
      this.later(this.random.between(0, 500), () => machine.startAgent())
    }
    for (const event of plan.events)
      this.later(event.at, () => {
        if (!this.isHealing) happenings[event.kind](this, new Random(event.seed))
      })
    await this.#advance(troubleMs)
    this.#heal()
    await this.#rest()
  }

  async #rest(): Promise<void> {
    const { promises, scheduler } = this
    const until = this.time.elapsed + restMsMax
    let quietSince: number | undefined
    for (;;) {
      await this.#advance(this.time.elapsed + lookMs)
      if (this.#broken !== undefined) return
      const { store } = scheduler
      if (store === undefined || this.enrolling.size > 0) continue
      const rest = { promises, store, machines: this.machines }
      const why = await unrest(rest)
      quietSince = why === undefined ? (quietSince ?? this.time.elapsed) : undefined
      const isLate = quietSince !== undefined && this.time.elapsed - quietSince > viewsMsMax
      if (quietSince !== undefined && (isLate || (await viewsAgree(rest)))) {
        await this.#advance(this.time.elapsed + lingerMs)
        this.trace.note('world', 'rests')
        await checkAtRest(rest)
        if (this.plan.isReplayed && this.#broken === undefined) await this.#replay(rest)
        return
      }
      if (why !== undefined && this.time.elapsed > until) return promises.break('comesToRest', why)
    }
  }

  /** By now every command has expired: whether it was taken or refused, it does nothing more. */
  async #replay(rest: Rest): Promise<void> {
    await this.#advance(this.time.elapsed + expiredMs)
    replayAll(this)
    await this.#advance(this.time.elapsed + lingerMs)
    if (this.#broken !== undefined) return
    const why = await unrest(rest)
    if (why !== undefined) this.promises.break('comesToRest', why)
    else await checkAtRest(rest)
  }

  #heal(): void {
    this.trace.note('world', 'heals')
    this.isHealing = true
    for (const machine of this.machines) {
      machine.libvirtd.weather = { slow: 0, fails: 0, loses: 0, hangs: 0 }
      machine.libvirtd.start()
      machine.fuse = undefined
      machine.disk.isFull = false
      machine.skew.ms = 0
      machine.steppedAt = this.time.elapsed
      this.network.heal(machine.name)
      this.network.link(machine.name).delayMsMax = 20
      if (!machine.isRunning) this.restartAgent(machine, 1_000)
    }
    this.scheduler.fuse = undefined
    if (!this.scheduler.isRunning) this.later(1_000, () => this.scheduler.start())
  }

  async #advance(until: number): Promise<void> {
    while (this.#broken === undefined && this.time.step(until)) {
      await settle()
      await this.promises.afterStep(this.scheduler)
      if (++this.#steps % boundsEverySteps === 0) this.promises.checkBounds(this.machines)
      if (this.#steps > stepsMax) throw new Error(`more than ${stepsMax} steps`)
    }
  }
}

/** Everything that is ready to run has run: there is no work outside of this thread. */
function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
