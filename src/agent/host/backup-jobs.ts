// Backup jobs of libvirt: begun in pull mode over a unix socket, watched while they run, and ended with nothing left behind.

import {
  backupBeginFlag,
  type Connection,
  type Domain,
  domainBackupBegin,
  domainGetBlockInfo,
  domainGetXmlDesc,
  domainState
} from 'node-libvirt'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import type { BackupPauses } from './backup-pauses.ts'
import type { BackupJob, BackupRequest } from './backup-port.ts'
import { backupXml, checkpointXml, type JobDisk, type LiveDomain, readLiveDomain } from './backup-xml.ts'
import type { Checkpoints } from './checkpoints.ts'
import { staleOr } from './checkpoints.ts'
import type { ConnectionRole } from './connections.ts'
import type { Domains } from './domains.ts'
import type { Freezes } from './freeze.ts'
import type { DomainEvent, HypervisorStatus, VmRecord, Wait } from './hypervisor.ts'
import { JobControl } from './job-control.ts'
import { attempt } from './libvirt-errors.ts'
import { backupToken, checkpointName } from './names.ts'
import { RunningJob } from './running-job.ts'
import type { Scratch } from './scratch.ts'

export interface BackupJobsOptions {
  readonly connection: (role: ConnectionRole) => Connection
  readonly domains: Pick<Domains, 'require' | 'stateOf' | 'find'>
  readonly pauses: BackupPauses
  readonly checkpoints: Checkpoints
  readonly scratch: Scratch
  readonly freezes: Freezes
  /** Where libvirt keeps the directories of running domains. */
  readonly qemuDirectory: string
  readonly clock: Clock
  readonly log: Logger
}

const quickMs = 10_000
const beginMs = 60_000
const undoMs = 60_000

export class BackupJobs {
  readonly #options: BackupJobsOptions
  readonly #control: JobControl
  readonly #running = new Map<string, RunningJob>()

  constructor(options: BackupJobsOptions) {
    this.#options = options
    this.#control = new JobControl(options)
  }

  async begin(vm: string, request: BackupRequest, wait: Wait): Promise<BackupJob> {
    const { domains, pauses } = this.#options
    const { domain, metadata } = await domains.require(vm, wait)
    await this.#requireIdle(vm, domain, wait)
    const state = await domains.stateOf(domain, `back up VM ${vm}`, wait)
    const wasOff = state === domainState.shutOff || state === domainState.crashed
    // Also when it is a checkpoint that libvirt does not know: seen before anything is touched.
    await this.#requireCheckpoint(vm, request.since, wait)
    if (wasOff) await pauses.startPaused(vm, wait)
    try {
      const freezeMs = state === domainState.running ? request.freezeMs : undefined
      return await this.#begin(metadata.specification, { ...request, freezeMs, wasOff }, wait)
    } catch (error) {
      await this.#undo(metadata.specification, request)
      throw error
    }
  }

