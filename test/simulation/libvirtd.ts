// libvirtd as an agent meets it: answers late, fails, hangs, restarts in the middle of a call, and does what it was asked
// whether or not somebody still waits for the answer. What it does to machines is done by the hypervisor in memory.

import { AsyncLocalStorage } from 'node:async_hooks'
import type { DomainEvent, Hypervisor, HypervisorStatus, Wait } from '../../src/agent/host/hypervisor.ts'
import type { MemoryHypervisor } from '../../src/agent/host/memory-hypervisor.ts'
import { HostletError } from '../../src/errors.ts'
import type { Random } from './random.ts'
import type { Trace } from './trace.ts'
import { epochMs, type Life, type VirtualTime } from './virtual-time.ts'

/** A call that is not answered for so long counts as lost, as node-libvirt's deadline has it. */
const callDeadlineMs = 30_000
/** Longer than that. */
const hangMsMax = 90_000

/** How likely it is that something goes wrong with a call. */
export interface Weather {
  readonly slow: number
  /** It says no, and nothing happened. */
  readonly fails: number
  /** It does it, and the answer is lost. */
  readonly loses: number
  readonly hangs: number
}

export const fairWeather: Weather = { slow: 0, fails: 0, loses: 0, hangs: 0 }

/** Why a call was made: the operation of the VM's that ran at that moment, or something else that may change a VM. */
export interface Cause {
  readonly kind: 'command' | 'boot' | 'guest' | 'unknown'
  readonly command?: string
  readonly verb?: string
  readonly generation?: number
  readonly uuid?: string
}

/** Calls that change a machine: libvirt does one at a time of each machine. */
const changing: ReadonlySet<string> = new Set([
  'define',
  'annotate',
  'start',
  'pressPowerButton',
  'requestReboot',
  'reset',
  'cutPower',
  'reshape',
  'growDisk',
  'ejectSeed',
  'clearAutostart',
  'undefine'
])

const looking = /^(list|find|read|facts|counters|inspect|domainUses|examine|survey)/

export interface LibvirtdOptions {
  readonly host: string
  readonly hypervisor: MemoryHypervisor
  readonly time: VirtualTime
  readonly random: Random
  readonly trace: Trace
  onEvent(event: DomainEvent, cause: Cause): void
  /** A call that changes the machine is about to be made. */
  causeOf(method: string, vm: string): Cause
  onCall(method: string, vm: string, cause: Cause): void
}

interface Work {
  readonly name: string
  readonly values: readonly unknown[]
  readonly vm: string | undefined
  readonly cause: Cause
  /** Its caller lives and waits no more: libvirt drops what it has not begun. */
  isAbandoned(): boolean
}

type Method = (...values: unknown[]) => Promise<unknown>

export class Libvirtd {
  isUp = true
  weather: Weather = fairWeather
  readonly #options: LibvirtdOptions
  readonly #causes = new AsyncLocalStorage<Cause>()
  readonly #jobs = new Map<string, Promise<unknown>>()
  readonly #statusListeners = new Set<() => void>()
  readonly #eventListeners = new Set<(event: DomainEvent) => void>()
  #life = Promise.withResolvers<never>()
  #epoch = 0

