// The scheduler of the world: the product's own store, commands, connections, delivery and housekeeping, with its routes called
// as the server calls them. Its directory outlives it.

import { randomUUID } from 'node:crypto'
import type { WebSocket } from 'ws'
import { HostletError } from '../../src/errors.ts'
import { KeyedLock } from '../../src/lib/keyed-lock.ts'
import type { LogFields, Logger } from '../../src/lib/log.ts'
import type { CommandClaims } from '../../src/protocol/command.ts'
import { Audit, type Witness } from '../../src/scheduler/audit.ts'
import { Commands } from '../../src/scheduler/commands.ts'
import { Housekeeping } from '../../src/scheduler/housekeeping.ts'
import type { Services } from '../../src/scheduler/http/route.ts'
import { routes } from '../../src/scheduler/http/routes.ts'
import { AgentConnection } from '../../src/scheduler/hub/connection.ts'
import type { TrustSource } from '../../src/scheduler/hub/trust-link.ts'
import { SqliteStore } from '../../src/scheduler/store/sqlite-store.ts'
import type { Repeatable, Store } from '../../src/scheduler/store/store.ts'
import type { Fixtures } from './fixtures.ts'
import type { Listener, Network } from './network.ts'
import type { Promises } from './promises.ts'
import type { Trace } from './trace.ts'
import { type Life, MachineClock, type VirtualTime } from './virtual-time.ts'

export interface SchedulerMachineOptions {
  readonly directory: string
  readonly fixtures: Fixtures
  readonly time: VirtualTime
  readonly network: Network
  readonly trace: Trace
  readonly promises: Promises
  /** It died of its fuse. */
  onDied(): void
}

export interface Asked {
  readonly params?: Record<string, unknown>
  readonly query?: Record<string, unknown>
  readonly body?: unknown
  readonly repeatable?: Repeatable
}

interface Incarnation {
  readonly life: Life
  readonly store: Store
  readonly real: SqliteStore
  readonly services: Services
  readonly hub: SimulatedHub
}

const tables = [
  'tokens',
  'hosts',
  'vms',
  'commands',
  'approvals',
  'metrics',
  'events',
  'backups',
  'erasures',
  'diskKeys',
  'placements',
  'keys',
  'audit',
  'trails',
  'trust',
  'placements'
]

export class SchedulerMachine {
  /** Killed at so many calls of its store from now on. */
  fuse: { when: 'before' | 'after'; left: number } | undefined
  readonly #options: SchedulerMachineOptions
  #running: Incarnation | undefined

  constructor(options: SchedulerMachineOptions) {
    this.#options = options
    options.fixtures.makeStore(options.directory)
  }

  get isRunning(): boolean {
    return this.#running?.life.isAlive === true
  }

  /** For the promises to look at, not to be counted. */
  get store(): Store | undefined {
    return this.isRunning ? this.#running?.real : undefined
  }

  start(): void {
    if (this.isRunning) return
    const { directory, fixtures, time, network, trace, promises } = this.#options
    const life: Life = { isAlive: true }
    const clock = new MachineClock({ time, life, skew: { ms: 0 } })
    const config = { ...fixtures.schedulerConfig, stateDirectory: directory }
    const real = new SqliteStore(directory, config)
    const store = this.#guarded(real, life)
    const log = this.#log(life)
    const audit = new Audit({
      ...{ store: store.audit, clock, log, reads: false },
      signReceipt: (claims) => fixtures.signer.signReceipt(claims)
    })
    const hub = new SimulatedHub({
      store,
      clock,
      log,
      life,
      fixtures,
      witness: audit,
      onCloned: (host) => promises.takenForTwo(host)
    })
    const signer = {
      sign: async (claims: CommandClaims) => {
        const jws = await fixtures.signer.sign(claims)
        promises.signed(claims, jws)
        return jws
      }
    }
    const { expireAfterMs, abandonAfterMs } = config.commands
    const commands = new Commands({ store, signer, delivery: hub, expireAfterMs, clock, log })
    const seldom = {
      now: () => clock.now(),
      timer: (ms: number, work: () => void) => clock.timer(housekeepingMs(ms), work)
    }
    new Housekeeping({
      ...{ store, log, abandonAfterMs, clock: seldom as MachineClock },
      renewCertificate: async () => undefined
    })
    real.commands.onChange((id) => promises.commandChanged(id))
    const services = {
      ...{ config, store, commands, clock, log, audit, agents: hub, version: '0.1.0' },
      placing: new KeyedLock(),
      startedAt: clock.now()
    } as unknown as Services
    this.#running = { life, store, real, services, hub }
    network.listener = hub
    trace.note('scheduler', 'starts')
  }

  /** SIGKILL: what its store has is all that is left. */
  kill(): void {
    const running = this.#running
    if (running === undefined || !running.life.isAlive) return
    running.life.isAlive = false
    this.fuse = undefined
    const { network, trace } = this.#options
    trace.note('scheduler', 'is killed')
    network.serverDied()
    void running.real.close()
  }

