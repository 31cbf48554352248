// Takes one backup of one VM: what changed into the repository, the manifest last, and the checkpoints in step with it.

import type { RepositoryLock } from '../../backup/repository/lock.ts'
import type { ManifestBody, ManifestDisk } from '../../backup/vault/manifest-body.ts'
import type { SnapshotSummary } from '../../backup/vault/read-manifest.ts'
import type { Vault } from '../../backup/vault/vault.ts'
import type { DiskBackup } from '../../backup/write/back-up.ts'
import { asHostletError, HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline } from '../../lib/deadline.ts'
import type { BackupMode, DiskRole, QuiesceMode, VmBackupResult } from '../../protocol/backup.ts'
import type { Hypervisor, VmRecord, Wait } from '../host/hypervisor.ts'
import { checkpointName, isOfTarget } from './checkpoints.ts'
import { type Copied, copyDisks, tidy, tidyMs, type Watched } from './copy.ts'
import { anew, type BackupPlan, fallback, planBackup } from './plan.ts'
import type { GoodBackups } from './records.ts'
import type { OpenRepository, Repositories } from './repositories.ts'
import { backupRecord, newestOf } from './snapshot-record.ts'

export interface RunnerOptions {
  readonly hypervisor: Hypervisor
  readonly repositories: Repositories
  readonly good: GoodBackups
  readonly hostId: string
  /** Name and release of the program, for the manifest. */
  readonly tool: string
  /** Longest time that a guest's file systems may stand still. */
  readonly freezeMs: number
  readonly compressionLevel: number
  /** Of one backup, where the command allows it more or says nothing. */
  readonly bytesPerSecondMax?: number | undefined
  readonly workers?: number | undefined
  readonly clock: Clock
}

/** One backup, as asked for. */
export interface BackupOrder {
  readonly target: string
  /** Chosen before anything was begun, and the same after a crash: by it a manifest that was written is recognised. */
  readonly snapshot: string
  readonly disks?: readonly DiskRole[] | undefined
  readonly quiesce: QuiesceMode
  readonly mode: BackupMode
  readonly bytesPerSecond?: number | undefined
}

/** What one run works with. */
interface Run extends Watched {
  readonly order: BackupOrder
  readonly record: VmRecord
  readonly repository: OpenRepository
  readonly vault: Vault
  readonly lock: Pick<RepositoryLock, 'confirm'>
  readonly snapshots: readonly SnapshotSummary[]
}

export class BackupRunner {
  readonly #options: RunnerOptions
  /** Snapshots whose manifest may or may not have been written: their checkpoints stay until a look into the repository. */
  readonly #uncertain = new Set<string>()

  constructor(options: RunnerOptions) {
    this.#options = options
  }

  /**
   * Takes the backup, or finishes one whose manifest was written before a crash. Whatever it throws, the VM is as it was,
   * the checkpoint of the last good backup still holds, and the repository lists no half-made snapshot.
   */
  async run(record: VmRecord, order: BackupOrder, operation: Watched): Promise<VmBackupResult> {
    const { repositories, good } = this.#options
    const { uuid, name: vm } = record.specification
    await this.#clearJob(vm, operation)
    // Where a backup was before there is a repository: an empty directory there is a mount that is missing.
    const create = good.lastGood(uuid, order.target) === undefined
    await using repository = await repositories.open(order.target, { signal: operation.signal, create })
    await using lock = await repositories.lock(repository, uuid, operation)
    const { log } = operation
    const progress = operation.progress.bind(operation)
    const signal = AbortSignal.any([operation.signal, lock.signal])
    const vault = await repositories.vault(repository, uuid, { signal })
    const snapshots = await vault.snapshots({ signal })
    const run: Run = { ...{ progress, log, signal }, order, record, repository, vault, lock, snapshots }
    await this.#clearCheckpoints(run)
    const written = snapshots.find(({ id }) => id === order.snapshot)
    return written === undefined ? await this.#take(run) : await this.#finish(run, written)
  }

