// The gates before every start of a machine, for each hypervisor alike.

import type { StartGate } from './hypervisor.ts'

export class StartGates {
  readonly #gates = new Set<StartGate>()

  add(gate: StartGate): Disposable {
    this.#gates.add(gate)
    return { [Symbol.dispose]: () => this.#gates.delete(gate) }
  }

  /** As when the agent that added them ends without a word. */
  clear(): void {
    this.#gates.clear()
  }

  /** One after the other; the first that throws is the last. */
  readonly pass: StartGate = async (vm, wait) => {
    for (const gate of [...this.#gates]) await gate(vm, wait)
  }
}
