// VMs that are off and stand paused while their disks are backed up: started without running, and off again or running at the end.

import { type Connection, domainCreateFlag, domainResume, domainState } from 'node-libvirt'
import { KeyedLock } from '../../lib/keyed-lock.ts'
import type { ConnectionRole } from './connections.ts'
import type { Domains } from './domains.ts'
import type { Wait } from './hypervisor.ts'
import { attempt } from './libvirt-errors.ts'
import { clearMark, type PauseMark, readMark, setMark } from './pause-mark.ts'

export interface BackupPausesOptions {
  readonly connection: (role: ConnectionRole) => Connection
  readonly domains: Pick<Domains, 'require' | 'start' | 'stateOf' | 'cutPower' | 'find'>
  /** QEMU does not start without it. */
  readonly activateNetwork: (name: string, wait: Wait) => Promise<void>
}

const resumeMs = 30_000

/** Reasons of being off, in the words of a record, that nobody asked for. */
const deaths: ReadonlySet<string> = new Set(['crashed', 'failed', 'panicked'])

export class BackupPauses {
  readonly #options: BackupPausesOptions
  /** A start and the end of a backup look at a VM and change it: never both at once. */
  readonly #lock = new KeyedLock()

  constructor(options: BackupPausesOptions) {
    this.#options = options
  }

  /** One that stands paused for a backup runs from then on. */
  async start(name: string, wait: Wait): Promise<void> {
    await using _held = await this.#lock.acquire(name, wait.signal)
    if ((await this.#markOf(name, wait)) !== undefined) await this.#resume(name, wait)
    else await this.#options.domains.start(name, wait)
  }

  async startPaused(name: string, wait: Wait): Promise<void> {
    await using _held = await this.#lock.acquire(name, wait.signal)
    const { domains, activateNetwork } = this.#options
    const { domain, metadata } = await domains.require(name, wait)
    const state = await domains.stateOf(domain, `start VM ${name} paused`, wait)
    if (state !== domainState.shutOff && state !== domainState.crashed) return
    await activateNetwork(metadata.placement.network, wait)
    const reason = (await domains.find(name, wait))?.reason ?? ''
    // One whose QEMU died did not go off by itself: it may run again where it should.
    await setMark(this.#control, domain, deaths.has(reason) ? 'stopped' : metadata.wanted, wait)
    try {
      await domains.start(name, wait, domainCreateFlag.paused)
    } catch (error) {
      await clearMark(this.#control, domain, wait).catch(() => undefined)
      throw error
    }
  }

  async resume(name: string, wait: Wait): Promise<void> {
    await using _held = await this.#lock.acquire(name, wait.signal)
    const { domain } = await this.#options.domains.require(name, wait)
    const state = await this.#options.domains.stateOf(domain, `resume VM ${name}`, wait)
    if (state === domainState.paused) await this.#resume(name, wait)
  }

  /**
   * Has a VM that stands paused for a backup be off again, or run where that was asked for meanwhile, or its QEMU had died;
   * one whose guest had shut itself down stays off. False when it does not stand so.
   */
  async settle(name: string, wait: Wait): Promise<boolean> {
    await using _held = await this.#lock.acquire(name, wait.signal)
    const { domains } = this.#options
    const { domain, metadata } = await domains.require(name, wait)
    const mark = await this.#markOf(name, wait)
    if (mark === 'stopped' && metadata.wanted === 'running') await this.#resume(name, wait)
    else if (mark !== undefined) await domains.cutPower(name, wait)
    // Also what a start that never came about left in the definition.
    await clearMark(this.#control, domain, wait)
    return mark !== undefined
  }

  get #control(): Connection {
    return this.#options.connection('control')
  }

  /** Of a machine that stands paused for a backup. */
  async #markOf(name: string, wait: Wait): Promise<PauseMark | undefined> {
    const { domains } = this.#options
    const { domain } = await domains.require(name, wait)
    const state = await domains.stateOf(domain, `look at VM ${name}`, wait)
    return state === domainState.paused ? await readMark(this.#control, domain, wait) : undefined
  }

  async #resume(name: string, wait: Wait): Promise<void> {
    const { domain } = await this.#options.domains.require(name, wait)
    await attempt(`resume VM ${name}`, () =>
      this.#options
        .connection('jobs')
        .call(domainResume, { domain }, { signal: wait.signal, deadlineMs: resumeMs })
    )
    await clearMark(this.#control, domain, wait)
  }
}
