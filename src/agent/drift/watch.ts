// Looks for drift of all VMs: soon after something happened to one, and slowly round the host. Tells it once it lasts, and has put right what may be.

import { asHostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline } from '../../lib/deadline.ts'
import type { Logger } from '../../lib/log.ts'
import { type DriftItem, driftItemsMax } from '../../protocol/drift.ts'
import type { VmEvent } from '../../protocol/messages.ts'
import type { OwnOperations } from '../backups/schedule.ts'
import type { DomainEvent, VmRecord } from '../host/hypervisor.ts'
import { isUnderWay } from '../inventory/ledger.ts'
import { type DriftHost, lookAtDrift } from './look.ts'
import { isRepairable } from './repair.ts'

export const repairVerb = 'vm.repair'
/** Between two rounds of all VMs. */
export const roundMs = 600_000
/** What is seen is looked at once more after this: what has gone by then was somebody's work in progress. */
export const settleMs = 10_000
/** One VM that does not answer keeps the others waiting no longer. */
export const lookMs = 20_000
/** A difference that comes back so often within an hour is not fought with any more. */
export const repairsMax = 3
export const repairsWithinMs = 3_600_000

export interface DriftWatchOptions {
  readonly host: DriftHost
  readonly readiness: { isReady(): boolean }
  readonly operations: Pick<OwnOperations, 'begin'>
  readonly clock: Clock
  readonly log: Logger
  post(event: VmEvent): void
  /** What is known of a VM is another. */
  onChanged(): void
}

interface Watched {
  readonly vm: string
  /** Of each difference, when it was first seen, and whether it lasted. */
  readonly seen: Map<string, { item: DriftItem; lasts: boolean }>
  /** When it was put right by itself. */
  repairs: number[]
}

export interface DriftHealth {
  readonly vm: string
  readonly items: readonly DriftItem[]
}

export class DriftWatch implements AsyncDisposable {
  readonly #options: DriftWatchOptions
  readonly #stopping = new AbortController()
  /** By UUID. */
  readonly #watched = new Map<string, Watched>()
  /** By name: when it is to be looked at, on the monotonic clock. */
  readonly #due = new Map<string, number>()
  readonly #repairing = new Set<Promise<void>>()
  #roundAt = 0
  #poke = new AbortController()
  #loop: Promise<void> = Promise.resolve()

  constructor(options: DriftWatchOptions) {
    this.#options = options
  }

  begin(): void {
    this.#roundAt = this.#options.clock.monotonic()
    this.#loop = this.#run()
  }

  /** Something happened to a VM. */
  note({ name, uuid, kind }: Pick<DomainEvent, 'name' | 'uuid' | 'kind'>): void {
    if (kind === 'undefined') this.#watched.delete(uuid)
    else this.#look(name)
  }

  /** Something may have happened to any. */
  refresh(): void {
    this.#roundAt = Math.min(this.#roundAt, this.#options.clock.monotonic() + settleMs)
    this.#poke.abort()
  }

