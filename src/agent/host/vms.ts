// VMs as a whole: finding one, starting it with its network, stopping it politely and then not, waiting for it.

import { freemem } from 'node:os'
import { asHostletError, HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline } from '../../lib/deadline.ts'
import type { VmSpecification, VmState, VmSummary } from '../../protocol/vm.ts'
import type { HealthProbes } from '../guest/health-probes.ts'
import type { Resources } from '../resources/resources.ts'
import { backupReason, type Hypervisor, type VmRecord, type Wait } from './hypervisor.ts'
import type { Placements } from './placement.ts'
import { awaitReady, type Probes } from './readiness.ts'
import type { VmStarts } from './vm-starts.ts'

/** How often an event that was missed is made up for by a look. */
const lookMs = 1_000
/** A guest that was still booting did not hear the first press. */
const pressAgainMs = 5_000
const offStates: ReadonlySet<VmState> = new Set(['stopped', 'crashed'])

export interface VmsOptions {
  readonly hypervisor: Hypervisor
  readonly placements: Placements
  readonly starts: VmStarts
  /** How services of VMs do, seen from outside. */
  readonly health?: Pick<HealthProbes, 'look' | 'of'>
  readonly clock: Clock
  readonly readyTimeoutMs: number
  readonly probes?: Probes
  readonly resources?: Pick<Resources, 'admitStart' | 'usesHugePages'>
  /** What the host could give to a new process now; the kernel's own estimate otherwise. */
  readonly availableMemoryBytes?: () => number
}

type Press = 'pressed' | 'refused' | 'unheard'

export interface ProgressWait extends Wait {
  progress?(update: { note?: string }): void
}

export class Vms {
  readonly #options: VmsOptions

  constructor(options: VmsOptions) {
    this.#options = options
    options.hypervisor.onEvent((event) => options.starts.note(event))
  }

  /** Throws E_NOT_FOUND, E_CONFLICT when it is somebody else's or of another UUID. */
  async require(name: string, wait: Wait & { uuid?: string | undefined }): Promise<VmRecord> {
    const record = await this.#options.hypervisor.findVm(name, wait)
    if (record === undefined) throw await this.#absent(name, wait)
    const { uuid } = record.specification
    if (wait.uuid === undefined || wait.uuid === uuid) return record
    throw new HostletError(
      'E_CONFLICT',
      `the VM ${name} on this host is ${uuid}, the command is about ${wait.uuid}. Nothing was done.`,
      { details: { vm: name, uuid } }
    )
  }

  /** Refuses a name, or a UUID, that a domain of somebody else has. Throws E_CONFLICT. */
  async refuseForeign({ name, uuid }: { name: string; uuid?: string }, wait: Wait): Promise<void> {
    const foreign = await this.#options.hypervisor.listForeign(wait)
    const found = foreign.find((domain) => domain.name === name || domain.uuid === uuid)
    if (found === undefined) return
    const [what, other] =
      found.name === name ? [name, 'name'] : [`${found.name} with the UUID ${found.uuid}`, 'UUID']
    throw new HostletError(
      'E_CONFLICT',
      `domain ${what} exists on this host and is not hostlet's: it is never touched. Choose another ${other}.`,
      { details: { vm: name, domain: found.name } }
    )
  }

  summary(record: VmRecord): VmSummary {
    const { specification: vm, placement, state, reason, wanted, generation, retained } = record
    const startedAt = this.#options.starts.startedAt(record)
    const health = this.#options.health?.of(vm.uuid)
    return {
      name: vm.name,
      uuid: vm.uuid,
      state,
      reason,
      wanted,
      generation,
      profile: vm.profile,
      cpus: vm.cpus,
      memoryBytes: vm.memoryBytes,
      macAddress: placement.macAddress,
      address: placement.address,
      ...(startedAt !== undefined && !offStates.has(state) && !standsForBackup(record) && { startedAt }),
      ...(health !== undefined && { health }),
      ...(retained && { retainedUntil: retained.until })
    }
  }

  async list(wait: Wait): Promise<VmSummary[]> {
    const forgetOthers = this.#options.starts.look()
    const records = await this.#options.hypervisor.listVms(wait)
    forgetOthers(records)
    const told = records.filter(({ placement }) => !placement.trial)
    this.#options.health?.look(told)
    return told.map((record) => this.summary(record))
  }

  /** Its network and reservation stand before it runs. No effect on one that runs. */
  async start(record: VmRecord, wait: Wait): Promise<void> {
    const { hypervisor, placements } = this.#options
    const { specification: vm, placement } = record
    // What stands paused for a backup has taken none of its memory yet.
    const takesMemory = offStates.has(record.state) || standsForBackup(record)
    if (takesMemory) this.requireMemory(vm)
    using _admitted = takesMemory ? await this.#options.resources?.admitStart(record, wait) : undefined
    await hypervisor.ensureNetwork(placements.networkOf(record), wait)
    const { macAddress, address } = placement
    await hypervisor.addReservation(placement.network, { macAddress, address, vm: vm.name }, wait)
    await hypervisor.start(vm.name, wait)
  }

