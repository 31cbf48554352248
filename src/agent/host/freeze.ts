// The guest's file systems at rest for a moment, by its agent: with a hard deadline, and thawed whatever happens.

import type { Connection, Domain } from 'node-libvirt'
import { asHostletError, HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline, untilAborted } from '../../lib/deadline.ts'
import type { Logger } from '../../lib/log.ts'
import type { LiveDomain } from './backup-xml.ts'
import type { ConnectionRole } from './connections.ts'
import { freezeGuest, thawGuest } from './guest-commands.ts'
import type { Wait } from './hypervisor.ts'
import { attempt } from './libvirt-errors.ts'

export interface FreezesOptions {
  readonly connection: (role: ConnectionRole) => Connection
  readonly clock: Clock
  readonly log: Logger
}

/** What came of it: `fault` says why the file systems were not at rest all the time. */
export interface FrozenResult<Value> {
  readonly value: Value
  readonly fault?: string
}

/** libvirt itself waits 5 s for an agent that does not answer. */
const thawMs = 8_000
/** An agent that was busy may freeze long after it was asked: it is told to thaw until it says that it did. */
const thawAgainMs = 5_000
const thawsMax = 24
const callMs = 10_000

export class Freezes implements AsyncDisposable {
  readonly #options: FreezesOptions
  readonly #stop = new AbortController()
  readonly #thaws = new Set<Promise<void>>()

  constructor(options: FreezesOptions) {
    this.#options = options
  }

  /**
   * Runs `work` while the file systems are frozen, or without where that cannot be. They stand still for `freezeMs` at
   * most, even if `work` takes longer. Throws what `work` throws.
   */
  async during<Value>(
    domain: Domain,
    { freezeMs, agent }: { freezeMs: number; agent: LiveDomain['agent'] },
    wait: Wait,
    work: () => Promise<Value>
  ): Promise<FrozenResult<Value>> {
    if (agent !== 'connected') return { value: await work(), fault: absent[agent] }
    const { clock } = this.#options
    const what = `freezing the guest of ${domain.name}`
    using deadline = startDeadline({ clock, ms: freezeMs, what, signal: wait.signal })
    const fault = await this.#freeze(domain, freezeMs, deadline.signal)
    if (fault !== undefined) {
      await this.#thaw(domain)
      return { value: await work(), fault }
    }
    const working = work()
    // Whichever ends first: the guest is not kept waiting for a backup that takes long to begin.
    const inTime = await untilAborted(working, deadline.signal).then(
      () => true,
      () => false
    )
    const thawed = await this.#thaw(domain)
    const value = await working
    if (!inTime) return { value, fault: `the backup did not begin within ${freezeMs} ms` }
    return thawed ? { value } : { value, fault: "the guest's agent did not confirm the thaw" }
  }

  /** How many file systems were frozen; undefined when the agent does not say. */
  async thaw(domain: Domain, wait: Wait): Promise<number | undefined> {
    const { signal } = wait
    try {
      return await thawGuest(this.#agents, domain, { signal, deadlineMs: thawMs })
    } catch {
      signal.throwIfAborted()
      return undefined
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new HostletError('E_CANCELLED', 'the agent is stopping'))
    await Promise.allSettled(this.#thaws)
  }

  /** Agents may hang: they hold up statistics at most, which have deadlines of their own. */
  get #agents(): Connection {
    return this.#options.connection('jobs')
  }

  /** Why it failed; undefined when all are frozen. */
  async #freeze(domain: Domain, freezeMs: number, signal: AbortSignal): Promise<string | undefined> {
    const timeoutSeconds = Math.max(1, Math.floor(freezeMs / 1_000))
    try {
      const call = { signal, deadlineMs: freezeMs, timeoutSeconds, limitMs: callMs }
      await attempt(`freeze the guest of ${domain.name}`, () => freezeGuest(this.#agents, domain, call))
      return undefined
    } catch (error) {
      return asHostletError(error).message
    }
  }

  /** True when the agent confirms it. Otherwise it is told again, in the background. */
  async #thaw(domain: Domain): Promise<boolean> {
    if ((await this.thaw(domain, { signal: this.#stop.signal })) !== undefined) return true
    this.#options.log.warn({ vm: domain.name }, 'the guest did not confirm that it thawed; asking again')
    const again = this.#thawAgain(domain).catch((error) => {
      if (!this.#stop.signal.aborted)
        this.#options.log.warn({ vm: domain.name, error: asHostletError(error) }, 'thaw was given up')
    })
    this.#thaws.add(again)
    void again.finally(() => this.#thaws.delete(again))
    return false
  }

  async #thawAgain(domain: Domain): Promise<void> {
    const { signal } = this.#stop
    for (let attempts = 0; attempts < thawsMax; attempts++) {
      await this.#options.clock.sleep(thawAgainMs, signal)
      if ((await this.thaw(domain, { signal })) === undefined) continue
      this.#options.log.info({ vm: domain.name }, 'the guest thawed')
      return
    }
    this.#options.log.error({ vm: domain.name }, 'the guest does not confirm that it thawed')
  }
}

const absent = {
  none: 'the VM has no channel to a guest agent: it has one from its next start on',
  away: 'no guest agent answers in the VM'
} as const
