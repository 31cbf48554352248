// Base images: fetched once, checked against their digest, stored read-only in the pool, found again by digest.

import { randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Transform } from 'node:stream'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { KeyedLock } from '../../lib/keyed-lock.ts'
import type { Logger } from '../../lib/log.ts'
import type { ImageReference } from '../../protocol/vm.ts'
import type { Hypervisor, Wait } from './hypervisor.ts'
import { type Digested, digestStream, downloadImage, virtualSizeOf } from './image-download.ts'
import { ImageRecords } from './image-records.ts'
import type { ImageSource } from './image-source.ts'
import { baseVolumeName, digestOfBase } from './names.ts'

export interface StoredImage {
  readonly volume: string
  readonly sizeBytes: number
  /** What a guest sees: a root disk cannot be smaller. */
  readonly virtualSizeBytes: number
  /** True when nothing had to be fetched. */
  readonly cached: boolean
}

/** What an operation tells of itself while an image comes. */
export interface ImageWait extends Wait {
  progress?(update: { ratio?: number; note?: string }): void
}

export interface ImagesOptions {
  readonly hypervisor: Pick<
    Hypervisor,
    | 'findVolume'
    | 'listVolumes'
    | 'uploadBase'
    | 'readVolume'
    | 'removeVolume'
    | 'listVms'
    | 'domainUses'
    | 'surveyVolumes'
  >
  readonly source: Pick<ImageSource, 'open' | 'permit'>
  /** Private directory for downloads and records. */
  readonly directory: string
  readonly cacheBytesMax: number
  readonly bootId: string
  readonly clock: Pick<Clock, 'now'>
  readonly log: Logger
}

/** The share of the work that is the download; the rest is the way into the pool. */
const downloadShare = 0.7
const partSuffix = '.part'

export class Images {
  readonly #options: ImagesOptions
  readonly #locks = new KeyedLock()
  readonly #records: ImageRecords
  #ready: Promise<void> | undefined

  constructor(options: ImagesOptions) {
    this.#options = options
    this.#records = new ImageRecords({ path: join(options.directory, 'images.json') })
  }

