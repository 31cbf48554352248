// Heads of the audit trails of hosts in SQLite, and which of them do not fit the ones before.

import type { Link } from '../../lib/chain.ts'
import type { HeadOutcome, KeptHead, TrailFaultRecord, TrailHead, TrailStore } from './audit-store.ts'
import type { Sqlite } from './sqlite.ts'

/** Heads of a host that are kept; the oldest go first. */
export const headsMax = 64

export class TrailTable implements TrailStore {
  readonly #sqlite: Sqlite

  constructor(sqlite: Sqlite) {
    this.#sqlite = sqlite
  }

  async note(host: string, head: TrailHead, at: number): Promise<HeadOutcome> {
    return this.#sqlite.transaction(() => {
      const fault = this.#fault(host)
      if (fault !== undefined) return { kind: 'refused', message: fault.message, isNew: false }
      const outcome = judgeHead(head, this.#heads(host))
      if (outcome.kind === 'kept') this.#keep(host, head, at)
      if (outcome.kind === 'refused') this.#refuse(host, outcome.message, at)
      return outcome
    })
  }

  async heads(host: string): Promise<readonly KeptHead[]> {
    return this.#heads(host)
  }

  async fault(host: string): Promise<TrailFaultRecord | undefined> {
    return this.#fault(host)
  }

  async reset(host: string): Promise<boolean> {
    return this.#sqlite.transaction(() => {
      const heads = this.#sqlite.run('DELETE FROM trail_heads WHERE host = :host', { host })
      return heads + this.#sqlite.run('DELETE FROM trail_faults WHERE host = :host', { host }) > 0
    })
  }

  #heads(host: string): KeptHead[] {
    const sql = 'SELECT seq, hash, at FROM trail_heads WHERE host = :host ORDER BY seq DESC'
    return this.#sqlite.all<KeptHead>(sql, { host }).map(({ seq, hash, at }) => ({ seq, hash, at }))
  }

  #fault(host: string): TrailFaultRecord | undefined {
    const sql = 'SELECT at, message FROM trail_faults WHERE host = :host'
    return this.#sqlite.get<TrailFaultRecord>(sql, { host })
  }

  #keep(host: string, { seq, hash }: Link, at: number): void {
    this.#sqlite.run(
      `INSERT INTO trail_heads (host, seq, hash, at) VALUES (:host, :seq, :hash, :at)
       ON CONFLICT (host, seq) DO NOTHING`,
      { host, seq, hash, at }
    )
    this.#sqlite.run(
      `DELETE FROM trail_heads WHERE host = :host AND seq <=
         (SELECT seq FROM trail_heads WHERE host = :host ORDER BY seq DESC LIMIT 1 OFFSET :headsMax)`,
      { host, headsMax }
    )
  }

  #refuse(host: string, message: string, at: number): void {
    this.#sqlite.run('INSERT INTO trail_faults (host, at, message) VALUES (:host, :at, :message)', {
      host,
      at,
      message
    })
  }
}

/** `held`: newest first. */
export function judgeHead({ seq, hash, earlier }: TrailHead, held: readonly Link[]): HeadOutcome {
  const [newest] = held
  if (newest === undefined) return { kind: 'kept' }
  if (seq < newest.seq)
    return refusal(
      `it ends with entry ${seq}, and it had come to entry ${newest.seq} before: its end was cut off, or an older copy was put back`
    )
  const same = held.find((head) => head.seq === seq)
  if (same !== undefined) return same.hash === hash ? { kind: 'kept' } : refusal(anotherEntry(seq))
  const known = held.find((head) => head.seq === earlier?.seq)
  if (known !== undefined && known.hash !== earlier?.hash) return refusal(anotherEntry(known.seq))
  return known?.seq === newest.seq ? { kind: 'kept' } : { kind: 'ask', seq: newest.seq }
}

function anotherEntry(seq: number): string {
  return `its entry ${seq} is not the one that this scheduler has signed for: it was written anew`
}

function refusal(message: string): HeadOutcome {
  return { kind: 'refused', message, isNew: true }
}