  of(uuid: string): readonly DriftItem[] | undefined {
    const items = lasting(this.#watched.get(uuid)).slice(0, driftItemsMax)
    return items.length === 0 ? undefined : items
  }

  health(): readonly DriftHealth[] {
    return [...this.#watched.values()].flatMap((watched) => {
      const items = lasting(watched)
      return items.length === 0 ? [] : [{ vm: watched.vm, items }]
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new Error('the agent stops'))
    await Promise.allSettled([this.#loop, ...this.#repairing])
  }

  #look(name: string, afterMs = settleMs): void {
    const at = this.#options.clock.monotonic() + afterMs
    this.#due.set(name, Math.max(at, this.#due.get(name) ?? 0))
    this.#poke.abort()
  }

  async #run(): Promise<void> {
    const { clock, log, readiness } = this.#options
    const { signal } = this.#stopping
    while (!signal.aborted) {
      this.#poke = new AbortController()
      try {
        if (readiness.isReady()) await this.#turn()
      } catch (error) {
        if (!signal.aborted) log.debug({ error: asHostletError(error) }, 'drift could not be looked for')
      }
      const next = Math.min(this.#roundAt, ...this.#due.values())
      const ms = Math.max(1_000, Math.min(roundMs, next - clock.monotonic()))
      await clock.sleep(ms, AbortSignal.any([signal, this.#poke.signal])).catch(() => undefined)
    }
  }

  async #turn(): Promise<void> {
    const { clock } = this.#options
    if (clock.monotonic() >= this.#roundAt) await this.#beginRound()
    for (const [name, at] of [...this.#due]) {
      if (at > clock.monotonic() || this.#stopping.signal.aborted) continue
      this.#due.delete(name)
      await this.#lookAt(name)
    }
  }

  async #beginRound(): Promise<void> {
    const { host, clock } = this.#options
    this.#roundAt = clock.monotonic() + roundMs
    using deadline = this.#deadline('all VMs')
    const wait = { signal: deadline.signal }
    if (await host.hypervisor.ensurePool(wait))
      this.#options.log.warn({}, 'the pool of the disks was stopped, and is started again')
    const vms = await host.hypervisor.listVms(wait)
    const there = new Set(vms.map(({ specification }) => specification.uuid))
    for (const uuid of this.#watched.keys()) if (!there.has(uuid)) this.#watched.delete(uuid)
    for (const { specification } of vms) this.#due.set(specification.name, clock.monotonic())
  }

  async #lookAt(name: string): Promise<void> {
    const { host, log } = this.#options
    using deadline = this.#deadline(`VM ${name}`)
    const wait = { signal: deadline.signal }
    try {
      const vm = await host.hypervisor.findVm(name, wait)
      if (vm === undefined || vm.placement.trial) return
      if (isUnderWay(host.ledger, vm.specification)) return this.#look(name, settleMs * 3)
      const items = await lookAtDrift(vm, host, wait)
      // It began while we looked: what was seen is half of one and half of the other.
      if (isUnderWay(host.ledger, vm.specification)) return this.#look(name, settleMs * 3)
      this.#take(vm, items)
    } catch (error) {
      if (!this.#stopping.signal.aborted)
        log.debug({ vm: name, error: asHostletError(error) }, 'a VM could not be looked at for drift')
    }
  }

  #deadline(what: string) {
    const { clock } = this.#options
    return startDeadline({ clock, ms: lookMs, what: `the look at ${what}`, signal: this.#stopping.signal })
  }

  #take(vm: VmRecord, items: readonly DriftItem[]): void {
    const { name, uuid } = vm.specification
    const watched = this.#watched.get(uuid) ?? { vm: name, seen: new Map(), repairs: [] }
    this.#watched.set(uuid, watched)
    const before = toldOf(watched)
    const gone = [...watched.seen].filter(([id]) => !items.some((item) => item.id === id))
    for (const [id, { item, lasts }] of gone) {
      watched.seen.delete(id)
      if (lasts) this.#tell(vm, 'repaired', item)
    }
    for (const item of items) this.#see(vm, watched, item)
    if (before !== toldOf(watched)) this.#options.onChanged()
    this.#own(this.#repair(vm, watched))
  }

  /** Told the second time that it is seen. */
  #see(vm: VmRecord, { seen }: Watched, item: DriftItem): void {
    const known = seen.get(item.id)
    const since = known?.item.since ?? item.since
    seen.set(item.id, { item: { ...item, since }, lasts: known !== undefined })
    if (known === undefined) this.#look(vm.specification.name)
    else if (!known.lasts) this.#tell(vm, 'drifted', item)
  }

  #tell(
    vm: VmRecord,
    kind: 'drifted' | 'repaired',
    { id, recorded, actual, since, severity }: DriftItem
  ): void {
    const { clock, log, post } = this.#options
    const { name, uuid } = vm.specification
    const fields = { vm: name, id, recorded, actual, severity }
    if (kind === 'drifted') log.warn(fields, 'VM is not as its records say')
    else log.info({ vm: name, id, recorded, since }, 'VM is as its records say again')
    const detail = kind === 'drifted' ? `${id}: ${recorded} → ${actual}` : `${id}: ${recorded}`
    const at = clock.now()
    post({ type: 'event', at, vm: name, uuid, kind, state: vm.state, detail: detail.slice(0, 256) })
  }

  #own(work: Promise<void>): void {
    const owned = work.finally(() => this.#repairing.delete(owned))
    this.#repairing.add(owned)
  }

  /** By an operation of the agent's own: it has the VM to itself, and stands in the journal. */
  async #repair(vm: VmRecord, watched: Watched): Promise<void> {
    const { operations, clock, log } = this.#options
    const mendable = lasting(watched).filter((item) => item.repair === 'self' && isRepairable(item))
    if (mendable.length === 0) return
    const now = clock.monotonic()
    watched.repairs = watched.repairs.filter((at) => at > now - repairsWithinMs)
    if (watched.repairs.length >= repairsMax) return this.#giveUp(watched, mendable)
    watched.repairs.push(now)
    const { name, uuid } = vm.specification
    const subject = { vm: name, uuid, generation: vm.generation }
    try {
      const { ended } = await operations.begin({
        verb: repairVerb,
        subject,
        arguments: { vm: name, scope: 'self' }
      })
      await ended
      this.#look(name, 0)
    } catch (error) {
      if (!this.#stopping.signal.aborted)
        log.warn({ vm: name, error: asHostletError(error) }, 'drift could not be put right')
    }
  }

  #giveUp({ vm, seen }: Watched, items: readonly DriftItem[]): void {
    for (const item of items) {
      const next = `It came back ${repairsMax} times within an hour and is left: find out who changes it, then "hostlet vm repair ${vm}".`
      seen.set(item.id, { item: { ...item, repair: 'ask', next }, lasts: true })
    }
  }
}

function lasting(watched: Watched | undefined): DriftItem[] {
  return [...(watched?.seen.values() ?? [])].filter(({ lasts }) => lasts).map(({ item }) => item)
}

function toldOf(watched: Watched): string {
  return JSON.stringify(lasting(watched).map(({ id, recorded, actual }) => [id, recorded, actual]))
}
