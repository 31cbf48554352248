// What a holder of a lock says of itself in the repository, and when it can be known to be gone.

import { readFileSync, readlinkSync } from 'node:fs'
import type { Clock } from '../../lib/clock.ts'

export const leaseBytesMax = 4_096
/** A contender takes over a lease that it has seen unchanged for so long. */
export const leaseLifetimeMs = 120_000
/**
 * A holder that has not renewed for so long, counted from before it wrote, gives up. The rest of the lifetime is for
 * clocks that run at different speeds and for work that must notice the abort.
 */
export const holdMs = 80_000
export const renewEveryMs = 20_000
/** For what is done after the end, whatever the state of the store. */
export const cleanUpMsMax = 10_000

/** `claim`: has asked, and may have to withdraw. `held`: has seen that nobody else asks. */
export const leasePhases = ['claim', 'held'] as const
export type LeasePhase = (typeof leasePhases)[number]

/** A process that can be told from every other one that the same kernel has run since it booted. */
export interface ProcessIdentity {
  readonly bootId: string
  readonly pidNamespace: string
  readonly pid: number
  /** Clock ticks from boot to the start of the process. */
  readonly startTicks: string
}

export interface Lease {
  readonly phase: LeasePhase
  /** Grows with each renewal: what a contender watches. */
  readonly revision: number
  readonly host: string
  readonly instance?: string
  /** By the holder's wall clock: for people only. */
  readonly since: string
  readonly process: ProcessIdentity
}

/** A lease as it lies in the repository; what cannot be read is still somebody's. */
export interface StoredLease {
  readonly name: string
  readonly content: Buffer
  readonly lease: Lease | undefined
}

/** A lease that this process has written. */
export interface OwnLease {
  readonly name: string
  write(phase: LeasePhase, signal: AbortSignal): Promise<void>
  /** The leases of all others; undefined when ours is not there. */
  others(signal: AbortSignal): Promise<StoredLease[] | undefined>
  remove(): Promise<void>
}

export function encodeLease(lease: Lease): Buffer {
  return Buffer.from(`${JSON.stringify(lease)}\n`)
}

export function decodeLease(content: Uint8Array): Lease | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(content).toString('utf8'))
    return isLease(value) ? value : undefined
  } catch {
    // Half of one cannot be there; another program's, or a later format's, can.
    return undefined
  }
}

function isLease(value: unknown): value is Lease {
  const { phase, revision, host, since, process } = Object(value) as Record<string, unknown>
  const { bootId, pidNamespace, pid, startTicks } = Object(process) as Record<string, unknown>
  return (
    leasePhases.some((known) => known === phase) &&
    Number.isSafeInteger(revision) &&
    [host, since, bootId, pidNamespace, startTicks].every((text) => typeof text === 'string') &&
    Number.isSafeInteger(pid) &&
    Number(pid) > 0
  )
}

export function ownProcess(): ProcessIdentity {
  return {
    bootId: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
    pidNamespace: readlinkSync('/proc/self/ns/pid'),
    pid: process.pid,
    startTicks: startTicksOf(process.pid) ?? ''
  }
}

/**
 * Whether a process is provably over: it ran under this very boot and in our namespace of process ids, and no process has
 * its number, or one that started at another time. False also means "cannot tell".
 */
export function isGone(other: ProcessIdentity, own: ProcessIdentity): boolean {
  if (other.bootId !== own.bootId || other.pidNamespace !== own.pidNamespace) return false
  if (!exists(other.pid)) return true
  const ticks = startTicksOf(other.pid)
  return ticks !== undefined && other.startTicks !== '' && ticks !== other.startTicks
}

/** By signal 0, since a hardened service does not see the processes of other users in procfs. */
function exists(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH'
  }
}

/** proc(5): the 22nd field; the second may hold spaces and brackets. */
function startTicksOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .at(19)
  } catch {
    // Gone, or hidden from us: the caller has asked for its existence by other means.
    return undefined
  }
}

/** Tells by its own monotonic clock alone for how long each lease has not changed. */
export class LeaseWatch {
  readonly #clock: Pick<Clock, 'monotonic'>
  #seen = new Map<string, { content: Buffer; since: number }>()

  constructor(clock: Pick<Clock, 'monotonic'>) {
    this.#clock = clock
  }

  /** Takes the leases as read just now; returns those that have not changed for the time. */
  look(leases: readonly StoredLease[], lifetimeMs: number): StoredLease[] {
    const now = this.#clock.monotonic()
    const before = this.#seen
    this.#seen = new Map(
      leases.map(({ name, content }) => {
        const known = before.get(name)
        return [name, known?.content.equals(content) ? known : { content, since: now }]
      })
    )
    return leases.filter(({ name }) => now - (this.#seen.get(name)?.since ?? now) >= lifetimeMs)
  }
}