  /** Removes what a run that failed may have left. For the undo of an operation: the repository is not looked at. */
  async undo(
    vm: string,
    { target, snapshot }: { target: string; snapshot: string },
    wait: Wait
  ): Promise<void> {
    const { hypervisor } = this.#options
    if ((await hypervisor.findVm(vm, wait)) === undefined) return
    const own = checkpointName(target, snapshot)
    const names = await hypervisor.listCheckpoints(vm, wait)
    const keep = names.filter((name) => name !== own || this.#uncertain.has(snapshot))
    await hypervisor.clearBackup(vm, keep, wait)
  }

  /**
   * What an agent left that was killed: a job whose files grow, a guest that is frozen. Before the repository is asked
   * anything, which may be away, or locked until the lease of the killed agent is over.
   */
  async #clearJob(vm: string, { signal, log }: Watched): Promise<void> {
    const { hypervisor } = this.#options
    const cleared = await hypervisor.clearBackup(vm, await hypervisor.listCheckpoints(vm, { signal }), {
      signal
    })
    if (cleared.length > 0) log.warn({ cleared }, 'removed what an earlier backup left')
  }

  /** Checkpoints that the newest snapshot is not of. */
  async #clearCheckpoints({ order, record, snapshots, signal, log }: Run): Promise<void> {
    const { hypervisor } = this.#options
    const { name: vm } = record.specification
    const useful = newestOf(snapshots)?.body.checkpoint
    const names = await hypervisor.listCheckpoints(vm, { signal })
    const stray = names.filter((name) => isOfTarget(name, order.target) && name !== useful)
    for (const name of stray) await hypervisor.removeCheckpoint(vm, name, { signal })
    if (stray.length > 0) log.warn({ checkpoints: stray }, 'removed checkpoints that no snapshot is of')
  }

  async #take(run: Run): Promise<VmBackupResult> {
    // Before hours of copying: without somebody to sign, all of it would be for nothing.
    this.#options.repositories.signer()
    const plan = await this.#plan(run)
    const { target, snapshot, quiesce } = run.order
    const begun = { target, snapshot, kind: plan.kind, reason: plan.reason, quiesce }
    run.log.info(begun, 'backup begins')
    let copied: Copied
    try {
      copied = await this.#copy(run, plan)
    } catch (error) {
      if (!plan.parent || run.signal.aborted || asHostletError(error).code !== 'E_CORRUPT') throw error
      run.log.error({ error }, 'the last snapshot is damaged, the backup starts anew without it')
      copied = await this.#copy(run, anew(`the last snapshot is damaged: ${asHostletError(error).message}`))
    }
    const body = this.#body(run, copied)
    await this.#commit(run, body)
    await this.#keep(run, body, copied.job.checkpointXml)
    const { freezeFault } = copied.job
    if (freezeFault !== undefined)
      run.log.warn({ freezeFault }, 'the guest could not be frozen: the backup is as after a power cut')
    const record = backupRecord(target, snapshot, body)
    const { kind, reason, consistency, sequence, readBytes, storedBytes, durationMs } = record
    const fields = {
      target,
      snapshot,
      sequence,
      kind,
      reason,
      consistency,
      readBytes,
      storedBytes,
      durationMs
    }
    run.log.info(fields, 'backup taken')
    return { record, ...(freezeFault !== undefined && { freezeFault: freezeFault.slice(0, 4_096) }) }
  }

  async #plan(run: Run): Promise<BackupPlan> {
    const { hypervisor, good, hostId } = this.#options
    const { order, record, vault, snapshots, signal } = run
    const { name, uuid } = record.specification
    const known = good.lastGood(uuid, order.target)
    const last = newestOf(snapshots)
    const plan = planBackup({
      mode: order.mode,
      roles: rolesOf(record, order),
      host: hostId,
      last: last && {
        snapshot: last.id,
        host: last.body.host,
        roles: last.body.disks.map(({ role }) => role),
        checkpoint: last.body.checkpoint
      },
      damaged: newestDamaged(snapshots, known?.snapshot),
      checkpoints: await hypervisor.listCheckpoints(name, { signal }),
      good: known
    })
    if (plan.parent && last && !Buffer.from(last.vmKey).equals(vault.vmKey))
      return anew(`the last snapshot ${last.id}, by host ${last.body.host}, is under another key than ours`)
    return plan.redefine === undefined ? plan : await this.#redefine(run, plan, plan.redefine)
  }

  async #redefine({ record, signal, log }: Run, plan: BackupPlan, xml: string): Promise<BackupPlan> {
    try {
      await this.#options.hypervisor.redefineCheckpoint(record.specification.name, xml, { signal })
      log.warn({ checkpoint: plan.since }, 'libvirt had lost the checkpoint and was told of it again')
      return plan
    } catch (error) {
      const { code, message } = asHostletError(error)
      if (code !== 'E_STALE') throw error
      return fallback(`libvirt has lost the checkpoint of the last snapshot: ${message}`)
    }
  }

  async #copy(run: Run, plan: BackupPlan): Promise<Copied> {
    const { order, record, repository, vault, snapshots } = run
    const { name: vm, uuid } = record.specification
    const { freezeMs, bytesPerSecondMax = Number.POSITIVE_INFINITY } = this.#options
    const bytesPerSecond = Math.min(order.bytesPerSecond ?? Number.POSITIVE_INFINITY, bytesPerSecondMax)
    const request = {
      snapshot: order.snapshot,
      roles: rolesOf(record, order),
      checkpoint: checkpointName(order.target, order.snapshot),
      ...(order.quiesce === 'freeze' && { freezeMs })
    }
    return await copyDisks(
      {
        vm,
        uuid,
        request,
        store: repository.store,
        vmKey: vault.vmKey,
        bytesPerSecond: Number.isFinite(bytesPerSecond) ? bytesPerSecond : undefined
      },
      { plan, parent: plan.parent ? newestOf(snapshots) : undefined },
      this.#options,
      run
    )
  }

  #body({ order, record, snapshots }: Run, { plan, job, disks, counts }: Copied): ManifestBody {
    const { hostId, tool, clock, good } = this.#options
    const { uuid, name } = record.specification
    const last = newestOf(snapshots)
    // A snapshot that this host made and that cannot be read any more had its number too.
    const known = good.lastGood(uuid, order.target)?.sequence ?? 0
    return {
      vm: { uuid, name, specification: record.specification },
      host: hostId,
      sequence: Math.max(known, last?.body.sequence ?? 0) + 1,
      previous: last?.id ?? null,
      kind: plan.kind,
      ...(plan.reason !== undefined && { reason: plan.reason.slice(0, 4_096) }),
      consistency: job.consistency,
      at: job.at,
      finishedAt: Math.max(job.at, clock.now()),
      disks: disks.map(diskOf),
      counts,
      tool,
      checkpoint: checkpointName(order.target, order.snapshot)
    }
  }

  async #commit(run: Run, body: ManifestBody): Promise<void> {
    const { repositories, hypervisor, clock } = this.#options
    const { order, record, repository, vault, lock, signal } = run
    try {
      const recipients = await repositories.recipients(repository.policy, record.specification)
      const signer = repositories.signer()
      run.progress({ note: 'writing the manifest' })
      // Who has lost the lock may have had his packs swept away: no manifest may speak of them.
      await lock.confirm()
      this.#uncertain.add(order.snapshot)
      await vault.commit({ snapshot: order.snapshot, body, signer, recipients: [...recipients], signal })
    } catch (error) {
      const written = await this.#isWritten(run)
      if (written === true) return
      // Not known: both checkpoints stay, and the next run, which looks into the repository, removes the one of no use.
      if (written === undefined) throw error
      this.#uncertain.delete(order.snapshot)
      const checkpoint = checkpointName(order.target, order.snapshot)
      await tidy('remove the new checkpoint', clock, run, (wait) =>
        hypervisor.removeCheckpoint(record.specification.name, checkpoint, wait)
      )
      throw error
    }
  }

  /** After a write whose outcome is unknown: a look. Undefined when that fails too. */
  async #isWritten({ order, vault, log }: Run): Promise<boolean | undefined> {
    if (!this.#uncertain.has(order.snapshot)) return false
    const what = 'the look for the manifest'
    using deadline = startDeadline({ clock: this.#options.clock, ms: tidyMs, what })
    try {
      const snapshots = await vault.snapshots({ signal: deadline.signal })
      const found = snapshots.some(({ id }) => id === order.snapshot)
      if (found) log.warn({ snapshot: order.snapshot }, 'the manifest was written although it seemed to fail')
      return found
    } catch (error) {
      log.warn({ error, snapshot: order.snapshot }, 'it is not known whether the manifest was written')
      return undefined
    }
  }

  /** The snapshot exists: remembers it, and lets go of older checkpoints. Nothing of this can fail the backup any more. */
  async #keep({ order, record, log }: Run, { sequence, at, kind }: ManifestBody, xml: string): Promise<void> {
    const { good, hypervisor, clock } = this.#options
    const { name: vm, uuid } = record.specification
    const checkpoint = { name: checkpointName(order.target, order.snapshot), xml }
    this.#uncertain.delete(order.snapshot)
    try {
      // A full backup refers to nothing that was stored before it.
      const damage = kind === 'full' ? undefined : good.lastGood(uuid, order.target)?.damage
      const { snapshot, target } = order
      good.keepGood(uuid, target, { snapshot, sequence, at, checkpoint, ...(damage && { damage }) })
    } catch (error) {
      log.error({ error }, 'the backup could not be remembered')
    }
    await tidy('remove older checkpoints', clock, { log }, async (wait) => {
      const names = await hypervisor.listCheckpoints(vm, wait)
      const older = names.filter((name) => isOfTarget(name, order.target) && name !== checkpoint.name)
      for (const name of older) await hypervisor.removeCheckpoint(vm, name, wait)
    })
  }

  /** Of a run that was killed between its manifest and its end. */
  async #finish(run: Run, written: SnapshotSummary): Promise<VmBackupResult> {
    const { order, log } = run
    if (written.state === 'bad') throw new HostletError(written.code, written.message)
    log.info({ snapshot: order.snapshot }, 'the manifest had been written before the agent stopped')
    // libvirt's XML went with the process: without it the checkpoint serves for as long as libvirt knows it.
    await this.#keep(run, written.body, '')
    return { record: backupRecord(order.target, order.snapshot, written.body) }
  }
}

