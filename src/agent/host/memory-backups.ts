// Backup jobs and checkpoints of the hypervisor in memory, and what may go wrong with them.

import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { DiskRole } from '../../protocol/backup.ts'
import type { BackupJob, BackupRequest } from './backup-port.ts'
import type { VmDefinition, VmRecord } from './hypervisor.ts'
import { isOff } from './making.ts'
import type { MemoryDisk } from './memory-disk.ts'
import { element, renderXml } from './xml.ts'
import { find, readXml } from './xml-read.ts'

export interface MemoryMachine {
  readonly definition: VmDefinition
  readonly wantedAtStart?: VmDefinition['wanted']
  readonly state: VmRecord['state']
  readonly reason: string
}

export interface MemoryMachines {
  /** Throws E_NOT_FOUND. */
  require(name: string): MemoryMachine
  disk(volume: string): MemoryDisk | undefined
  startPaused(name: string): void
  resume(name: string): void
  cutPower(name: string): void
}

/** What goes wrong, until a test says otherwise. */
export interface MemoryBackupFaults {
  scratchFull: boolean
  /** Why the guest cannot be frozen. */
  freeze: string | undefined
}

interface Checkpoint {
  readonly name: string
  broken: boolean
}

interface Job {
  readonly checkpoint: string
  readonly over: AbortController
}

export class MemoryBackups {
  readonly faults: MemoryBackupFaults = { scratchFull: false, freeze: undefined }
  readonly #machines: MemoryMachines
  readonly #clock: Pick<Clock, 'now'>
  readonly #checkpoints = new Map<string, Checkpoint[]>()
  readonly #jobs = new Map<string, Job>()

  constructor(options: { machines: MemoryMachines; clock: Pick<Clock, 'now'> }) {
    this.#machines = options.machines
    this.#clock = options.clock
  }

  /** A disk of a VM, to write to as its guest would. Throws E_NOT_FOUND. */
  disk(vm: string, role: DiskRole): MemoryDisk {
    const { rootVolume, dataVolume } = this.#machines.require(vm).definition.placement
    const volume = role === 'root' ? rootVolume : dataVolume
    const disk = volume === null ? undefined : this.#machines.disk(volume)
    if (disk !== undefined) return disk
    throw new HostletError('E_NOT_FOUND', `VM ${vm} has no ${role} disk`)
  }

  hasJob(vm: string): boolean {
    return this.#jobs.has(vm)
  }

  /** The job fails by itself. Of what it made nothing is removed. */
  loseJob(vm: string, error = new HostletError('E_UNAVAILABLE', 'the backup job was lost')): void {
    this.#jobs.get(vm)?.over.abort(error)
  }