  /** Removes, once, what a killed agent left of its downloads. */
  prepare(): Promise<void> {
    this.#ready ??= prepareDirectory(this.#options.directory)
    this.#ready.catch(() => {
      this.#ready = undefined
    })
    return this.#ready
  }

  /**
   * Makes sure that the image is in the pool, whole and with its digest. Who asks for the same one meanwhile waits for
   * the same fetch. Throws E_BAD_REQUEST, E_AUTH, E_NOT_FOUND, E_UNAVAILABLE, E_CAPACITY, E_CORRUPT; nothing is left
   * of a fetch that failed.
   */
  async ensure(image: ImageReference, wait: ImageWait): Promise<StoredImage> {
    await this.#options.source.permit(image.url)
    const volume = baseVolumeName(image)
    await using _held = await this.#locks.acquire(volume, wait.signal)
    await this.prepare()
    const stored = await this.#stored(image, volume, wait)
    if (stored !== undefined) return stored
    const path = join(this.#options.directory, `${image.sha256}.${randomUUID()}${partSuffix}`)
    try {
      return await this.#fetch(image, { volume, path }, wait)
    } finally {
      await rm(path, { force: true })
    }
  }

  /** Whether its bytes were ever found to be right, as far as is remembered. */
  async isChecked(volume: string): Promise<boolean> {
    return (await this.#records.get(volume)) !== undefined
  }

  /** Reads a base volume: whether its bytes do not have the digest of its name. */
  async isBroken(volume: string, wait: Wait): Promise<boolean> {
    const digested = await digestStream(await this.#options.hypervisor.readVolume(volume, wait))
    return digested.sha256 !== digestOfBase(volume)
  }

  /** What is in the pool already, checked again if that was before the host booted, or nobody knows. */
  async #stored(image: ImageReference, volume: string, wait: ImageWait): Promise<StoredImage | undefined> {
    if ((await this.#options.hypervisor.findVolume(volume, wait)) === undefined) return undefined
    const record = await this.#records.get(volume)
    if (record?.bootId === this.#options.bootId) {
      await this.#keep(volume, record)
      return { volume, sizeBytes: record.sizeBytes, virtualSizeBytes: record.virtualSizeBytes, cached: true }
    }
    wait.progress?.({ note: 'checking the stored image' })
    const digested = await digestStream(await this.#options.hypervisor.readVolume(volume, wait))
    if (digested.sha256 === image.sha256) return await this.#accept(image, { volume, digested, cached: true })
    await this.#dropBroken(volume, image, wait)
    return undefined
  }

  async #fetch(
    image: ImageReference,
    { volume, path }: { volume: string; path: string },
    wait: ImageWait
  ): Promise<StoredImage> {
    const { source, cacheBytesMax, hypervisor, log } = this.#options
    const content = await source.open(image.url, wait.signal)
    const onBytes = (received: number, expected: number | undefined) =>
      wait.progress?.({
        note: `${received} bytes fetched`,
        ...(expected && { ratio: (downloadShare * received) / expected })
      })
    const { signal } = wait
    const digested = await downloadImage(content, { image, path, bytesMax: cacheBytesMax, signal, onBytes })
    // Before it enters the pool: an image that is refused leaves nothing there.
    virtualSizeOf(image, digested)
    await this.#makeRoom(digested.sizeBytes, wait)
    const { sizeBytes } = digested
    const stream = createReadStream(path).pipe(counted(sizeBytes, wait))
    await hypervisor.uploadBase({ name: volume, format: image.format, sizeBytes }, stream, wait)
    log.info({ image: image.sha256, sizeBytes }, 'image stored')
    return await this.#accept(image, { volume, digested, cached: false })
  }

  async #accept(
    image: ImageReference,
    { volume, digested, cached }: { volume: string; digested: Digested; cached: boolean }
  ): Promise<StoredImage> {
    const { sizeBytes } = digested
    const virtualSizeBytes = virtualSizeOf(image, digested)
    await this.#keep(volume, { sizeBytes, virtualSizeBytes })
    return { volume, sizeBytes, virtualSizeBytes, cached }
  }

  async #keep(volume: string, sizes: { sizeBytes: number; virtualSizeBytes: number }): Promise<void> {
    const { bootId, clock } = this.#options
    const { sizeBytes, virtualSizeBytes } = sizes
    await this.#records.set(volume, { sizeBytes, virtualSizeBytes, bootId, usedAt: clock.now() })
  }

  /** Half an upload, or bytes that rotted. What a VM's disk stands on is never removed. */
  async #dropBroken(volume: string, image: ImageReference, wait: Wait): Promise<void> {
    const isUsed = (await this.#inUse(wait, { startedOnly: true })).has(image.sha256)
    if (isUsed || (await this.#isStoodOn(volume, wait))) {
      throw new HostletError(
        'E_CORRUPT',
        `the stored image ${image.sha256} has other bytes than its digest says, and VMs use it. Check the host's disk; restore those VMs from their backups.`,
        { details: { image: image.sha256, volume } }
      )
    }
    this.#options.log.warn({ image: image.sha256 }, 'a stored image was not whole and is fetched anew')
    await this.#records.delete(volume)
    await this.#options.hypervisor.removeVolume(volume, wait)
  }

  /** Removes images that no VM uses, the longest unused first, until the new one fits the limit. */
  async #makeRoom(sizeBytes: number, wait: Wait): Promise<void> {
    const { cacheBytesMax } = this.#options
    let total = sizeBytes
    const candidates = []
    for (const { name, allocationBytes } of await this.#options.hypervisor.listVolumes(wait)) {
      if (digestOfBase(name) === undefined) continue
      total += allocationBytes
      candidates.push({ name, allocationBytes, usedAt: (await this.#records.get(name))?.usedAt ?? 0 })
    }
    for (const { name, allocationBytes } of candidates.sort((a, b) => a.usedAt - b.usedAt)) {
      if (total <= cacheBytesMax) return
      if (await this.#evict(name, wait)) total -= allocationBytes
    }
    if (total <= cacheBytesMax) return
    throw new HostletError(
      'E_CAPACITY',
      `images that VMs use take ${total - sizeBytes} of the ${cacheBytesMax} bytes for images, ${sizeBytes} more are needed. Tear VMs down, or raise images.cacheBytesMax.`,
      { details: { neededBytes: sizeBytes, cacheBytesMax } }
    )
  }

  /** One that is being asked for is left alone, and so is one that a VM was defined with meanwhile. */
  async #evict(volume: string, wait: Wait): Promise<boolean> {
    if (this.#locks.isHeld(volume)) return false
    await using _held = await this.#locks.acquire(volume, wait.signal)
    const digest = digestOfBase(volume)
    if (digest === undefined || (await this.#inUse(wait)).has(digest)) return false
    if (await this.#isStoodOn(volume, wait)) return false
    await this.#records.delete(volume)
    await this.#options.hypervisor.removeVolume(volume, wait)
    this.#options.log.info({ image: digest }, 'unused image removed')
    return true
  }

  /** By a disk of no VM of ours, or a domain that is not: what was a VM once may be one again. */
  async #isStoodOn(name: string, wait: Wait): Promise<boolean> {
    const { hypervisor } = this.#options
    const volumes = await hypervisor.surveyVolumes(wait)
    const path = volumes.find((volume) => volume.name === name)?.path
    if (path === undefined) return false
    if (volumes.some(({ backing }) => backing === path)) return true
    return (await hypervisor.domainUses(wait, 'foreign')).some(
      ({ files }) => files.includes(path) || files.includes(name)
    )
  }

  /** Digests that VMs need, those of restored VMs left out. A VM is defined before its image is fetched, so none is missed. */
  async #inUse(wait: Wait, { startedOnly = false } = {}): Promise<ReadonlySet<string>> {
    const [vms, volumes] = await Promise.all([
      this.#options.hypervisor.listVms(wait),
      startedOnly ? this.#options.hypervisor.listVolumes(wait) : []
    ])
    const made = new Set(volumes.map((volume) => volume.name))
    const using = vms.filter(
      ({ placement }) =>
        placement.rootStandsAlone !== true && (!startedOnly || made.has(placement.rootVolume))
    )
    return new Set(using.map((vm) => vm.specification.image.sha256))
  }
}

async function prepareDirectory(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  for (const name of await readdir(directory)) {
    if (name.endsWith(partSuffix)) await rm(join(directory, name), { force: true })
  }
}

function counted(sizeBytes: number, wait: ImageWait): Transform {
  let sent = 0
  return new Transform({
    transform: (chunk: Buffer, _encoding, done) => {
      sent += chunk.length
      wait.progress?.({
        ratio: downloadShare + ((1 - downloadShare) * sent) / sizeBytes,
        note: 'storing the image'
      })
      done(null, chunk)
    }
  })
}
