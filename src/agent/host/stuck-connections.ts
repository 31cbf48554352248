// Which connections a hung QEMU holds up, when one is replaced, and how many replaced ones may linger.

import { type Connection, LOW_PRIORITY_IN_FLIGHT_MAX } from 'node-libvirt'
import type { ConnectionRole } from './connections.ts'

export const watchIntervalMs = 5_000
/** As long as libvirt lets a call wait for another one's hold of a domain; one that is merely slow ends before. */
export const stuckForMs = 30_000
export const replacementsMax = 3
export const replacementsWindowMs = 10 * 60_000
/**
 * Replaced connections whose calls have not returned. Each holds up to four of libvirtd's twenty workers: the rest
 * must do for everybody else on the host.
 */
export const retiredMax = 3

/** When each role was last replaced, on the monotonic clock. */
export type Replacements = Map<ConnectionRole, readonly number[]>
export type Advice = 'keep' | 'replace' | 'spent'
type Watched = Pick<Connection, 'load'>

export class StuckConnections<Target extends Watched> {
  readonly #replacements: Replacements
  readonly #since = new Map<ConnectionRole, { readonly connection: Target; readonly at: number }>()
  readonly #toldSpent = new Set<ConnectionRole>()
  readonly #retired = new Set<Target>()

  constructor(replacements: Replacements) {
    this.#replacements = replacements
  }

  /** Looks at the connection of a role. `spent`, told once while it is so, means stuck but not to be replaced. */
  observe(role: ConnectionRole, connection: Target, now: number): Advice {
    if (connection.load.abandoned < LOW_PRIORITY_IN_FLIGHT_MAX) {
      this.#since.delete(role)
      this.#toldSpent.delete(role)
      return 'keep'
    }
    const since = this.#since.get(role)
    if (since?.connection !== connection) this.#since.set(role, { connection, at: now })
    if (since?.connection !== connection || now - since.at < stuckForMs) return 'keep'
    return this.#mayReplace(role, now) ? 'replace' : this.#spent(role)
  }

  /** It was replaced: it is left to finish what it carries. */
  retire(connection: Target): void {
    this.#retired.add(connection)
  }

  /** Retired connections that carry nothing any more: for the caller to close. */
  takeDrained(): Target[] {
    const drained = [...this.#retired].filter(({ load }) => load.inFlight === 0 && load.queued === 0)
    for (const connection of drained) this.#retired.delete(connection)
    return drained
  }

  /** Counts the attempt, whether or not it succeeds. */
  #mayReplace(role: ConnectionRole, now: number): boolean {
    const recent = (this.#replacements.get(role) ?? []).filter((at) => now - at < replacementsWindowMs)
    if (recent.length >= replacementsMax || this.#retired.size >= retiredMax) return false
    this.#replacements.set(role, [...recent, now])
    return true
  }

  #spent(role: ConnectionRole): Advice {
    if (this.#toldSpent.has(role)) return 'keep'
    this.#toldSpent.add(role)
    return 'spent'
  }
}