  /** What an agent that was killed left of a VM's backups. Returns what there was. */
  async clear(vm: string, keep: readonly string[], wait: Wait): Promise<readonly string[]> {
    const { domains, checkpoints, pauses, scratch } = this.#options
    const { domain, metadata } = await domains.require(vm, wait)
    const running = this.#running.get(vm)
    if (running !== undefined && !running.signal.aborted)
      throw new HostletError('E_BUSY', `a backup of VM ${vm} runs: what it needs cannot be cleared`)
    const state = await domains.stateOf(domain, `clear backups of VM ${vm}`, wait)
    const isOn = state !== domainState.shutOff && state !== domainState.crashed
    const cleared: string[] = []
    if (isOn && (await this.#thawed(domain, wait))) cleared.push('frozen file systems')
    if (isOn && (await this.#control.abortOurs(domain, wait))) cleared.push('backup job')
    cleared.push(...(await scratch.clear(metadata.specification, wait)))
    const unwanted = (await checkpoints.list(vm, wait)).filter((name) => !keep.includes(name))
    await checkpoints.remove(vm, unwanted, wait)
    cleared.push(...unwanted.map((name) => `checkpoint ${name}`))
    if (await pauses.settle(vm, wait)) cleared.push('machine that stood paused')
    this.#running.delete(vm)
    return cleared
  }

  /** Of a machine that is on. */
  async guestAgent(vm: string, wait: Wait): Promise<LiveDomain['agent']> {
    const { domain } = await this.#options.domains.require(vm, wait)
    return (await this.#look(domain, wait)).agent
  }

  note({ name, kind, detail }: DomainEvent): void {
    // libvirt holds a guest that shuts down by itself for as long as our job runs; with one that is cut off it ends the job itself.
    const shutsDown = kind === 'shutdown' && detail === 'guest'
    if (kind !== 'stopped' && kind !== 'crashed' && !shutsDown) return
    const did = shutsDown ? 'shut down' : 'stopped'
    this.#running
      .get(name)
      ?.lose(
        new HostletError(
          'E_UNAVAILABLE',
          `VM ${name} ${did} during its backup, which ended with it. Back it up again, off or running.`
        )
      )
  }

  noteStatus(status: HypervisorStatus): void {
    if (status.state !== 'away') return
    for (const job of this.#running.values())
      job.lose(new HostletError('E_UNAVAILABLE', `libvirt went away during a backup: ${status.reason}`))
  }

  async #begin(
    vm: VmRecord['specification'],
    request: Omit<BackupRequest, 'freezeMs'> & { freezeMs: number | undefined; wasOff: boolean },
    wait: Wait
  ): Promise<BackupJob> {
    const { checkpoints, scratch, clock } = this.#options
    const { domain } = await this.#options.domains.require(vm.name, wait)
    const live = await this.#look(domain, wait)
    const token = backupToken(request.snapshot)
    const wanted = await this.#disks(domain, { live, request }, wait)
    const disks = await scratch.create({ vm, token, disks: wanted }, wait)
    const socketPath = this.#control.socketPath(domain, token)
    const start = async () => {
      await this.#start(domain, { disks, live, request, socketPath }, wait)
      return clock.now()
    }
    const { value: at, fault } = await this.#quiet(domain, { live, request }, wait, start)
    const job = new RunningJob({
      ...this.#options,
      control: this.#control,
      vm,
      checkpoint: request.checkpoint,
      at,
      consistency: request.wasOff
        ? 'stopped'
        : request.freezeMs !== undefined && fault === undefined
          ? 'frozen'
          : 'crash',
      ...(fault !== undefined && { freezeFault: fault }),
      checkpointXml: await checkpoints.xml(vm.name, request.checkpoint, wait),
      socketPath,
      incremental: request.since !== null,
      disks: wanted.map(({ role, sizeBytes }) => ({ role, sizeBytes })),
      onEnd: (ended) => {
        if (this.#running.get(vm.name) === ended) this.#running.delete(vm.name)
      }
    })
    this.#running.set(vm.name, job)
    return job
  }

  async #quiet(
    domain: Domain,
    { live, request }: { live: LiveDomain; request: { freezeMs: number | undefined } },
    wait: Wait,
    work: () => Promise<number>
  ): Promise<{ value: number; fault?: string }> {
    const { freezeMs } = request
    if (freezeMs === undefined) return { value: await work() }
    return await this.#options.freezes.during(domain, { freezeMs, agent: live.agent }, wait, work)
  }

  async #start(
    domain: Domain,
    work: {
      disks: readonly JobDisk[]
      live: LiveDomain
      request: Pick<BackupRequest, 'since' | 'checkpoint'>
      socketPath: string
    },
    wait: Wait
  ): Promise<void> {
    const { disks, live, request, socketPath } = work
    const since = request.since === null ? null : checkpointName(request.since)
    const args = {
      domain,
      backupXml: backupXml({ targets: live.targets, disks, socketPath, since }),
      checkpointXml: checkpointXml(checkpointName(request.checkpoint), { targets: live.targets, disks }),
      flags: backupBeginFlag.reuseExternal
    }
    try {
      await this.#jobs.call(domainBackupBegin, args, { signal: wait.signal, deadlineMs: beginMs })
    } catch (error) {
      const doing = `begin a backup of VM ${domain.name}`
      throw (await this.#control.busyOr(domain, error, doing)) ?? staleOr(error, doing)
    }
  }

  async #disks(
    domain: Domain,
    { live, request }: { live: LiveDomain; request: Pick<BackupRequest, 'roles'> },
    wait: Wait
  ) {
    const disks = request.roles.map((role) => {
      const disk = live.disks.find((each) => each.role === role)
      if (disk !== undefined) return disk
      throw new HostletError('E_NOT_FOUND', `VM ${domain.name} has no ${role} disk`)
    })
    return await Promise.all(
      disks.map(async (disk) => {
        const args = { domain, path: disk.target, flags: 0 }
        const { capacityBytes } = await attempt(`look at disk ${disk.role} of VM ${domain.name}`, () =>
          this.#jobs.call(domainGetBlockInfo, args, { signal: wait.signal, deadlineMs: quickMs })
        )
        return { ...disk, sizeBytes: Number(capacityBytes) }
      })
    )
  }

  async #look(domain: Domain, wait: Wait): Promise<LiveDomain> {
    const { xml } = await attempt(`look at VM ${domain.name}`, () =>
      this.#jobs.call(domainGetXmlDesc, { domain, flags: 0 }, { signal: wait.signal, deadlineMs: quickMs })
    )
    return readLiveDomain(xml)
  }

  async #requireIdle(vm: string, domain: Domain, wait: Wait): Promise<void> {
    if (!this.#running.has(vm) && (await this.#control.jobOf(domain, wait)) === 'none') return
    throw new HostletError('E_BUSY', `another job of VM ${vm} runs. Try again when it has ended.`, {
      details: { vm }
    })
  }

  async #requireCheckpoint(vm: string, since: string | null, wait: Wait): Promise<void> {
    if (since === null || (await this.#options.checkpoints.list(vm, wait)).includes(since)) return
    throw new HostletError('E_STALE', `libvirt knows no checkpoint ${since} of VM ${vm}`)
  }

  async #thawed(domain: Domain, wait: Wait): Promise<boolean> {
    const { agent } = await this.#look(domain, wait)
    if (agent !== 'connected') return false
    return ((await this.#options.freezes.thaw(domain, wait)) ?? 0) > 0
  }

  /** Its own errors are told in the log: what it was for failed already, and what is left is cleared before the next one. */
  async #undo(vm: { name: string; uuid: string }, request: BackupRequest): Promise<void> {
    const wait = { signal: AbortSignal.timeout(undoMs) }
    const { checkpoints, scratch, pauses, domains, log } = this.#options
    try {
      const { domain } = await domains.require(vm.name, wait)
      // Begun after all, where nobody saw the answer.
      if (await this.#control.abortOurs(domain, wait))
        await checkpoints.remove(vm.name, [request.checkpoint], wait)
      await scratch.clear(vm, wait)
      await pauses.settle(vm.name, wait)
    } catch (error) {
      log.warn({ vm: vm.name, error }, 'what a failed backup made could not be removed yet')
    }
  }

  get #jobs(): Connection {
    return this.#options.connection('jobs')
  }
}
