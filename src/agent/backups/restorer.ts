// From snapshots back to disks: into volumes of the pool, and into files that an administrator may take away.

import type { BigIntStats } from 'node:fs'
import { link, lstat, open, realpath, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { DiskTarget } from '../../backup/disk.ts'
import { startQemuNbd } from '../../backup/nbd/qemu-nbd.ts'
import { openNbdTarget } from '../../backup/nbd/target.ts'
import { restoreDisk } from '../../backup/read/restore.ts'
import { createQcow2File } from '../../backup/targets/qcow2-file.ts'
import { createRawFile } from '../../backup/targets/raw-file.ts'
import type { ManifestDisk } from '../../backup/vault/manifest-body.ts'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { DiskRole, exportFormats } from '../../protocol/backup.ts'
import type { Hypervisor } from '../host/hypervisor.ts'
import type { SealedDisk, SealedDisks } from '../keys/sealed-disks.ts'
import type { Operation } from '../operations/verb.ts'
import type { Policy } from '../policy/policy.ts'
import type { Catalog, ChosenSnapshot, SnapshotQuery } from './catalog.ts'
import type { Repositories } from './repositories.ts'
import { ratioOf, transferMeter } from './transfer-meter.ts'

export interface RestorerOptions {
  readonly hypervisor: Pick<Hypervisor, 'createImport' | 'finishImport' | 'removeVolume'>
  readonly catalog: Catalog
  readonly repositories: Pick<Repositories, 'policy'>
  readonly sealed: Pick<SealedDisks, 'createIn'>
  /** On memory-backed storage: keys pass through it. */
  readonly runtimeDirectory: string
  readonly clock: Clock
  readonly workers?: number | undefined
}

export interface VolumeToRestore {
  readonly role: DiskRole
  /** Name of the volume, which is replaced. */
  readonly volume: string
  /** Id of its key; absent where it is not to be encrypted. */
  readonly key?: string | undefined
}

export interface ExportedFile {
  readonly role: DiskRole
  readonly path: string
  readonly format: (typeof exportFormats)[number]
  /** Of the operation. */
  readonly id: string
}

export interface ExportResult {
  readonly snapshot: string
  readonly path: string
  readonly sizeBytes: number
}

const nbdConnections = 4

type Watched = Pick<Operation, 'signal' | 'progress'>

export class Restorer {
  readonly #options: RestorerOptions

  constructor(options: RestorerOptions) {
    this.#options = options
  }

  /** Writes disks of a snapshot into new volumes that stand alone. Returns the bytes that they hold. */
  async toVolumes(
    query: SnapshotQuery,
    { vm, volumes }: { vm: { name: string; uuid: string }; volumes: readonly VolumeToRestore[] },
    operation: Watched
  ): Promise<{ restoredBytes: number }> {
    const { hypervisor, catalog } = this.#options
    await using chosen = await catalog.choose(query, operation)
    const disks = volumes.map((volume) => ({ ...volume, disk: diskOf(chosen, volume.role) }))
    const totalBytes = disks.reduce((sum, { disk }) => sum + disk.allocatedBytes, 0)
    let before = 0
    for (const { volume, disk, key } of disks) {
      const { path } = await hypervisor.createImport({ name: volume, sizeBytes: disk.sizeBytes }, operation)
      const write = (target: DiskTarget) =>
        this.#write(chosen, disk, target, { ...spread(operation), before, totalBytes })
      if (key === undefined) await write(await createQcow2File(path, disk.sizeBytes, { reuse: true }))
      else
        await this.#sealed(path, { id: key, vm, volume, capacityBytes: disk.sizeBytes }, { write, operation })
      await hypervisor.finishImport(volume, operation)
      before += disk.allocatedBytes
    }
    return { restoredBytes: totalBytes }
  }

  /**
   * Writes one disk into a new file below a directory of the policy, under another name, of `id`, until `nameFile`. Throws
   * E_AUTH for any other place, also one that a link leads to, E_CONFLICT when the file exists.
   */
  async writePart(query: SnapshotQuery, file: ExportedFile, operation: Watched): Promise<ExportResult> {
    await using chosen = await this.#options.catalog.choose(query, operation)
    const disk = diskOf(chosen, file.role)
    const path = await exportPath(chosen.repository.policy, file.path)
    const part = partOf(path, file.id)
    await rm(part, { force: true })
    const create = file.format === 'raw' ? createRawFile : createQcow2File
    const target = await create(part, disk.sizeBytes)
    await this.#write(chosen, disk, target, {
      ...spread(operation),
      before: 0,
      totalBytes: disk.allocatedBytes
    })
    return { snapshot: chosen.chosen.id, path, sizeBytes: disk.sizeBytes }
  }

  /** What was written appears, whole, under its name; the other one stays until `removePart`. Throws as `writePart` does. */
  async nameFile({ path: asked, id }: Pick<ExportedFile, 'path' | 'id'>): Promise<void> {
    const path = await exportPath(this.#options.repositories.policy(), asked, id)
    if (await isOne(path, partOf(path, id))) return
    try {
      // As a rename, but never over a file that came meanwhile.
      await link(partOf(path, id), path)
      await using directory = await open(dirname(path))
      await directory.sync()
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'EEXIST') throw existsAlready(path, cause)
      throw new HostletError('E_UNAVAILABLE', `${path} could not be given its name`, { cause })
    }
  }

  /** Takes the name back, if it is this export's: what was written still bears the other one. */
  async unnameFile({ path, id }: Pick<ExportedFile, 'path' | 'id'>): Promise<void> {
    const place = await placeOf(path)
    if (place !== undefined && (await isOne(place, partOf(place, id)))) await rm(place, { force: true })
  }

  /** Removes the other name, and with it all of an export that did not get its own. */
  async removePart({ path, id }: Pick<ExportedFile, 'path' | 'id'>): Promise<void> {
    const place = await placeOf(path)
    if (place !== undefined) await rm(partOf(place, id), { force: true })
  }

  /** Throws as `toFile` does for a path that cannot be. */
  async checkExport(path: string): Promise<void> {
    await exportPath(this.#options.repositories.policy(), path)
  }

  /** What is written is encrypted by a qemu-nbd that lives as long: it comes to the disk in no other form. */
  async #sealed(
    file: string,
    disk: SealedDisk,
    { write, operation }: { write: (target: DiskTarget) => Promise<void>; operation: Watched }
  ): Promise<void> {
    const { sealed, clock, runtimeDirectory: directory } = this.#options
    const { signal } = operation
    const passphrase = await sealed.createIn(file, disk, operation)
    const image = { file, format: 'qcow2', passphrase, writable: true } as const
    await using server = await startQemuNbd({ ...image, directory, signal, clock })
    const { socketPath, exportName } = server
    await write(await openNbdTarget({ socketPath, exportName, connections: nbdConnections, signal, clock }))
  }

  async #write(
    { repository, vault, chosen }: ChosenSnapshot,
    disk: ManifestDisk,
    target: DiskTarget,
    { signal, progress, before, totalBytes }: Watched & { before: number; totalBytes: number }
  ): Promise<void> {
    const { clock, workers } = this.#options
    const meter = transferMeter(clock)
    await restoreDisk({
      store: repository.store,
      vm: vault.vm,
      vmKey: chosen.vmKey,
      disk,
      target,
      clock,
      signal,
      ...(workers !== undefined && { workers }),
      onProgress: ({ doneBytes }) => {
        const transfer = meter({ doneBytes: before + doneBytes, totalBytes })
        progress({ ratio: ratioOf(transfer), transfer })
      }
    })
  }
}