  /** As a person asks. Never ends when the scheduler is killed meanwhile. */
  async ask(line: string, { params = {}, query = {}, body = {}, repeatable }: Asked = {}): Promise<unknown> {
    const running = this.#running
    if (running === undefined || !running.life.isAlive)
      throw new HostletError('E_UNAVAILABLE', 'nobody listens at https://scheduler')
    const [method, path] = line.split(' ')
    const route = routes.find((each) => each.method === method && each.path === path)
    if (route === undefined) throw new Error(`there is no route ${line}`)
    const call = { params, query, body, repeatable, actor: undefined, signal: new AbortController().signal }
    const reply = await route.handle(call as never, running.services)
    return running.life.isAlive ? reply : await new Promise(() => undefined)
  }

  /** A host joins, with a token of its own. */
  async enroll(hostId: string, now: number): Promise<void> {
    const store = this.#running?.store
    const id = randomUUID()
    const hash = Buffer.from(id.slice(0, 32))
    const times = { createdAt: now, expiresAt: now + 60_000 }
    await store?.tokens.add({ id, hash, note: '', ...times })
    const certificateExpiresAt = now + 10 * 365 * 86_400_000
    await store?.tokens.enroll(hash, { id: hostId, hostname: hostId, enrolledAt: now, certificateExpiresAt })
  }

  /** Each call of the store may be the last thing that the scheduler does. */
  #guarded(real: SqliteStore, life: Life): Store {
    const never = () => new Promise<never>(() => undefined)
    const guard = (table: object) =>
      new Proxy(table, {
        get: (target, name: string) => {
          const value = (target as Record<string, unknown>)[name]
          if (typeof value !== 'function' || name === 'onChange')
            return typeof value === 'function' ? value.bind(target) : value
          return async (...values: unknown[]) => {
            if (!life.isAlive) return await never()
            this.#burn('before')
            if (!life.isAlive) return await never()
            const answer = await value.apply(target, values)
            if (!life.isAlive) return await never()
            this.#burn('after')
            return life.isAlive ? answer : await never()
          }
        }
      })
    const guarded = Object.fromEntries(
      tables.map((name) => [name, guard((real as unknown as Record<string, object>)[name] as object)])
    )
    return {
      ...guarded,
      prune: (now: number) => real.prune(now),
      close: async () => undefined
    } as unknown as Store
  }

  #burn(when: 'before' | 'after'): void {
    const { fuse } = this
    if (fuse === undefined || fuse.when !== when || --fuse.left > 0) return
    this.#options.trace.fault('scheduler', `scheduler killed ${when} a call of its store`)
    this.kill()
    this.#options.onDied()
  }

  #log(life: Life): Logger {
    const { trace, promises } = this.#options
    const note = (level: string) => (fields: LogFields, message: string) => {
      if (!life.isAlive) return
      const { error, command, host, code, reason } = fields
      const what = error instanceof Error ? error.message : ''
      trace.note('scheduler', [level, message, command, host, code, reason, what].filter(Boolean).join(' '))
      if (level === 'error') promises.schedulerError(message, error)
    }
    const log: Logger = {
      debug: () => undefined,
      info: note('info'),
      warn: note('warn'),
      error: note('error'),
      child: () => log
    }
    return log
  }
}

/** Overdue commands are looked for less often than in life: nobody here waits for it, and each look takes time. */
function housekeepingMs(ms: number): number {
  return Math.max(ms, 5_000)
}

/** Keys are not rotated here. */
function trustOf({ authority }: Fixtures): TrustSource {
  return {
    serial: 0,
    bundle: authority,
    authorities: [authority],
    statements: async () => [],
    adopted: async () => undefined
  }
}

interface HubOptions {
  readonly store: Store
  readonly clock: MachineClock
  readonly log: Logger
  readonly life: Life
  readonly fixtures: Fixtures
  readonly witness: Witness
  onCloned(host: string): void
}

/** The hub without TLS and HTTP: who may connect is what the store says, of two connections of a host the newer one counts. */
class SimulatedHub implements Listener {
  readonly life: Life
  readonly #options: HubOptions
  readonly #ready = new Map<string, AgentConnection>()
  readonly #all = new Set<AgentConnection>()

  constructor(options: HubOptions) {
    this.#options = options
    this.life = options.life
  }

  wake(host: string): void {
    this.#ready.get(host)?.wake()
  }

  disconnect(host: string, reason: string): void {
    for (const connection of this.#all) if (connection.host === host) connection.close('auth', reason)
  }

  async admit(id: string): Promise<void> {
    const host = await this.#options.store.hosts.find(id)
    if (host === undefined) throw new HostletError('E_AUTH', `host ${id} is not enrolled here`)
    if (host.revokedAt !== undefined) throw new HostletError('E_AUTH', `host ${id} was revoked`)
  }

  accept(host: string, socket: WebSocket): void {
    const { store, clock, log, fixtures, witness } = this.#options
    const { agents, trustDomain } = fixtures.schedulerConfig
    const connection = new AgentConnection({
      ...{ store, clock, log, witness, host, socket, schedulerVersion: '0.1.0', ...agents, trustDomain },
      trust: trustOf(fixtures),
      onReady: (ready) => {
        this.#ready.get(host)?.replace()
        this.#ready.set(host, ready)
      },
      onClosed: (closed) => {
        this.#all.delete(closed)
        if (this.#ready.get(host) === closed) this.#ready.delete(host)
      },
      // There are no copies here: whoever takes one of ours for one is wrong.
      onCloned: () => this.#options.onCloned(host)
    })
    this.#all.add(connection)
  }
}
