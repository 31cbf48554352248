// Scratch files of backup jobs: what the guest overwrites is kept there until the job ends. Made by us, removed by us.

import { randomBytes, randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type Connection,
  connectListAllSecrets,
  errorCode,
  type Secret,
  secretDefineXml,
  secretSetValue,
  secretUndefine
} from 'node-libvirt'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { mustRun } from '../../lib/run-process.ts'
import type { JobDisk, LiveDisk } from './backup-xml.ts'
import type { ConnectionRole } from './connections.ts'
import type { Wait } from './hypervisor.ts'
import { attempt, orAbsent } from './libvirt-errors.ts'
import { isScratchOf, scratchSecretUsage, scratchVolumeName } from './names.ts'
import { uuidText } from './uuid.ts'
import type { Volumes } from './volumes.ts'
import { element, renderXml } from './xml.ts'

export interface ScratchOptions {
  readonly connection: (role: ConnectionRole) => Connection
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
export const scratchWorkPrefix = 'scratch-'
const quickMs = 10_000
const createMs = 60_000
/** QEMU measures the machine's speed by CPU time, and gives up when it got none of it. */
const attemptsMax = 24
const retryMs = 200
const keyBytes = 32

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
    const secrets = await this.#secretsOf(vm, wait)
    for (const secret of secrets) await this.#forget(secret, wait)
    return [...names, ...secrets.map(({ uuid }) => `secret ${uuidText(uuid)}`)]
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
    const directory = await mkdtemp(join(this.#options.runtimeDirectory, scratchWorkPrefix))
    // As text: libvirt hands a passphrase on as UTF-8.
    const key = randomBytes(keyBytes).toString('base64')
    try {
      const path = await this.#format({ directory, key, sizeBytes }, wait)
      const content = createReadStream(path)
      const file = { name, sizeBytes: (await stat(path)).size }
      await this.#options.volumes.storePrivate(file, content, wait)
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
    return await this.#defineSecret(usage, key, wait)
  }

  async #format(
    { directory, key, sizeBytes }: { directory: string; key: string; sizeBytes: number },
    wait: Wait
  ): Promise<string> {
    const [keyPath, path] = [join(directory, 'key'), join(directory, 'scratch.qcow2')]
    await writeFile(keyPath, key, { mode: 0o600 })
    const args = [
      ...['create', '-q', '-f', 'qcow2', '--object', `secret,id=key,file=${keyPath}`],
      // The key is random and used once: slowing down guesses would only slow down the backup.
      ...['-o', 'compat=1.1,encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10'],
      ...[path, String(sizeBytes)]
    ]
    for (let left = attemptsMax; ; left--) {
      try {
        await mustRun('qemu-img', args, { signal: wait.signal, deadlineMs: createMs })
        return path
      } catch (error) {
        if (left <= 1 || !(error instanceof HostletError) || error.code !== 'E_INTERNAL') throw error
        await rm(path, { force: true })
        await this.#options.clock.sleep(retryMs, wait.signal)
      }
    }
  }

  async #defineSecret(usage: string, key: string, wait: Wait): Promise<string> {
    const uuid = randomUUID()
    const xml = renderXml(
      element(
        'secret',
        { ephemeral: 'yes', private: 'yes' },
        element('uuid', {}, uuid),
        element('usage', { type: 'volume' }, element('volume', {}, usage))
      )
    )
    await attempt('keep the key of a scratch file', async () => {
      const options = { signal: wait.signal, deadlineMs: quickMs }
      const { secret } = await this.#control.call(secretDefineXml, { xml, flags: 0 }, options)
      const value = new TextEncoder().encode(key)
      await this.#control.call(secretSetValue, { secret, value, flags: 0 }, options)
    })
    return uuid
  }

  async #secretsOf(vm: { uuid: string }, wait: Wait): Promise<Secret[]> {
    const args = { needResults: true, flags: 0 }
    const { secrets } = await attempt('list secrets', () =>
      this.#control.call(connectListAllSecrets, args, { signal: wait.signal, deadlineMs: quickMs })
    )
    return secrets.filter(({ usageId }) => usageId.startsWith(scratchSecretUsage(vm)))
  }

  async #forget(secret: Secret, wait: Wait): Promise<void> {
    await orAbsent(errorCode.noSecret, 'forget the key of a scratch file', () =>
      this.#control.call(secretUndefine, { secret }, { signal: wait.signal, deadlineMs: quickMs })
    )
  }

  get #control(): Connection {
    return this.#options.connection('control')
  }
}
