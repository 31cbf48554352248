// Volumes of our pool: the pool itself, base images by upload, overlays and empty disks, removal.

import { Readable } from 'node:stream'
import {
  type CallInFlight,
  type Connection,
  errorCode,
  type StoragePool,
  type StorageVolume,
  storagePoolListAllVolumes,
  storagePoolRefresh,
  storageVolCreateXml,
  storageVolDelete,
  storageVolDownload,
  storageVolGetInfo,
  storageVolLookupByName,
  storageVolResize,
  storageVolUpload
} from 'node-libvirt'
import { HostletError } from '../../errors.ts'
import { Backoff } from '../../lib/backoff.ts'
import type { Clock } from '../../lib/clock.ts'
import { untilAborted } from '../../lib/deadline.ts'
import type { ConnectionRole } from './connections.ts'
import { flushFileSystem } from './flush.ts'
import type { SilentPool, VolumeRecord, Wait } from './hypervisor.ts'
import type { VolumeSurvey } from './inventory-port.ts'
import { attempt, fromLibvirt, isAnswer, orAbsent } from './libvirt-errors.ts'
import { digestOfBase } from './names.ts'
import { ensurePool, isActive } from './pool.ts'
import { PoolWatch, type Space } from './pool-watch.ts'
import type { VolumeRange } from './sealed-port.ts'
import { surveyVolumes } from './volume-survey.ts'
import {
  baseVolumeXml,
  diskVolumeXml,
  ownedVolumeXml,
  type PoolDefinition,
  privateVolumeXml
} from './volume-xml.ts'

const quickMs = 10_000
const createMs = 120_000
const cleanUpMs = 30_000
/** What a new qcow2 needs before it holds anything, with its directory entry and journal. */
const newDiskBytes = 1024 * 1024

/** Uploads of images take minutes where the disk is slow. */
const refreshAgainMs = 200
const refreshesMax = 120

export interface VolumesOptions {
  readonly connection: (role: ConnectionRole) => Connection
  readonly streamConnection: (signal: AbortSignal) => Promise<Connection>
  readonly inFlight: () => readonly CallInFlight[]
  readonly pool: PoolDefinition
  readonly clock: Clock
}

export class Volumes {
  readonly #options: VolumesOptions
  readonly #watch: PoolWatch
  #pool: { on: Connection; found: Promise<StoragePool> } | undefined

  constructor(options: VolumesOptions) {
    this.#options = options
    this.#watch = new PoolWatch(options)
  }

  /** Undefined while the storage answers. */
  silence(): SilentPool | undefined {
    return this.#watch.silence()
  }

  /** Throws E_UNAVAILABLE while the storage does not answer. */
  requireAnswering(): void {
    this.#watch.requireAnswering()
  }