  loseJobs(error: HostletError): void {
    for (const { over } of this.#jobs.values()) over.abort(error)
  }

  /** The machine has stopped, and with it its job. */
  stopped(vm: string): void {
    this.loseJob(vm, new HostletError('E_UNAVAILABLE', `VM ${vm} stopped during its backup`))
    this.#jobs.delete(vm)
  }

  /** As when a QEMU was killed: the bitmap is in the disk, and cannot be trusted. */
  spoilCheckpoint(vm: string, name: string): void {
    for (const checkpoint of this.#of(vm)) if (checkpoint.name === name) checkpoint.broken = true
  }

  /** libvirt has lost what it knew; the bitmaps are still in the disks. */
  forgetCheckpoints(vm: string): void {
    this.#checkpoints.delete(vm)
  }

  begin(vm: string, request: BackupRequest): BackupJob {
    const machine = this.#machines.require(vm)
    if (this.#jobs.has(vm)) throw new HostletError('E_BUSY', `another backup of VM ${vm} runs`)
    const disks = request.roles.map((role) => ({ role, disk: this.disk(vm, role) }))
    if (request.since !== null) this.#requireGood(vm, request.since, disks)
    if (this.faults.scratchFull)
      throw new HostletError('E_CAPACITY', `the pool has no room for scratch files of VM ${vm}`)
    const wasOff = isOff(machine)
    if (wasOff) this.#machines.startPaused(vm)
    const over = new AbortController()
    const { signal } = over
    const sources = disks.map(({ role, disk }) => ({
      role,
      sizeBytes: disk.sizeBytes,
      source: disk.freeze(request.since, signal)
    }))
    for (const { disk } of disks) disk.addBitmap(request.checkpoint)
    this.#checkpoints.set(vm, [...this.#of(vm), { name: request.checkpoint, broken: false }])
    const job = { checkpoint: request.checkpoint, over }
    this.#jobs.set(vm, job)
    return {
      at: this.#clock.now(),
      ...this.#consistency(wasOff, request),
      disks: sources.map(({ role, sizeBytes, source }) => ({
        role,
        sizeBytes,
        open: async () => {
          signal.throwIfAborted()
          return source
        }
      })),
      signal,
      checkpointXml: renderXml(element('domaincheckpoint', {}, element('name', {}, request.checkpoint))),
      end: async ({ keepCheckpoint, signal: given }) => {
        given.throwIfAborted()
        this.#end(vm, job, keepCheckpoint)
      }
    }
  }

  list(vm: string): readonly string[] {
    this.#machines.require(vm)
    return this.#of(vm).map(({ name }) => name)
  }

  remove(vm: string, name: string): void {
    this.#checkpoints.set(
      vm,
      this.#of(vm).filter((checkpoint) => checkpoint.name !== name)
    )
    for (const disk of this.#disks(vm)) disk.removeBitmap(name)
  }

  redefine(vm: string, checkpointXml: string): void {
    const name = find(readXml(checkpointXml), 'name')?.text ?? ''
    if (!this.#disks(vm).some((disk) => disk.hasBitmap(name)))
      throw new HostletError('E_STALE', `no disk of VM ${vm} has the bitmap of checkpoint ${name}`)
    if (!this.list(vm).includes(name)) this.#checkpoints.set(vm, [...this.#of(vm), { name, broken: false }])
  }

  clear(vm: string, keep: readonly string[]): readonly string[] {
    const cleared: string[] = []
    const job = this.#jobs.get(vm)
    if (job !== undefined) {
      cleared.push('job', 'scratch files')
      this.#end(vm, job, true)
    }
    for (const name of this.list(vm).filter((each) => !keep.includes(each))) {
      this.remove(vm, name)
      cleared.push(`checkpoint ${name}`)
    }
    if (this.#leavePaused(vm)) cleared.push('paused VM')
    return cleared
  }

  #end(vm: string, job: Job, keepCheckpoint: boolean): void {
    if (this.#jobs.get(vm) === job) this.#jobs.delete(vm)
    if (!job.over.signal.aborted) job.over.abort(new HostletError('E_CANCELLED', 'the backup job has ended'))
    if (!keepCheckpoint) this.remove(vm, job.checkpoint)
    this.#leavePaused(vm)
  }

  /** Off again, unless it was asked to run meanwhile. */
  #leavePaused(vm: string): boolean {
    const { state, reason, definition, wantedAtStart } = this.#machines.require(vm)
    if (state !== 'paused' || reason !== 'backup') return false
    if (definition.wanted === 'running' && wantedAtStart === 'stopped') this.#machines.resume(vm)
    else this.#machines.cutPower(vm)
    return true
  }

  #consistency(wasOff: boolean, { freezeMs }: BackupRequest): Pick<BackupJob, 'consistency' | 'freezeFault'> {
    if (wasOff) return { consistency: 'stopped' }
    if (freezeMs === undefined) return { consistency: 'crash' }
    if (this.faults.freeze === undefined) return { consistency: 'frozen' }
    return { consistency: 'crash', freezeFault: this.faults.freeze }
  }

  #requireGood(vm: string, since: string, disks: readonly { role: DiskRole; disk: MemoryDisk }[]): void {
    const found = this.#of(vm).find(({ name }) => name === since)
    const covered = disks.every(({ disk }) => disk.hasBitmap(since))
    if (found === undefined || found.broken || !covered)
      throw new HostletError('E_STALE', `checkpoint ${since} of VM ${vm} is lost or inconsistent`)
  }

  #of(vm: string): readonly Checkpoint[] {
    return this.#checkpoints.get(vm) ?? []
  }

  #disks(vm: string): MemoryDisk[] {
    const { rootVolume, dataVolume } = this.#machines.require(vm).definition.placement
    return [rootVolume, dataVolume]
      .map((volume) => (volume === null ? undefined : this.#machines.disk(volume)))
      .filter((disk) => disk !== undefined)
  }
}