  /** One VM too many would have the kernel kill another. Throws E_CAPACITY. */
  requireMemory(vm: Pick<VmSpecification, 'name' | 'memoryBytes' | 'profile'>): void {
    if (this.#options.resources?.usesHugePages(vm)) return
    const { name, memoryBytes } = vm
    const availableBytes = (this.#options.availableMemoryBytes ?? freemem)()
    if (availableBytes >= memoryBytes) return
    throw new HostletError(
      'E_CAPACITY',
      `the host has ${mebibytes(availableBytes)} MiB of memory left, VM ${name} needs ${mebibytes(memoryBytes)} MiB. Stop another VM, or use another host.`,
      { details: { vm: name, availableBytes, memoryBytes } }
    )
  }

  /** See awaitReady. */
  async awaitReady(
    record: Pick<VmRecord, 'specification' | 'placement'>,
    wait: ProgressWait & { readyWithinMs?: number | undefined; leaseBefore?: number | undefined }
  ): Promise<void> {
    const { hypervisor, clock, probes, readyTimeoutMs } = this.#options
    const timeoutMs = wait.readyWithinMs ?? record.specification.ready?.timeoutMs ?? readyTimeoutMs
    const options = { hypervisor, clock, ...(probes && { probes }) }
    await awaitReady(record, options, { ...wait, timeoutMs })
  }

  /**
   * Presses the power button until the guest is off, or the time is over; then cuts the power. Returns whether it had
   * to. A VM that is gone counts as off.
   */
  async stop(name: string, wait: ProgressWait & { graceMs: number }): Promise<{ forced: boolean }> {
    const { hypervisor } = this.#options
    if (wait.graceMs > 0 && (await this.#stopsPolitely(name, wait))) return { forced: false }
    const record = await hypervisor.findVm(name, wait)
    if (record === undefined || offStates.has(record.state) || standsForBackup(record))
      return { forced: false }
    wait.progress?.({ note: 'cutting the power' })
    await hypervisor.cutPower(name, wait)
    return { forced: true }
  }

  /** Asks the guest to reboot and waits until it did. Throws E_TIMEOUT when it does not, E_CONFLICT when it is off. */
  async reboot(name: string, wait: Wait & { graceMs: number }): Promise<void> {
    const { hypervisor, clock } = this.#options
    const rebooted = new AbortController()
    using _listener = hypervisor.onEvent((event) => {
      if (event.name === name && event.kind === 'rebooted') rebooted.abort()
    })
    await hypervisor.requestReboot(name, wait)
    await clock.sleep(wait.graceMs, AbortSignal.any([wait.signal, rebooted.signal])).catch(() => undefined)
    wait.signal.throwIfAborted()
    if (rebooted.signal.aborted) return
    throw new HostletError(
      'E_TIMEOUT',
      `VM ${name} did not reboot within ${wait.graceMs} ms. Its guest may ignore the request; reboot it with force to reset it.`,
      { details: { vm: name } }
    )
  }

  async #stopsPolitely(name: string, wait: ProgressWait & { graceMs: number }): Promise<boolean> {
    const { hypervisor, clock } = this.#options
    using deadline = startDeadline({ clock, ms: wait.graceMs, what: `stopping ${name}`, signal: wait.signal })
    const { signal } = deadline
    try {
      let pressedAt = Number.NEGATIVE_INFINITY
      let refused = false
      for (;;) {
        const record = await hypervisor.findVm(name, { signal })
        if (record === undefined || offStates.has(record.state) || standsForBackup(record)) return true
        if (clock.monotonic() - pressedAt >= pressAgainMs) {
          pressedAt = clock.monotonic()
          wait.progress?.({ note: 'asked to power off' })
          const pressed = await this.#press(name, { signal, again: refused })
          refused = pressed === 'refused'
          if (refused) pressedAt = Number.NEGATIVE_INFINITY
          // It waits for QEMU in libvirt, and a second one would wait behind it.
          if (pressed === 'unheard') pressedAt = Number.POSITIVE_INFINITY
        }
        await this.#change(name, signal)
      }
    } catch (error) {
      wait.signal.throwIfAborted()
      if (signal.aborted) return false
      throw error
    }
  }

  /** Refused where libvirt failed: QEMU may have died, which the next look tells. Unheard where QEMU stands still. */
  async #press(name: string, { signal, again }: Wait & { again: boolean }): Promise<Press> {
    try {
      await this.#options.hypervisor.pressPowerButton(name, { signal })
      return 'pressed'
    } catch (error) {
      signal.throwIfAborted()
      const { code } = asHostletError(error)
      if (code === 'E_TIMEOUT') return 'unheard'
      if (again || code !== 'E_LIBVIRT') throw error
      return 'refused'
    }
  }

  /** Waits for the VM's next event, or a while. */
  async #change(name: string, signal: AbortSignal): Promise<void> {
    const { hypervisor, clock } = this.#options
    const happened = new AbortController()
    using _listener = hypervisor.onEvent((event) => {
      if (event.name === name) happened.abort()
    })
    await clock.sleep(lookMs, AbortSignal.any([signal, happened.signal])).catch(() => undefined)
    signal.throwIfAborted()
  }

  async #absent(name: string, wait: Wait): Promise<HostletError> {
    await this.refuseForeign({ name }, wait)
    return new HostletError(
      'E_NOT_FOUND',
      `VM ${name} is not defined on this host. See "hostlet vm ls" for the ones that are.`,
      { details: { vm: name } }
    )
  }
}

/** Its CPUs do not run: to everybody but its backup, which leaves it off at the end, it is off already. */
function standsForBackup({ state, reason }: Pick<VmRecord, 'state' | 'reason'>): boolean {
  return state === 'paused' && reason === backupReason
}

function mebibytes(bytes: number): number {
  return Math.floor(bytes / 1024 ** 2)
}
