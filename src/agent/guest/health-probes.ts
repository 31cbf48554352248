// Service health from outside: declared ports of VMs are tried from the host, now and then, and what they say is remembered.

import { EventEmitter } from 'node:events'
import { connect as connectTls } from 'node:tls'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline, untilAborted } from '../../lib/deadline.ts'
import { Limiter } from '../../lib/limiter.ts'
import type { Logger } from '../../lib/log.ts'
import type { HealthProbe, ProbeHealth, VmSpecification } from '../../protocol/vm.ts'
import type { DomainEvent, VmRecord, Wait } from '../host/hypervisor.ts'
import { systemProbes } from '../host/readiness.ts'
import { ProbeState } from './probe-state.ts'

/** How often each port is tried. */
export const probeIntervalMs = 10_000
/** How long an answer may take. */
export const probeDeadlineMs = 3_000
/** Probes under way at the same time, of all VMs of the host. */
export const probesAtOnceMax = 16
const probesWaitingMax = 16_384

export interface ProbeTarget {
  readonly address: string
  readonly port: number
  readonly path: string
}

/** How each kind is tried: whether it answers as it should. */
export type Probers = Readonly<
  Record<HealthProbe['kind'], (target: ProbeTarget, wait: Wait) => Promise<boolean>>
>

export interface HealthChange {
  readonly vm: string
  readonly uuid: string
  readonly health: ProbeHealth
}

export interface HealthProbesOptions {
  readonly clock: Clock
  readonly log: Logger
  /** For tests; real connections otherwise. */
  readonly probers?: Probers
}

interface Watched {
  readonly record: Pick<VmRecord, 'specification' | 'placement'>
  readonly probes: ReadonlyMap<string, ProbeState>
  running: boolean
  /** Of the rounds since the machine last came or went: what an earlier one still finds counts no more. */
  turn: number
  timer: Disposable | undefined
}

type Seen = Pick<VmRecord, 'specification' | 'placement' | 'state'>

export class HealthProbes implements AsyncDisposable {
  readonly #options: HealthProbesOptions
  readonly #probers: Probers
  readonly #limiter = new Limiter({ concurrencyMax: probesAtOnceMax, waitingMax: probesWaitingMax })
  readonly #stopping = new AbortController()
  readonly #watched = new Map<string, Watched>()
  readonly #rounds = new Set<Promise<void>>()
  readonly #changes = new EventEmitter<{ change: [HealthChange] }>()

  constructor(options: HealthProbesOptions) {
    this.#options = options
    this.#probers = options.probers ?? systemProbers
  }

