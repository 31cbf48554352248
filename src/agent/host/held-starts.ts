// VMs that an operation had when the host's VMs were started after its boot: each is looked at again once that has ended.

import { asHostletError, type ErrorReport } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline } from '../../lib/deadline.ts'
import type { Host } from './host.ts'
import { type FailedStart, type HeldVm, startOne, type VmTurns, wentAway } from './reconcile.ts'

const recordName = 'vms-held'
const begunName = 'vms-begun'
/** More VMs than a host runs. */
const heldMax = 4_096
export const heldStartMs = 15 * 60_000

export interface HeldStartsOptions {
  readonly host: Pick<Host, 'hypervisor' | 'vms' | 'bootRecord' | 'log'>
  readonly turns: VmTurns
  readonly clock: Clock
  readonly stop: AbortSignal
  /** One was looked at. */
  onLooked(): void
}

export class HeldStarts {
  readonly #options: HeldStartsOptions
  /** By UUID. */
  readonly #held = new Map<string, HeldVm>()
  readonly #failed = new Map<string, FailedStart>()
  readonly #following = new Map<string, Promise<void>>()
  readonly #listener: Disposable
  #writing: Promise<void> = Promise.resolve()
  #loading: Promise<void> | undefined
  /** The begun ones as they were written last. */
  #written = '[]'
  /** Changes from before what had been written was read. */
  #unmerged: ((begun: Set<string>) => unknown)[] | undefined = []
  /** UUIDs of those that were started since the host booted; undefined once nobody asks any more. */
  #begun: Set<string> | undefined = new Set()

  constructor(options: HeldStartsOptions) {
    this.#options = options
    this.#listener = options.host.hypervisor.onEvent(({ kind, detail, uuid }) => {
      if (kind === 'started') this.#noteStarted(uuid)
      if (kind === 'stopped' && detail === 'destroyed') this.#noteCut(uuid)
    })
  }

  /** Those of them that could not be started. */
  get failed(): readonly FailedStart[] {
    return [...this.#failed.values()]
  }

  /** A VM to oneself; undefined while an operation has it. */
  tryHold(vm: string): Promise<AsyncDisposable> | undefined {
    return this.#options.turns.tryHold(vm)
  }

  /** Looks at them once their operations have ended, also after a restart of the agent. Resolves when that is written. */
  async later(vms: readonly HeldVm[]): Promise<void> {
    for (const vm of vms.slice(0, heldMax - this.#held.size)) this.#held.set(vm.uuid, vm)
    await this.#write()
    this.#follow()
  }

  /** Goes on with those that an agent before this one, or libvirt that went away, has left. */
  async resume(): Promise<void> {
    await this.#load()
    this.#follow()
  }

  /** Once, and before anything is written: what an agent before this one wrote would be gone. */
  #load(): Promise<void> {
    this.#loading ??= this.#read()
    return this.#loading
  }

  async #read(): Promise<void> {
    const { bootRecord } = this.#options.host
    const kept = await bootRecord.read(recordName)
    const begun = await bootRecord.read(begunName)
    if (Array.isArray(begun)) for (const uuid of begun.slice(0, heldMax)) this.#begun?.add(String(uuid))
    this.#written = JSON.stringify([...(Array.isArray(begun) ? begun.slice(0, heldMax) : [])])
    for (const change of this.#unmerged ?? []) change(this.#begun ?? new Set())
    this.#unmerged = undefined
    if (Array.isArray(kept))
      for (const vm of kept.filter(isHeldVm).slice(0, heldMax)) this.#held.set(vm.uuid, vm)
  }

  hasStarted(uuid: string): boolean {
    return this.#begun?.has(uuid) === true
  }

  over(): void {
    this.#begun = undefined
  }

  async ended(): Promise<void> {
    this.#listener[Symbol.dispose]()
    await Promise.allSettled(this.#following.values())
    await this.#writing
  }

  /** By its operation: it had its start of this boot, and what its guest does from now on is the guest's. */
  #noteStarted(uuid: string): void {
    this.#changeBegun((begun) => begun.size < heldMax && begun.add(uuid))
    if (!this.#held.delete(uuid)) return
    this.#failed.delete(uuid)
    // One that stays in the record is looked at once more after a restart of the agent.
    this.#write().catch(() => undefined)
  }

  /** By the host, which takes back a start that failed, or ends one for a backup: that was none. A guest ends otherwise. */
  #noteCut(uuid: string): void {
    this.#changeBegun((begun) => begun.delete(uuid))
  }

  /** Now, and once more upon what had been written before, where that has not been read yet. */
  #changeBegun(change: (begun: Set<string>) => unknown): void {
    if (this.#begun === undefined) return
    change(this.#begun)
    this.#unmerged?.push(change)
    this.#write(begunName, () => this.#newBegun()).catch(() => {
      this.#written = ''
    })
  }

  /** Undefined where it has been written as it is. */
  #newBegun(): readonly string[] | undefined {
    const begun = [...(this.#begun ?? [])]
    const text = JSON.stringify(begun)
    if (text === this.#written) return undefined
    this.#written = text
    return begun
  }

  #follow(): void {
    for (const vm of this.#held.values()) {
      if (this.#following.has(vm.uuid)) continue
      const followed = this.#lookAt(vm).finally(() => this.#following.delete(vm.uuid))
      this.#following.set(vm.uuid, followed)
    }
  }

  /** There is no bound to the wait: operations have deadlines of their own. */
  async #lookAt({ vm, uuid }: HeldVm): Promise<void> {
    const { host, turns, clock, stop, onLooked } = this.#options
    try {
      await using _held = await turns.hold(vm, stop)
      if (!this.#held.has(uuid)) return
      using deadline = startDeadline({ clock, ms: heldStartMs, what: `the start of VM ${vm}`, signal: stop })
      const end = await startOne(host, { vm, uuid }, deadline)
      if (stop.aborted) return
      if (end === undefined || end === 'other by now') this.#failed.delete(uuid)
      else this.#failed.set(uuid, { vm, error: end })
      if (isOver(end)) {
        this.#held.delete(uuid)
        await this.#write()
      }
      onLooked()
    } catch (error) {
      if (!stop.aborted)
        host.log.warn({ vm, error: asHostletError(error) }, 'VM could not be looked at again')
    }
  }

  #write(name = recordName, value = (): unknown => [...this.#held.values()]): Promise<void> {
    const { bootRecord } = this.#options.host
    const written = this.#writing.then(async () => {
      await this.#load()
      const now = value()
      if (now !== undefined) await bootRecord.write(name, now)
    })
    this.#writing = written.catch(() => undefined)
    return written
  }
}

/** Where libvirt went away, or the keys are, the next connect goes on. */
function isOver(end: ErrorReport | 'other by now' | undefined): boolean {
  return end === undefined || end === 'other by now' || !wentAway.has(end.code)
}

function isHeldVm(value: unknown): value is HeldVm {
  if (typeof value !== 'object' || value === null || !('vm' in value) || !('uuid' in value)) return false
  return typeof value.vm === 'string' && typeof value.uuid === 'string'
}