/** Throws E_NOT_FOUND when the snapshot does not hold it. */
export function diskOf({ chosen }: Pick<ChosenSnapshot, 'chosen'>, role: DiskRole): ManifestDisk {
  const disk = chosen.body.disks.find((one) => one.role === role)
  if (disk !== undefined) return disk
  const roles = chosen.body.disks.map((one) => one.role).join(', ')
  throw new HostletError(
    'E_NOT_FOUND',
    `snapshot ${chosen.id} holds no ${role} disk, only ${roles}. Choose another snapshot.`
  )
}

/**
 * The path as it really is: links in the way to it are followed first, so that none leads out of what is allowed. Nothing is
 * there, or the file of the export `id`.
 */
async function exportPath(policy: Policy, path: string, id?: string): Promise<string> {
  const directory = await realpath(dirname(path)).catch((cause) => {
    throw new HostletError('E_NOT_FOUND', `${dirname(path)} does not exist on this host`, { cause })
  })
  const real = join(directory, basename(path))
  const allowed = await Promise.all(policy.exportDirectories.map((each) => realpath(each).catch(() => each)))
  if (!allowed.some((each) => directory === each || directory.startsWith(`${each}/`)))
    throw new HostletError(
      'E_AUTH',
      `${path} is below none of the directories that this host exports to (${allowed.join(', ') || 'none'}). An administrator adds it to exportDirectories of the host's policy.`
    )
  const isOwn = id !== undefined && (await isOne(real, partOf(real, id)))
  if ((await lookAt(real)) !== undefined && !isOwn) throw existsAlready(real)
  return real
}

function existsAlready(path: string, cause?: unknown): HostletError {
  return new HostletError('E_CONFLICT', `${path} exists already. Name a file that does not.`, { cause })
}

/** Undefined where its directory is gone. */
async function placeOf(path: string): Promise<string | undefined> {
  const directory = await realpath(dirname(path)).catch(() => undefined)
  return directory && join(directory, basename(path))
}

/** Whether both names are there, and of one file. */
async function isOne(one: string, other: string): Promise<boolean> {
  const [left, right] = [await lookAt(one), await lookAt(other)]
  return left !== undefined && left.ino === right?.ino && left.dev === right.dev
}

function lookAt(path: string): Promise<BigIntStats | undefined> {
  return lstat(path, { bigint: true }).catch(() => undefined)
}

function partOf(path: string, id: string): string {
  return `${path}.${id}.part`
}

function spread({ signal, progress }: Watched): Watched {
  return { signal, progress }
}
