// Scratch files of backup jobs: what the guest overwrites is kept there until the job ends. Made by us, removed by us.

import { randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { JobDisk, LiveDisk } from './backup-xml.ts'
import type { Wait } from './hypervisor.ts'
import { formatLuks, newPassphrase } from './luks-format.ts'
import { isScratchOf, scratchSecretUsage, scratchVolumeName } from './names.ts'
import type { Secrets } from './secrets.ts'
import type { Volumes } from './volumes.ts'

export interface ScratchOptions {
  readonly secrets: Secrets
  readonly volumes: Pick<Volumes, 'createDisk' | 'storePrivate' | 'find' | 'list' | 'remove' | 'space'>
  /** Private, on memory-backed storage: keys pass through it. */
  readonly runtimeDirectory: string
  /** Room in the pool that no backup may take: a job ends before the guest would meet a full disk. */
  readonly reserveBytes: number
  readonly clock: Clock
}

export interface ScratchRequest {
  readonly vm: { readonly name: string; readonly uuid: string }
  readonly token: string
  readonly disks: readonly (LiveDisk & { readonly sizeBytes: number })[]
}

/** What a job takes before the guest has written anything, encryption headers included. */
const scratchBytesMin = 16 * 1024 ** 2
/** Of directories that are there only while a file is made. */
export const privateWorkPrefix = 'work-'

export class Scratch {
  readonly #options: ScratchOptions

  constructor(options: ScratchOptions) {
    this.#options = options
  }

  get reserveBytes(): number {
    return this.#options.reserveBytes
  }

  async availableBytes(wait: Wait): Promise<number> {
    return (await this.#options.volumes.space(wait)).availableBytes
  }

  /** One file a disk, encrypted where the disk is. Throws E_CAPACITY; what it made until then is the caller's to clear. */
  async create({ vm, token, disks }: ScratchRequest, wait: Wait): Promise<JobDisk[]> {
    await this.#requireSpace(vm.name, wait)
    const made: JobDisk[] = []
    for (const { role, target, encrypted, sizeBytes } of disks) {
      const name = scratchVolumeName(vm, { token, role })
      // Of an attempt whose end nobody saw.
      await this.#options.volumes.remove(name, wait)
      const scratchSecret = encrypted
        ? await this.#createEncrypted({ name, sizeBytes, usage: scratchSecretUsage(vm, name) }, wait)
        : await this.#createPlain({ name, sizeBytes }, wait)
      const scratchPath = (await this.#options.volumes.find(name, wait))?.path
      if (scratchPath === undefined)
        throw new HostletError('E_INTERRUPTED', `scratch file ${name} was removed while it was made`)
      made.push({ role, target, scratchPath, ...(scratchSecret && { scratchSecret }) })
    }
    return made
  }

  /** All scratch files of a VM, with their keys. Returns the names of what there was. */
  async clear(vm: { name: string; uuid: string }, wait: Wait): Promise<string[]> {
    const { volumes } = this.#options
    const names = (await volumes.list(wait)).map(({ name }) => name).filter((name) => isScratchOf(vm, name))
    for (const name of names) await volumes.remove(name, wait)
    const secrets = await this.#options.secrets.list(scratchSecretUsage(vm), wait)
    for (const id of secrets) await this.#options.secrets.remove(id, wait)
    return [...names, ...secrets.map((id) => `secret ${id}`)]
  }

  async #requireSpace(vm: string, wait: Wait): Promise<void> {
    const availableBytes = await this.availableBytes(wait)
    const neededBytes = this.#options.reserveBytes + scratchBytesMin
    if (availableBytes >= neededBytes) return
    throw new HostletError(
      'E_CAPACITY',
      `a backup of VM ${vm} keeps what the guest overwrites meanwhile in the pool, which has ${availableBytes} bytes left; ${neededBytes} are needed. Free some, or lower backup.scratchReserveBytes.`,
      { details: { vm, availableBytes, neededBytes } }
    )
  }

  async #createPlain(file: { name: string; sizeBytes: number }, wait: Wait): Promise<undefined> {
    await this.#options.volumes.createDisk({ name: file.name, capacityBytes: file.sizeBytes }, wait)
  }

  /** libvirt would take many seconds for each, in the middle of the job. Returns the UUID of the key's secret. */
  async #createEncrypted(
    { name, sizeBytes, usage }: { name: string; sizeBytes: number; usage: string },
    wait: Wait
  ): Promise<string> {
    const directory = await mkdtemp(join(this.#options.runtimeDirectory, privateWorkPrefix))
    const passphrase = newPassphrase()
    const { clock, volumes, secrets } = this.#options
    try {
      const path = join(directory, 'scratch.qcow2')
      await formatLuks({ path, passphrase, sizeBytes }, { clock, signal: wait.signal })
      const content = createReadStream(path)
      await volumes.storePrivate({ name, sizeBytes: (await stat(path)).size }, content, wait)
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
    const id = randomUUID()
    await secrets.define({ id, usage, passphrase }, wait)
    return id
  }
}