  constructor(options: LibvirtdOptions) {
    this.#options = options
    this.#life.promise.catch(() => undefined)
    options.hypervisor.onEvent((event) => {
      options.onEvent(event, this.#causes.getStore() ?? { kind: 'unknown' })
      if (this.isUp) for (const listener of this.#eventListeners) listener(event)
    })
  }

  /** Something that no agent asked for happens to machines. */
  happen(cause: Cause, work: () => void): void {
    this.#causes.run(cause, work)
  }

  stop(): void {
    if (!this.isUp) return
    this.isUp = false
    this.#epoch++
    this.#jobs.clear()
    this.#life.reject(interrupted())
    this.#life = Promise.withResolvers()
    this.#life.promise.catch(() => undefined)
    this.#options.hypervisor.secrets.clear()
    for (const listener of this.#statusListeners) listener()
  }

  start(): void {
    if (this.isUp) return
    this.isUp = true
    for (const listener of this.#statusListeners) listener()
  }

  /** What one agent sees of it. `watch` is told of each call that does more than look, and may end the agent there. */
  door(life: Life, watch: (moment: 'before' | 'after') => void): Hypervisor {
    const { hypervisor, time } = this.#options
    const listeners = new Set<(status: HypervisorStatus) => void>()
    let state: HypervisorStatus = { state: 'away', since: epochMs, reason: 'not connected yet' }
    let isOpen = false
    const tell = () => {
      if (!life.isAlive || !isOpen) return
      state = this.isUp
        ? { state: 'connected' }
        : { state: 'away', since: epochMs + time.elapsed, reason: 'libvirtd restarts' }
      for (const listener of [...listeners]) listener(state)
    }
    this.#statusListeners.add(tell)
    const own: Partial<Hypervisor> = {
      open: () => {
        isOpen = true
        time.after(2, tell)
      },
      status: () => state,
      onStatus: (listener) => {
        listeners.add(listener)
        return { [Symbol.dispose]: () => listeners.delete(listener) }
      },
      onEvent: (listener) => {
        const guarded = (event: DomainEvent) => {
          if (life.isAlive && isOpen) listener(event)
        }
        this.#eventListeners.add(guarded)
        return { [Symbol.dispose]: () => this.#eventListeners.delete(guarded) }
      },
      addStartGate: (gate) => hypervisor.addStartGate(gate),
      close: async () => {
        isOpen = false
        this.#statusListeners.delete(tell)
      }
    }
    const call =
      (name: string): Method =>
      (...values) =>
        this.#call({ name, values, life, watch, isOpen: () => isOpen })
    return new Proxy(hypervisor, {
      get: (target, name: string) => {
        const special = (own as Record<string, unknown>)[name]
        if (special !== undefined) return special
        const value = (target as unknown as Record<string, unknown>)[name]
        return typeof value === 'function' ? call(name) : value
      }
    }) as unknown as Hypervisor
  }

  async #call(call: {
    name: string
    values: unknown[]
    life: Life
    watch(moment: 'before' | 'after'): void
    isOpen(): boolean
  }): Promise<unknown> {
    const { name, values, life, watch } = call
    const { time, trace, host } = this.#options
    const { signal } = waitOf(values)
    if (!life.isAlive) return await never()
    signal.throwIfAborted()
    if (!this.isUp || !call.isOpen()) throw new HostletError('E_UNAVAILABLE', 'libvirt is away')
    const vm = vmOf(name, values)
    const cause: Cause = vm === undefined ? { kind: 'unknown' } : this.#options.causeOf(name, vm)
    if (vm !== undefined) this.#options.onCall(name, vm, cause)
    const isLook = looking.test(name)
    if (!isLook) watch('before')
    if (!life.isAlive) return await never()
    let hasGivenUp = false
    const isAbandoned = () => life.isAlive && (signal.aborted || hasGivenUp)
    const done = this.#work({ name, values, vm, cause, isAbandoned })
    done.catch(() => undefined)
    const late = Promise.withResolvers<never>()
    const timer = time.after(callDeadlineMs, () => {
      hasGivenUp = true
      late.reject(new HostletError('E_TIMEOUT', `${name} got no answer within ${callDeadlineMs} ms`))
    })
    const abort = () => late.reject(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
    late.promise.catch(() => undefined)
    try {
      const value = await Promise.race([done, late.promise])
      if (!life.isAlive) return await never()
      if (!isLook) watch('after')
      return life.isAlive ? value : await never()
    } catch (error) {
      if (!life.isAlive) return await never()
      if (vm !== undefined || !(error instanceof HostletError) || error.code !== 'E_NOT_FOUND')
        trace.note(host, `${name} ${vm ?? ''} throws ${(error as { code?: string }).code ?? error}`)
      throw error
    } finally {
      timer[Symbol.dispose]()
      signal.removeEventListener('abort', abort)
    }
  }

  /** At libvirtd's side: goes on whoever waits. */
  async #work(work: Work): Promise<unknown> {
    const key = keyOf(work)
    if (key === undefined) return await this.#perform(work)
    const before = this.#jobs.get(key) ?? Promise.resolve()
    const job = before.then(
      () => this.#perform(work),
      () => this.#perform(work)
    )
    this.#jobs.set(key, job)
    job.catch(() => undefined)
    return await job
  }

  async #perform({ name, values, vm, cause, isAbandoned }: Work): Promise<unknown> {
    const { random, trace, host, hypervisor } = this.#options
    const { slow, fails, loses, hangs } = this.weather
    const epoch = this.#epoch
    const fate = random.next()
    const isSlow = random.chance(slow)
    const hasHung = fate < hangs
    const isLost = hasHung && random.chance(0.5)
    if (hasHung) trace.fault(host, 'libvirt call hangs', name)
    await this.#pass(random.between(0, 3))
    if (isAbandoned()) throw interrupted()
    if (isLost) {
      await this.#pass(hangMsMax)
      throw interrupted()
    }
    if (fate >= hangs && fate < hangs + fails) {
      trace.fault(host, 'libvirt call fails', name)
      throw random.chance(0.5)
        ? new HostletError('E_LIBVIRT', `${name}: libvirt said no`)
        : new HostletError('E_UNAVAILABLE', `${name}: libvirt has no room for the call`)
    }
    const work = () =>
      (hypervisor as unknown as Record<string, Method>)[name]?.(
        ...values.map((value) => (isWait(value) ? { ...value, signal: neverAborted } : value))
      )
    const value = await this.#causes.run(cause, async () => await work())
    if (!looking.test(name))
      trace.note(host, `${name} ${vm ?? JSON.stringify(values.filter((value) => !isWait(value)))}`)
    // What is done is done: only the answer may take its time, and the next call of the same thing waits for it.
    if (hasHung) await this.#pass(random.between(5_000, hangMsMax))
    else if (isSlow) await this.#pass(random.between(200, 9_000))
    if (this.#epoch !== epoch) throw interrupted()
    if (fate >= hangs + fails && fate < hangs + fails + loses) {
      trace.fault(host, 'answer of libvirt lost', name)
      throw random.chance(0.5)
        ? new HostletError('E_INTERRUPTED', `${name}: the connection was lost under the call`)
        : new HostletError('E_TIMEOUT', `${name}: got no answer in time`)
    }
    return value
  }

  /** Time at libvirtd's side; a restart ends the wait, and what was asked for is not done. */
  async #pass(ms: number): Promise<void> {
    const waiting = Promise.withResolvers<void>()
    using _timer = this.#options.time.after(ms, waiting.resolve)
    await Promise.race([waiting.promise, this.#life.promise])
  }
}

function interrupted(): HostletError {
  return new HostletError(
    'E_INTERRUPTED',
    'the connection to libvirt was lost under the call: its outcome is unknown'
  )
}

const neverAborted = new AbortController().signal

function isWait(value: unknown): value is Wait {
  return (value as Partial<Wait> | null)?.signal instanceof AbortSignal
}

/** Most calls have it last. */
function waitOf(values: readonly unknown[]): Wait {
  const wait = values.findLast(isWait)
  if (wait === undefined) throw new Error('a call of libvirt without a signal')
  return wait
}

function never(): Promise<never> {
  return new Promise(() => undefined)
}

/** What libvirt works on one call at a time: a machine, a network, a volume. */
function keyOf({ name, values, vm }: Work): string | undefined {
  if (vm !== undefined) return `vm ${vm}`
  if (looking.test(name)) return undefined
  const [first] = values
  const about = typeof first === 'string' ? first : String((first as { name?: unknown })?.name ?? '')
  return name.endsWith('Network') || name.endsWith('Reservation') ? `network ${about}` : about
}

function vmOf(name: string, values: readonly unknown[]): string | undefined {
  if (!changing.has(name)) return undefined
  if (name === 'define') return (values[0] as { specification: { name: string } }).specification.name
  return String(values[0])
}