  /** All VMs of the host as they are now: those with probes are watched from now on, others no more. */
  look(records: readonly Seen[]): void {
    const present = new Set(records.map(({ specification }) => specification.uuid))
    for (const uuid of this.#watched.keys()) if (!present.has(uuid)) this.#forget(uuid)
    for (const record of records) this.#see(record)
  }

  /** Undefined for a VM without probes. */
  of(uuid: string): ProbeHealth[] | undefined {
    const watched = this.#watched.get(uuid)
    return watched && [...watched.probes].map(([name, probe]) => ({ name, ...probe.health }))
  }

  /** What happens to a VM is known here before the next look at all of them. */
  take({ uuid, kind }: Pick<DomainEvent, 'uuid' | 'kind'>): void {
    if (kind === 'undefined') this.#forget(uuid)
    const watched = this.#watched.get(uuid)
    const running = runningAfter[kind]
    if (watched !== undefined && running !== undefined) this.#turn(watched, running)
  }

  onChange(listener: (change: HealthChange) => void): Disposable {
    this.#changes.on('change', listener)
    return { [Symbol.dispose]: () => void this.#changes.off('change', listener) }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new Error('the agent stops'))
    for (const uuid of [...this.#watched.keys()]) this.#forget(uuid)
    await Promise.allSettled(this.#rounds)
  }

  #see(record: Seen): void {
    const { uuid, health = [] } = record.specification
    const before = this.#watched.get(uuid)
    // Of a specification that was changed the probes begin anew.
    if (before && JSON.stringify(before.record.specification.health) !== JSON.stringify(health))
      this.#forget(uuid)
    if (health.length === 0 || this.#stopping.signal.aborted) return
    const watched = this.#watched.get(uuid) ?? this.#fresh(record, health)
    this.#watched.set(uuid, watched)
    this.#turn(watched, record.state === 'running')
  }

  #fresh({ specification, placement }: Seen, health: readonly HealthProbe[]): Watched {
    const now = this.#options.clock.now()
    const probes = new Map(health.map(({ name }) => [name, new ProbeState(now)]))
    return { record: { specification, placement }, probes, running: false, turn: 0, timer: undefined }
  }

  #forget(uuid: string): void {
    this.#watched.get(uuid)?.timer?.[Symbol.dispose]()
    this.#watched.delete(uuid)
  }

  #turn(watched: Watched, running: boolean): void {
    if (watched.running === running) return
    watched.running = running
    watched.turn++
    watched.timer?.[Symbol.dispose]()
    watched.timer = undefined
    if (running) this.#begin(watched)
    else this.#stop(watched)
  }

  #stop(watched: Watched): void {
    for (const [name, probe] of watched.probes) {
      if (probe.stop(this.#options.clock.now())) this.#tell(watched, name, probe)
    }
  }

  /** One round after another, each with all probes of the VM. */
  #begin(watched: Watched): void {
    const { turn } = watched
    const round = this.#round(watched, turn)
      .catch((error) => this.#failed(error))
      .finally(() => {
        this.#rounds.delete(round)
        if (!this.#isCurrent(watched, turn)) return
        watched.timer = this.#options.clock.timer(probeIntervalMs, () => this.#begin(watched))
      })
    this.#rounds.add(round)
  }

  #isCurrent(watched: Watched, turn: number): boolean {
    const isKnown = this.#watched.get(watched.record.specification.uuid) === watched
    return isKnown && watched.running && watched.turn === turn && !this.#stopping.signal.aborted
  }

  async #round(watched: Watched, turn: number): Promise<void> {
    const { specification, placement } = watched.record
    const probes = specification.health ?? []
    await Promise.all(
      probes.map(async (probe) => {
        const answers = await this.#answers(probe, placement.address)
        const state = watched.probes.get(probe.name)
        // What was tried on a machine that went off meanwhile says nothing.
        if (state === undefined || !this.#isCurrent(watched, turn)) return
        if (state.note(answers, this.#options.clock.now())) this.#tell(watched, probe.name, state)
      })
    )
  }

  async #answers({ name, kind, port, path = '/' }: HealthProbe, address: string): Promise<boolean> {
    const { clock } = this.#options
    const { signal } = this.#stopping
    using ticket = this.#limiter.enter({ always: true })
    await ticket.turn(signal)
    using deadline = startDeadline({ clock, ms: probeDeadlineMs, what: `probe ${name}`, signal })
    const answer = this.#probers[kind]({ address, port, path }, deadline)
    return await untilAborted(answer, deadline.signal).catch(() => false)
  }

  #failed(error: unknown): void {
    if (!this.#stopping.signal.aborted) this.#options.log.warn({ error }, 'health probes failed')
  }

  #tell({ record }: Watched, name: string, { health }: ProbeState): void {
    const { name: vm, uuid } = record.specification
    this.#options.log.info({ vm, uuid, probe: name, state: health.state }, 'service health changed')
    this.#changes.emit('change', { vm, uuid, health: { name, ...health } })
  }
}

/** Throws E_BAD_REQUEST when two probes of a VM could not be told apart. */
export function refuseSameNames({ name, health = [] }: Pick<VmSpecification, 'name' | 'health'>): void {
  const names = health.map((probe) => probe.name)
  const twice = names.find((each, index) => names.indexOf(each) !== index)
  if (twice === undefined) return
  throw new HostletError(
    'E_BAD_REQUEST',
    `VM ${name} has two health probes named ${twice}. Give each a name of its own.`
  )
}

/** Whether the guest runs after an event; what is left out changes nothing. */
const runningAfter: Partial<Record<DomainEvent['kind'], boolean>> = {
  started: true,
  resumed: true,
  suspended: false,
  stopped: false,
  crashed: false
}

/** `http`: a status below 400. `tls`: a handshake, whoever's certificate it is: names are for those who use the service. */
export const systemProbers: Probers = {
  tcp: (target, wait) => systemProbes.tcp(target, wait),
  http: (target, wait) => systemProbes.http(target, wait),
  tls: ({ address, port }, { signal }) =>
    new Promise((resolve) => {
      const socket = connectTls({ host: address, port, rejectUnauthorized: false })
      const answer = (works: boolean) => {
        signal.removeEventListener('abort', abort)
        socket.destroy()
        resolve(works)
      }
      const abort = () => answer(false)
      signal.addEventListener('abort', abort, { once: true })
      socket.once('secureConnect', () => answer(true)).on('error', () => answer(false))
      socket.once('close', () => answer(false))
    })
}