/** All disks that it has, unless some are named. Throws E_BAD_REQUEST for one that it has not. */
export function rolesOf(record: VmRecord, { disks }: Pick<BackupOrder, 'disks'>): readonly DiskRole[] {
  const { specification, placement } = record
  const has: DiskRole[] = placement.dataVolume === null ? ['root'] : ['root', 'data']
  const missing = disks?.filter((role) => !has.includes(role)) ?? []
  if (missing.length === 0) return disks ?? has
  throw new HostletError('E_BAD_REQUEST', `VM ${specification.name} has no ${missing.join(' or ')} disk`)
}

/** Without what was counted while it was copied. */
function diskOf({ role, sizeBytes, root, levels, allocatedBytes }: DiskBackup): ManifestDisk {
  return { role, sizeBytes, root, levels, allocatedBytes }
}

/** Snapshots that cannot be read have no number: it is the newest if this host knows it as such, or if no other is left. */
function newestDamaged(
  snapshots: readonly SnapshotSummary[],
  known: string | undefined
): { snapshot: string; fault: string } | undefined {
  const bad = snapshots.filter((one) => one.state === 'bad' && one.reason === 'damaged')
  const found = bad.find(({ id }) => id === known) ?? (newestOf(snapshots) ? undefined : bad.at(-1))
  return found?.state === 'bad' ? { snapshot: found.id, fault: found.message } : undefined
}
