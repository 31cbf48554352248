// Whether the storage of a pool answers: told by how long libvirt and the kernel have been working on what was asked of it.

import {
  type CallInFlight,
  storagePoolLookupByName,
  storagePoolRefresh,
  storageVolDelete,
  storageVolResize
} from 'node-libvirt'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline, untilAborted } from '../../lib/deadline.ts'
import { mustRun } from '../../lib/run-process.ts'
import type { SilentPool, Wait } from './hypervisor.ts'
import type { PoolDefinition } from './volume-xml.ts'

/** Longer than libvirt and the kernel take for most of what is asked of a pool. */
export const poolSilentMs = 30_000
/** The same where much may be written or looked through: large files are removed, or many are looked at. */
export const poolSlowMs = 120_000
const slow: ReadonlySet<unknown> = new Set([storagePoolRefresh, storageVolDelete, storageVolResize])
/** How long who only wants to tell the room that is left waits for it. */
export const spaceWaitMs = 3_000
/** A reading that hangs ends with its storage; this is for the deadline's sake. */
const readMs = 24 * 3_600_000

export interface Space {
  readonly capacityBytes: number
  readonly availableBytes: number
}

export interface PoolWatchOptions {
  readonly pool: PoolDefinition
  /** What libvirtd works on, given up or not. */
  readonly inFlight: () => readonly CallInFlight[]
  readonly clock: Pick<Clock, 'now' | 'monotonic' | 'timer'>
  /** For tests; a program that asks the file system otherwise. */
  readonly readSpace?: (path: string) => Promise<Space>
}

export class PoolWatch {
  readonly #options: PoolWatchOptions
  #reading: { readonly since: number; readonly space: Promise<Space> } | undefined
  #last: Space = { capacityBytes: 0, availableBytes: 0 }

  constructor(options: PoolWatchOptions) {
    this.#options = options
  }

  /** Undefined while it answers, and as far as nothing is asked of it. */
  silence(): SilentPool | undefined {
    const { pool, inFlight, clock } = this.#options
    const readingMs = this.#reading === undefined ? 0 : clock.monotonic() - this.#reading.since
    const late = inFlight().filter(
      ({ procedure, args, forMs }) =>
        forMs >= (slow.has(procedure) ? poolSlowMs : poolSilentMs) && poolOf(procedure, args) === pool.name
    )
    const silentMs = Math.max(readingMs, ...late.map(({ forMs }) => forMs))
    return silentMs < poolSilentMs ? undefined : { ...pool, since: Math.round(clock.now() - silentMs) }
  }

  /**
   * Refuses what would wait for storage that does not answer: each such call holds a worker of libvirtd and a place among
   * the calls of this agent, which other VMs need. Throws E_UNAVAILABLE.
   */
  requireAnswering(): void {
    const silent = this.silence()
    if (silent === undefined) return
    const { name, path, since } = silent
    throw new HostletError(
      'E_UNAVAILABLE',
      `the storage of pool ${name} at ${path} does not answer since ${new Date(since).toISOString()}. Look at its disk or file server; what is asked of the pool is refused until it answers.`,
      { details: { pool: name } }
    )
  }

  /**
   * Asked of the file system by a program of its own, and by one only: storage that hangs would hold a thread of this
   * process for each question, and keep the process from ending. Throws the signal's reason.
   */
  async space({ signal }: Wait): Promise<Space> {
    const { clock, pool, readSpace = askFileSystem } = this.#options
    if (this.#reading === undefined) {
      const space = readSpace(pool.path)
      this.#reading = { since: clock.monotonic(), space }
      const over = () => {
        this.#reading = undefined
      }
      // Also where nobody waits for it any more.
      space.then((found) => {
        this.#last = found
        over()
      }, over)
    }
    return await untilAborted(this.#reading.space, signal)
  }

  /** The room that was left when the storage last told, where it does not soon; zeroes where it never did. */
  async lastSpace({ signal }: Wait, ask: (wait: Wait) => Promise<Space>): Promise<Space> {
    if (this.silence() !== undefined) return this.#last
    const { clock, pool } = this.#options
    using soon = startDeadline({ clock, ms: spaceWaitMs, what: `pool ${pool.name}`, signal })
    try {
      return await ask({ signal: soon.signal })
    } catch (error) {
      if (signal.aborted || !soon.signal.aborted) throw error
      return this.#last
    }
  }
}

/** The name of the pool that a call is about, undefined for one about something else. */
function poolOf(procedure: CallInFlight['procedure'], args: unknown): string | undefined {
  const { pool, volume, name } = args as {
    pool?: { name?: string }
    volume?: { pool?: string }
    name?: string
  }
  if (procedure === storagePoolLookupByName) return name
  return pool?.name ?? volume?.pool
}

async function askFileSystem(path: string): Promise<Space> {
  const options = { signal: new AbortController().signal, deadlineMs: readMs }
  const text = await mustRun('stat', ['--file-system', '--format=%S %b %a', '--', path], options)
  const [blockBytes = 0, blocks = 0, available = 0] = text.trim().split(' ').map(Number)
  return { capacityBytes: blocks * blockBytes, availableBytes: available * blockBytes }
}
