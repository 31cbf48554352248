// When each VM's machine started: seen in events, kept over restarts of the agent, told only of the run it belongs to.

import { asHostletError } from '../../errors.ts'
import type { Logger } from '../../lib/log.ts'
import type { BootRecord } from './boot-record.ts'
import type { DomainEvent, VmRecord } from './hypervisor.ts'

export interface VmStartsOptions {
  readonly bootRecord: Pick<BootRecord, 'read' | 'write'>
  readonly log: Logger
}

interface Start {
  readonly run: number
  /** Milliseconds since the epoch. */
  readonly startedAt: number
}

const recordName = 'vm-starts'
/** More VMs than a host runs; of any beyond it the start is not known. */
const startsMax = 4096
const ends: ReadonlySet<DomainEvent['kind']> = new Set(['stopped', 'crashed', 'undefined'])

export class VmStarts {
  readonly #options: VmStartsOptions
  readonly #starts = new Map<string, Start>()
  #writing: Promise<void> | undefined
  #changed = false
  #failed = false

  constructor(options: VmStartsOptions) {
    this.#options = options
  }

  /** Reads what an agent before this one saw since the host booted. Before the first event. */
  async load(): Promise<void> {
    const kept = await this.#options.bootRecord.read(recordName)
    if (typeof kept !== 'object' || kept === null) return
    for (const [uuid, start] of Object.entries(kept).slice(0, startsMax)) {
      if (isStart(start)) this.#starts.set(uuid, start)
    }
  }

  note({ uuid, kind, at, run }: DomainEvent): void {
    if (kind === 'started' && run !== null && this.#hasRoomFor(uuid)) {
      this.#starts.set(uuid, { run, startedAt: at })
      this.#keep()
    } else if (ends.has(kind) && this.#starts.delete(uuid)) this.#keep()
  }

  /** Undefined when nobody saw this run start. A VM that was started anew meanwhile has another run. */
  startedAt({ specification, run }: Pick<VmRecord, 'specification' | 'run'>): number | undefined {
    const start = this.#starts.get(specification.uuid)
    return start?.run === run ? start?.startedAt : undefined
  }

  /** To look at what exists: what is gone and was known before the look is forgotten when its result is given. */
  look(): (living: readonly Pick<VmRecord, 'specification'>[]) => void {
    const before = [...this.#starts]
    return (living) => {
      const uuids = new Set(living.map(({ specification }) => specification.uuid))
      const gone = before.filter(([uuid, start]) => !uuids.has(uuid) && this.#starts.get(uuid) === start)
      for (const [uuid] of gone) this.#starts.delete(uuid)
      if (gone.length > 0) this.#keep()
    }
  }

  /** Resolves when what was noted is written. */
  async flush(): Promise<void> {
    await this.#writing
  }

  #hasRoomFor(uuid: string): boolean {
    return this.#starts.size < startsMax || this.#starts.has(uuid)
  }

  /** One write at a time; what changes meanwhile goes with the next. */
  #keep(): void {
    this.#changed = true
    this.#writing ??= this.#write().finally(() => {
      this.#writing = undefined
    })
  }

  async #write(): Promise<void> {
    while (this.#changed) {
      this.#changed = false
      try {
        await this.#options.bootRecord.write(recordName, Object.fromEntries(this.#starts))
        this.#failed = false
      } catch (error) {
        if (!this.#failed)
          this.#options.log.warn({ error: asHostletError(error) }, 'starts of VMs could not be kept')
        this.#failed = true
      }
    }
  }
}

function isStart(value: unknown): value is Start {
  if (typeof value !== 'object' || value === null || !('run' in value) || !('startedAt' in value))
    return false
  return Number.isSafeInteger(value.run) && Number.isSafeInteger(value.startedAt)
}
