// Where an agent dies: its durable effects are counted, and after one of them it gets to do nothing more until its process is killed.

export interface GateOptions {
  /** The effect after which it dies: 0 before the first one. Absent: never. */
  readonly at: number | undefined
  onReached(what: string): void
}

/** What a synchronous call of a dead agent throws, since it cannot wait. Whatever the agent makes of it comes to nothing. */
export class Dead extends Error {}

/**
 * Between two effects of an agent nothing changes that a kill would leave, so that being killed after one is being killed
 * before the next. Several agents of one process wait here, each at its own effect, until the process is killed.
 */
export class Gate {
  readonly #options: GateOptions
  #effects = 0
  #dead = false

  constructor(options: GateOptions) {
    this.#options = options
  }

  get effects(): number {
    return this.#effects
  }

  get isDead(): boolean {
    return this.#dead
  }

  /** Whether the next effect is the last: for one that can be cut short halfway. */
  willDieNext(): boolean {
    return this.#effects + 1 === this.#options.at
  }

  /** The agent is there, and has done nothing. */
  begin(): Promise<void> {
    if (this.#options.at === 0) this.#die('the start')
    return this.living()
  }

  /** Never resolves for a dead one. */
  living(): Promise<void> {
    return this.#dead ? new Promise(() => undefined) : Promise.resolve()
  }

  /** Throws for a dead one. */
  requireLiving(): void {
    if (this.#dead) throw new Dead('killed')
  }

  /** An effect has happened. Never resolves where it was the last. */
  passed(what: string): Promise<void> {
    this.#count(what)
    return this.living()
  }

  /** Throws where it was the last. */
  passedSync(what: string): void {
    this.#count(what)
    this.requireLiving()
  }

  #count(what: string): void {
    if (this.#dead) return
    this.#effects++
    if (this.#effects === this.#options.at) this.#die(what)
  }

  #die(what: string): void {
    this.#dead = true
    this.#options.onReached(what)
  }
}