  async list(wait: Wait): Promise<readonly VolumeRecord[]> {
    const pool = await this.#ensured(wait)
    const args = { pool, needResults: true, flags: 0 }
    const { volumes } = await attempt('list volumes', () =>
      this.#jobs.call(storagePoolListAllVolumes, args, quick(wait))
    )
    const records = await Promise.all(volumes.map((volume) => this.#record(volume, wait)))
    return records.filter((record) => record !== undefined)
  }

  async survey(wait: Wait): Promise<readonly VolumeSurvey[]> {
    return await surveyVolumes(this.#jobs, await this.#ensured(wait), wait)
  }

  /** Starts the pool where somebody stopped it. Returns whether it had to. */
  async ensurePool(wait: Wait): Promise<boolean> {
    if (await isActive(this.#jobs, await this.#ensured(wait), wait)) return false
    this.#pool = undefined
    await this.#ensured(wait)
    return true
  }

  async find(name: string, wait: Wait): Promise<VolumeRecord | undefined> {
    const volume = await this.#lookup(name, wait)
    return volume && (await this.#record(volume, wait))
  }

  /** Asked of the file system: libvirt's figures are of its last refresh, which uploads under way forbid. */
  async space(wait: Wait): Promise<Space> {
    await this.#ensured(wait)
    return await this.#watch.space(wait)
  }

  /** The same for who only tells it: what was last known, where the storage does not answer soon. */
  lastSpace(wait: Wait): Promise<Space> {
    return this.#watch.lastSpace(wait, (soon) => this.space(soon))
  }

  async uploadBase(
    volume: { name: string; sizeBytes: number },
    content: Readable,
    wait: Wait
  ): Promise<void> {
    const { name } = volume
    await this.#store(volume, { content, xml: baseVolumeXml(volume), doing: `store image ${name}` }, wait)
  }

  /** A file of which libvirt need not know what it is, for nobody's eyes but its QEMU's. Destroys `content` in any case. */
  async storePrivate(
    volume: { name: string; sizeBytes: number },
    content: Readable,
    wait: Wait
  ): Promise<void> {
    const doing = `store ${volume.name}`
    await this.#store(volume, { content, xml: privateVolumeXml(volume), doing }, wait)
  }

  /** An empty file that `uid` may write. */
  async createOwned(
    volume: { name: string; uid: number; gid: number },
    wait: Wait
  ): Promise<{ path: string }> {
    const doing = `make room for ${volume.name}`
    await this.#requireSpace(newDiskBytes, doing, wait)
    return { path: (await this.#create(ownedVolumeXml(volume), doing, wait)).key }
  }

  /** Has libvirt read what is in the pool, as it must after somebody else wrote there. It refuses during uploads. */
  async refresh(name: string, wait: Wait): Promise<void> {
    const pool = await this.#ensured(wait)
    const backoff = new Backoff({ baseMs: refreshAgainMs, capMs: refreshAgainMs * 10 })
    for (let left = refreshesMax; ; left--) {
      try {
        await this.#jobs.call(storagePoolRefresh, { pool, flags: 0 }, { ...wait, deadlineMs: createMs })
        return
      } catch (error) {
        if (left <= 1 || !isBusy(error)) throw fromLibvirt(error, `look at volume ${name}`)
        await this.#options.clock.sleep(backoff.nextMs(), wait.signal)
      }
    }
  }

  /**
   * A disk of other making. libvirt learns what it is by looking; while uploads forbid that it looks at the end of the last
   * one, and nothing waits for it: a VM's definition says itself what its disks are.
   */
  async storeDisk(disk: { name: string; sizeBytes: number }, content: Readable, wait: Wait): Promise<void> {
    await this.storePrivate(disk, content, wait)
    const pool = await this.#ensured(wait)
    await this.#jobs
      .call(storagePoolRefresh, { pool, flags: 0 }, { ...wait, deadlineMs: createMs })
      .catch((error) => {
        if (!isBusy(error)) throw fromLibvirt(error, `look at volume ${disk.name}`)
      })
  }

  async readRange(name: string, { offsetBytes, lengthBytes }: VolumeRange, wait: Wait): Promise<Buffer> {
    const range = { offsetBytes: BigInt(offsetBytes), lengthBytes: BigInt(lengthBytes) }
    const chunks: Buffer[] = []
    for await (const chunk of await this.read(name, wait, range)) chunks.push(chunk)
    const bytes = Buffer.concat(chunks)
    if (bytes.length === lengthBytes) return bytes
    throw new HostletError('E_CORRUPT', `volume ${name} ends before byte ${offsetBytes + lengthBytes}`)
  }

  /**
   * libvirt flushes nothing that it writes, and may be the only one to open the file: its file system is flushed, by a name
   * that can be opened.
   */
  async writeRange(name: string, offsetBytes: number, bytes: Buffer, wait: Wait): Promise<void> {
    const volume = await this.#require(name, wait)
    await attempt(`write ${name}`, async () => {
      await using connection = await this.#options.streamConnection(wait.signal)
      const range = { offsetBytes: BigInt(offsetBytes), lengthBytes: BigInt(bytes.length) }
      const args = { volume, ...range, flags: 0 }
      await connection.upload(storageVolUpload, args, Readable.from([bytes]), wait)
    })
    const readable = (await this.list(wait)).find((other) => digestOfBase(other.name) !== undefined)
    await flushFileSystem([this.#options.pool.path, ...(readable ? [readable.path] : [])], wait)
  }

  async read(name: string, wait: Wait, range = { offsetBytes: 0n, lengthBytes: 0n }): Promise<Readable> {
    const volume = await this.#require(name, wait)
    const connection = await attempt(`read ${name}`, () => this.#options.streamConnection(wait.signal))
    try {
      const args = { volume, ...range, flags: 0 }
      const stream = await connection.download(storageVolDownload, args, { signal: wait.signal })
      stream.once('close', () => void connection.close().catch(() => undefined))
      return stream
    } catch (error) {
      await connection.close()
      throw fromLibvirt(error, `read ${name}`)
    }
  }

  async createDisk(
    disk: { name: string; capacityBytes: number; backing?: { name: string; format: string } },
    wait: Wait
  ): Promise<void> {
    const { name, capacityBytes, backing } = disk
    if ((await this.#lookup(name, wait)) !== undefined) return
    const doing = `create disk ${name}`
    const base = backing && (await this.find(backing.name, wait))
    if (backing && !base) throw new HostletError('E_NOT_FOUND', `base volume ${backing.name} does not exist`)
    await this.#requireSpace(newDiskBytes, doing, wait)
    const store = backing && base && { backing: { path: base.path, format: backing.format } }
    await this.#create(diskVolumeXml({ name, capacityBytes, ...store }), doing, wait)
  }

  /** Of a disk that no machine uses. No effect when it is that large. libvirt answers that it cannot do so with an encrypted one. */
  async grow(name: string, capacityBytes: number, wait: Wait): Promise<void> {
    const volume = await this.#lookup(name, wait)
    if (volume === undefined) throw new HostletError('E_NOT_FOUND', `volume ${name} does not exist`)
    if (((await this.#record(volume, wait))?.capacityBytes ?? 0) >= capacityBytes) return
    const args = { volume, capacityBytes: BigInt(capacityBytes), flags: 0 }
    await attempt(`grow volume ${name}`, () =>
      this.#jobs.call(storageVolResize, args, { ...wait, deadlineMs: createMs })
    )
  }

  async remove(name: string, wait: Wait): Promise<void> {
    const volume = await this.#lookup(name, wait)
    if (volume === undefined) return
    await orAbsent(errorCode.noStorageVolume, `remove volume ${name}`, () =>
      this.#jobs.call(storageVolDelete, { volume, flags: 0 }, { ...wait, deadlineMs: createMs })
    )
  }

  get #jobs(): Connection {
    return this.#options.connection('jobs')
  }

  async #create(xml: string, doing: string, wait: Wait): Promise<StorageVolume> {
    const pool = await this.#ensured(wait)
    const options = { ...wait, deadlineMs: createMs }
    const args = { pool, xml, flags: 0 }
    return (await attempt(doing, () => this.#jobs.call(storageVolCreateXml, args, options))).volume
  }

  async #store(
    { name, sizeBytes }: { name: string; sizeBytes: number },
    { content, xml, doing }: { content: Readable; xml: string; doing: string },
    wait: Wait
  ): Promise<void> {
    try {
      if ((await this.#lookup(name, wait)) !== undefined)
        throw new HostletError('E_CONFLICT', `volume ${name} exists already`)
      await this.#requireSpace(sizeBytes, doing, wait)
      const volume = await this.#create(xml, doing, wait)
      await this.#upload(volume, { content, sizeBytes, doing }, wait)
    } finally {
      content.destroy()
    }
  }

  /** Whatever ends an upload early, half a volume is never left under the name of a whole one. */
  async #upload(
    volume: StorageVolume,
    { content, sizeBytes, doing }: { content: Readable; sizeBytes: number; doing: string },
    wait: Wait
  ): Promise<void> {
    try {
      await using connection = await this.#options.streamConnection(wait.signal)
      const args = { volume, offsetBytes: 0n, lengthBytes: BigInt(sizeBytes), flags: 0 }
      await connection.upload(storageVolUpload, args, content, wait)
    } catch (error) {
      const failure = await this.#explain(error, { sizeBytes, doing })
      await this.#removeHalf(volume, failure)
      throw failure
    }
  }

  async #removeHalf(volume: StorageVolume, failure: HostletError): Promise<void> {
    const options = { signal: AbortSignal.timeout(cleanUpMs), deadlineMs: cleanUpMs }
    try {
      await this.#jobs.call(storageVolDelete, { volume, flags: 0 }, options)
    } catch (error) {
      if (isAnswer(error, errorCode.noStorageVolume)) return
      throw new HostletError(
        failure.code,
        `${failure.message} The half-made volume ${volume.name} is left.`,
        {
          cause: failure,
          details: { ...failure.details, volume: volume.name }
        }
      )
    }
  }

  /** libvirt tells of a full disk in words only, so the room that is left decides. */
  async #explain(error: unknown, work: { sizeBytes: number; doing: string }): Promise<HostletError> {
    const failure = fromLibvirt(error, work.doing)
    if (failure.code !== 'E_LIBVIRT') return failure
    const space = await this.space({ signal: AbortSignal.timeout(cleanUpMs) }).catch(() => undefined)
    if (space === undefined || space.availableBytes > newDiskBytes) return failure
    return noSpace({
      ...work,
      availableBytes: space.availableBytes,
      pool: this.#options.pool,
      cause: failure
    })
  }

  async #requireSpace(sizeBytes: number, doing: string, wait: Wait): Promise<void> {
    const { availableBytes } = await this.space(wait)
    if (availableBytes < sizeBytes)
      throw noSpace({ sizeBytes, doing, availableBytes, pool: this.#options.pool })
  }

  async #require(name: string, wait: Wait): Promise<StorageVolume> {
    const volume = await this.#lookup(name, wait)
    if (volume !== undefined) return volume
    throw new HostletError('E_NOT_FOUND', `volume ${name} does not exist`)
  }

  async #lookup(name: string, wait: Wait): Promise<StorageVolume | undefined> {
    const pool = await this.#ensured(wait)
    const found = await orAbsent(errorCode.noStorageVolume, `find volume ${name}`, () =>
      this.#jobs.call(storageVolLookupByName, { pool, name }, quick(wait))
    )
    return found?.volume
  }

  async #record(volume: StorageVolume, wait: Wait): Promise<VolumeRecord | undefined> {
    const info = await orAbsent(errorCode.noStorageVolume, `look at volume ${volume.name}`, () =>
      this.#jobs.call(storageVolGetInfo, { volume }, quick(wait))
    )
    return (
      info && {
        name: volume.name,
        path: volume.key,
        capacityBytes: Number(info.capacityBytes),
        allocationBytes: Number(info.allocationBytes)
      }
    )
  }

  /**
   * The pool, made and started where it is not: once for each life of the connection. Throws E_UNAVAILABLE while its storage
   * does not answer.
   */
  async #ensured(wait: Wait): Promise<StoragePool> {
    this.#watch.requireAnswering()
    const on = this.#jobs
    if (this.#pool?.on !== on) {
      const found = ensurePool(on, this.#options.pool, { signal: new AbortController().signal })
      this.#pool = { on, found }
      // The next one tries again.
      found.catch(() => {
        if (this.#pool?.found === found) this.#pool = undefined
      })
    }
    // Nobody's own wait: others join.
    return await untilAborted(this.#pool.found, wait.signal)
  }
}

/** libvirt's internal error is all that it says of a pool with uploads under way. */
function isBusy(error: unknown): boolean {
  return isAnswer(error, errorCode.internalError) || isAnswer(error, errorCode.operationInvalid)
}

function noSpace(facts: {
  sizeBytes: number
  availableBytes: number
  doing: string
  pool: PoolDefinition
  cause?: unknown
}): HostletError {
  const { sizeBytes, availableBytes, doing, pool, cause } = facts
  return new HostletError(
    'E_CAPACITY',
    `${doing}: pool ${pool.name} at ${pool.path} has ${availableBytes} bytes left, ${sizeBytes} are needed. Free some, or use another host.`,
    { cause, details: { pool: pool.name, availableBytes, sizeBytes } }
  )
}

function quick(wait: Wait): Wait & { deadlineMs: number } {
  return { signal: wait.signal, deadlineMs: quickMs }
}
