// Who watches the hypervisor in memory: its comings and goings, and what happens to its machines.

import type { DomainEvent, HypervisorStatus } from './hypervisor.ts'

export class MemoryWatchers {
  readonly #statusListeners = new Set<(status: HypervisorStatus) => void>()
  readonly #eventListeners = new Set<(event: DomainEvent) => void>()
  #status: HypervisorStatus

  constructor(now: number) {
    this.#status = { state: 'away', since: now, reason: 'not connected yet' }
  }

  get status(): HypervisorStatus {
    return this.#status
  }

  tell(status: HypervisorStatus): void {
    this.#status = status
    for (const listener of this.#statusListeners) listener(status)
  }

  emit(event: DomainEvent): void {
    for (const listener of this.#eventListeners) listener(event)
  }

  onStatus(listener: (status: HypervisorStatus) => void): Disposable {
    this.#statusListeners.add(listener)
    return { [Symbol.dispose]: () => this.#statusListeners.delete(listener) }
  }

  onEvent(listener: (event: DomainEvent) => void): Disposable {
    this.#eventListeners.add(listener)
    return { [Symbol.dispose]: () => this.#eventListeners.delete(listener) }
  }
}
