// Watches the kernel's rules of VMs, transaction by transaction: whether there was any moment at which they did not stand.

import assert from 'node:assert/strict'
import { followLines } from '../../src/lib/follow-lines.ts'

const chainsOf = (port: string): readonly string[] => [
  `bridge from-${port}`,
  `bridge to-${port}`,
  `inet out-${port}`,
  `inet in-${port}`
]

/** To be begun before the first rules are made: what was there before is unknown to it. */
export class WatchedRules implements AsyncDisposable {
  /** Transactions that changed the tables. */
  transactions = 0
  /** Moments at which rules of a watched port were not as they were when its watch began. */
  readonly gaps: string[] = []
  readonly #table: string
  /** Rules of each chain, by family and name. */
  readonly #rules = new Map<string, number>()
  /** Elements of maps, by family; each leads to a chain. */
  readonly #elements = new Set<string>()
  readonly #watched = new Map<string, string>()
  readonly #stop = new AbortController()
  readonly #ended: Promise<void>
  #touched = false
  #fault: string | undefined

  constructor(table: string) {
    this.#table = table
    const { signal } = this.#stop
    this.#ended = followLines('nft', ['monitor'], { signal, onLine: (line) => this.#take(line) }).then(
      (why) => {
        if (!signal.aborted) this.#fault = why
      }
    )
  }

  /** Whether anything leads to the port's chains, or they are there. */
  knows(port: string): boolean {
    return chainsOf(port).some((chain) => this.#rules.has(chain) || this.#leadTo(chain) > 0)
  }

  /** Whether all of the port's chains have rules and packets are led to each. */
  stand(port: string): boolean {
    return chainsOf(port).every((chain) => (this.#rules.get(chain) ?? 0) > 0 && this.#leadTo(chain) > 0)
  }

  /** From now on the port's rules are to be as they are now, after each transaction. */
  watch(port: string): void {
    assert.ok(this.stand(port), `no rules of ${port}`)
    this.#watched.set(port, this.#stateOf(port))
  }

  /** Throws where the watch itself missed something. */
  check(): void {
    assert.equal(this.#fault, undefined, 'the watch over the rules broke off')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort()
    await this.#ended
  }

  /** `add rule bridge TABLE CHAIN …`; a transaction ends with `# new generation 7 by process 1 (nft)`. */
  #take(line: string): void {
    if (line.startsWith('# new generation')) this.#endOf(line)
    else if (line.startsWith('# ERROR')) this.#fault ??= line
    else this.#change(line)
  }

  #change(line: string): void {
    const [verb, kind = '', family, table, name] = line.split(' ')
    if (table !== this.#table) return
    this.#touched = true
    const key = `${family} ${name}`
    const isNew = verb === 'add'
    if (kind === 'chain') isNew ? this.#rules.set(key, 0) : this.#rules.delete(key)
    if (kind === 'rule') this.#rules.set(key, (this.#rules.get(key) ?? 0) + (isNew ? 1 : -1))
    if (kind === 'set' || kind === 'map') this.#forgetElements(key)
    if (kind === 'element') {
      const element = `${key} ${line.slice(line.indexOf('{'))}`
      isNew ? this.#elements.add(element) : this.#elements.delete(element)
    }
  }

  #forgetElements(key: string): void {
    for (const element of this.#elements) if (element.startsWith(`${key} {`)) this.#elements.delete(element)
  }

  #endOf(line: string): void {
    if (!this.#touched) return
    this.#touched = false
    this.transactions++
    for (const [port, before] of this.#watched) {
      const now = this.#stateOf(port)
      if (now !== before) this.gaps.push(`${port}: ${now} in place of ${before}, ${line}`)
    }
  }

  #stateOf(port: string): string {
    return chainsOf(port)
      .map((chain) => `${chain}: ${this.#rules.get(chain) ?? 'none'}, led to by ${this.#leadTo(chain)}`)
      .join('; ')
  }

  #leadTo(chain: string): number {
    const [family = '', name] = chain.split(' ')
    return [...this.#elements].filter(
      (element) => element.startsWith(`${family} `) && element.includes(`goto ${name} `)
    ).length
  }
}
