// What happened in a world, line by line: a hash that two runs of a seed must share, and the lines themselves when asked for.

import { createHash, type Hash } from 'node:crypto'

export class Trace {
  readonly lines: string[] = []
  /** How often each kind of fault and of work happened. */
  readonly counts = new Map<string, number>()
  readonly #hash: Hash = createHash('sha256')
  readonly #keep: boolean
  readonly #now: () => number

  constructor({ keep, now }: { keep: boolean; now: () => number }) {
    this.#keep = keep
    this.#now = now
  }

  note(who: string, text: string): void {
    const line = `${this.#now()} ${who} ${text}`
    this.#hash.update(line)
    if (this.#keep) this.lines.push(line)
  }

  count(kind: string): void {
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1)
  }

  /** A fault is counted and told. */
  fault(who: string, kind: string, text = ''): void {
    this.count(`fault: ${kind}`)
    this.note(who, `FAULT ${kind} ${text}`)
  }

  digest(): string {
    return this.#hash.digest('hex')
  }
}
