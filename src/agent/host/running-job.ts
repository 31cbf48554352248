// A backup job that runs: its sources, the watch over its room, its loss and its end.

import type { DiskSource } from '../../backup/disk.ts'
import { openNbdSource } from '../../backup/nbd/source.ts'
import { asHostletError, HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { KeyedLock } from '../../lib/keyed-lock.ts'
import type { Logger } from '../../lib/log.ts'
import type { Consistency, DiskRole } from '../../protocol/backup.ts'
import type { BackupPauses } from './backup-pauses.ts'
import type { BackupDisk, BackupJob } from './backup-port.ts'
import { exportBitmap } from './backup-xml.ts'
import type { Checkpoints } from './checkpoints.ts'
import type { Domains } from './domains.ts'
import type { Wait } from './hypervisor.ts'
import type { JobControl } from './job-control.ts'
import type { Scratch } from './scratch.ts'

export interface RunningJobOptions {
  readonly domains: Pick<Domains, 'require' | 'find'>
  readonly pauses: BackupPauses
  readonly checkpoints: Checkpoints
  readonly scratch: Scratch
  readonly control: JobControl
  readonly clock: Clock
  readonly log: Logger
  readonly vm: { readonly name: string; readonly uuid: string }
  readonly checkpoint: string
  readonly at: number
  readonly consistency: Consistency
  readonly freezeFault?: string
  readonly checkpointXml: string
  readonly socketPath: string
  readonly incremental: boolean
  readonly disks: readonly { readonly role: DiskRole; readonly sizeBytes: number }[]
  readonly onEnd: (job: RunningJob) => void
}

/** A guest that overwrites at full speed fills the reserve in a second or two. */
const watchMs = 200
const looksPerStateLook = 10
const nbdConnections = 2
const endMs = 60_000

export class RunningJob implements BackupJob {
  readonly at: number
  readonly consistency: Consistency
  readonly freezeFault?: string
  readonly checkpointXml: string
  readonly disks: readonly BackupDisk[]
  readonly signal: AbortSignal
  readonly #options: RunningJobOptions
  readonly #over = new AbortController()
  readonly #sources = new Set<DiskSource>()
  readonly #lock = new KeyedLock()
  #ended = false
  #lost: Promise<void> = Promise.resolve()

  constructor(options: RunningJobOptions) {
    this.#options = options
    this.at = options.at
    this.consistency = options.consistency
    if (options.freezeFault !== undefined) this.freezeFault = options.freezeFault
    this.checkpointXml = options.checkpointXml
    this.signal = this.#over.signal
    this.disks = options.disks.map(({ role, sizeBytes }) => ({
      role,
      sizeBytes,
      open: (wait: Wait) => this.#open(role, wait)
    }))
    void this.#watch()
  }

  /** It cannot be read any more. Room that it takes is given back at once. */
  lose(error: HostletError): void {
    if (this.signal.aborted) return
    this.#over.abort(error)
    this.#options.log.warn({ vm: this.#options.vm.name, error }, 'backup job lost')
    this.#lost = this.#release({ signal: AbortSignal.timeout(endMs) }).catch((failure) => {
      const fields = { vm: this.#options.vm.name, error: asHostletError(failure) }
      this.#options.log.warn(fields, 'what a lost backup job made could not be removed yet')
    })
  }

  async end({ keepCheckpoint, signal }: Wait & { keepCheckpoint: boolean }): Promise<void> {
    await using _held = await this.#lock.acquire('end', signal)
    if (this.#ended) return
    const { pauses, checkpoints, checkpoint, vm, onEnd } = this.#options
    this.#over.abort(new HostletError('E_CANCELLED', 'the backup job has ended'))
    await this.#lost
    await this.#release({ signal })
    if (await this.#isDefined({ signal })) {
      // Before the machine goes off: a bitmap can be removed only while QEMU runs.
      if (!keepCheckpoint) await checkpoints.remove(vm.name, [checkpoint], { signal })
      await pauses.settle(vm.name, { signal })
    }
    this.#ended = true
    onEnd(this)
  }

  /** Ends the job and removes its files, which is in vain until the job has ended. */
  async #release(wait: Wait): Promise<void> {
    const { domains, control, scratch, vm } = this.#options
    await Promise.allSettled([...this.#sources].map((source) => source.close()))
    if (await this.#isDefined(wait))
      await control.abortOurs((await domains.require(vm.name, wait)).domain, wait)
    await scratch.clear(vm, wait)
  }

  /** A VM may be torn down during its backup, and another of its name be made. */
  async #isDefined(wait: Wait): Promise<boolean> {
    const { domains, vm } = this.#options
    return (await domains.find(vm.name, wait))?.specification.uuid === vm.uuid
  }

  async #open(role: DiskRole, wait: Wait): Promise<DiskSource> {
    const { socketPath, incremental, clock } = this.#options
    this.signal.throwIfAborted()
    const source = await openNbdSource({
      socketPath,
      exportName: role,
      ...(incremental && { dirtyBitmap: exportBitmap }),
      signal: AbortSignal.any([wait.signal, this.signal]),
      connections: nbdConnections,
      clock
    })
    this.#sources.add(source)
    return source
  }

  async #watch(): Promise<void> {
    const { clock, scratch } = this.#options
    for (let look = 1; !this.signal.aborted; look++) {
      try {
        await clock.sleep(watchMs, this.signal)
        const availableBytes = await scratch.availableBytes({ signal: this.signal })
        if (availableBytes < scratch.reserveBytes) this.lose(this.#full(availableBytes))
        else if (look % looksPerStateLook === 0) await this.#lookAtState()
      } catch {
        // Over, or libvirt is away for a moment: whether the job is lost is seen at the next look.
      }
    }
  }

  async #lookAtState(): Promise<void> {
    const { domains, control, vm } = this.#options
    const { domain } = await domains.require(vm.name, { signal: this.signal })
    if ((await control.jobOf(domain, { signal: this.signal })) !== 'ours')
      this.lose(
        new HostletError('E_UNAVAILABLE', `the backup job of VM ${vm.name} was ended by somebody else`)
      )
  }

  #full(availableBytes: number): HostletError {
    const { vm, scratch } = this.#options
    return new HostletError(
      'E_CAPACITY',
      `the guest of VM ${vm.name} overwrote so much during its backup that the pool has only ${availableBytes} bytes left. The backup was given up so that the guest meets no full disk; free some room, or back it up at a quieter time.`,
      { details: { vm: vm.name, availableBytes, reserveBytes: scratch.reserveBytes } }
    )
  }
}
