// The calls that the hypervisor in memory was asked for, in order, and those that a test has fail.

import { HostletError } from '../../errors.ts'
import type { Hypervisor, Wait } from './hypervisor.ts'

export type Operations =
  | Exclude<keyof Hypervisor, 'open' | 'status' | 'onStatus' | 'onEvent' | 'addStartGate' | 'close'>
  | 'endBackup'

export class MemoryCalls {
  /** As `start web-1`. */
  readonly made: string[] = []
  readonly #isAway: () => boolean
  readonly #failures = new Map<Operations, unknown[]>()

  constructor(isAway: () => boolean) {
    this.#isAway = isAway
  }

  failNext(method: Operations, error: unknown): void {
    this.#failures.set(method, [...(this.#failures.get(method) ?? []), error])
  }

  async run<Value>(
    method: Operations,
    about: string,
    wait: Wait,
    work: () => Value | Promise<Value>
  ): Promise<Value> {
    this.enter(method, wait, about)
    return await work()
  }

  enter(method: Operations, { signal }: Wait, about = ''): void {
    signal.throwIfAborted()
    this.made.push(`${method} ${about}`.trim())
    if (this.#isAway()) throw new HostletError('E_UNAVAILABLE', 'libvirt is away')
    const failures = this.#failures.get(method)
    if (failures?.length) throw failures.shift()
  }
}
