// The keys of VMs' disks: one small file each, wrapped under the host's key, that can be overwritten where it lies.

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { ensurePrivateDirectory, writePrivateFile } from '../../lib/private-file.ts'
import { type Static, Type } from '../../lib/schema.ts'
import { replacePrivateFile, shredFile, shredLeftovers } from '../../lib/shred.ts'
import { strict, Uuid, VmName } from '../../protocol/names.ts'
import { compile } from '../../protocol/validate.ts'
import { newPassphrase } from '../host/luks-format.ts'
import type { HostKey } from './host-key.ts'

const Wrapped = Type.String({ minLength: 1, maxLength: 4_096 })
const DiskKeyRecord = Type.Object(
  {
    /** Also the UUID of the secret that libvirt is told the key in. */
    id: Uuid,
    vm: Type.Object({ name: VmName, uuid: Uuid }, strict),
    volume: Type.String({ minLength: 1, maxLength: 255 }),
    createdAt: Type.Integer({ minimum: 0 }),
    /** Opens the disk, whatever else is here. */
    wrapped: Wrapped,
    /** Of a change of the passphrase: it may open the disk already. */
    next: Type.Optional(Wrapped),
    /** Of a change of the passphrase: it may open the disk still. */
    previous: Type.Optional(Wrapped)
  },
  strict
)
type Stored = Static<typeof DiskKeyRecord>
export type DiskKeyRecord = Omit<Stored, 'wrapped' | 'next' | 'previous'>

/** A key at its beginning, to whoever keeps a second copy of it. */
export interface KeptDiskKey extends Omit<DiskKeyRecord, 'createdAt'> {
  readonly passphrase: string
}

/** Ids of keys. */
export interface Rewrapped {
  readonly rewrapped: readonly string[]
  readonly unreadable: readonly string[]
}

export interface PassphraseChange {
  readonly from: string
  readonly to: string
}

export interface DiskKeysOptions {
  readonly directory: string
  readonly hostKey: () => HostKey
  readonly clock: Pick<Clock, 'now'>
}

const check = compile(DiskKeyRecord, 'disk key')
const suffix = '.json'

export class DiskKeys {
  readonly #options: DiskKeysOptions
  readonly #listeners = new Set<(key: KeptDiskKey) => Promise<void>>()

  constructor(options: DiskKeysOptions) {
    this.#options = options
  }

  /** Makes the directory, shreds what a crash left, and wraps anew what is under a key that was replaced. */
  async prepare(): Promise<Rewrapped> {
    ensurePrivateDirectory(this.#options.directory)
    shredLeftovers(this.#options.directory)
    return await this.rewrapAll()
  }

  /** Told of each key before its disk is used; what a listener throws, keeping the key throws. */
  onKept(listener: (key: KeptDiskKey) => Promise<void>): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) }
  }

  /** Durable when it resolves. One of the same id, of a disk that is made anew, is destroyed. */
  async keep(key: KeptDiskKey): Promise<void> {
    const { id, vm, volume, passphrase } = key
    const wrapped = await this.#options.hostKey().seal(passphrase)
    const createdAt = this.#options.clock.now()
    this.#write({ id, vm: { name: vm.name, uuid: vm.uuid }, volume, createdAt, wrapped })
    for (const listener of this.#listeners) await listener(key)
  }

  /** The passphrase that opens the disk. Throws E_NOT_FOUND when it was destroyed or lost, E_AUTH, E_CORRUPT. */
  async unwrap(id: string): Promise<string> {
    const { wrapped } = this.#require(id)
    return await this.#open(id, wrapped)
  }

  /** A file that cannot be read as one of ours is left out. */
  list(): DiskKeyRecord[] {
    return this.#ids().flatMap((id) => {
      const found = this.#readable(id)
      if (found === undefined) return []
      const { wrapped: _secret, next: _next, previous: _previous, ...record } = found
      return [record]
    })
  }

  listOf(vmUuid: string): DiskKeyRecord[] {
    return this.list().filter(({ vm }) => vm.uuid === vmUuid)
  }

  /** False when there was none. */
  destroy(id: string): boolean {
    return shredFile(this.#path(id))
  }

  /** All keys of a VM. Returns whose they were. */
  destroyAll(vmUuid: string): DiskKeyRecord[] {
    const records = this.listOf(vmUuid)
    return records.filter(({ id }) => this.destroy(id))
  }

  /** Wraps under the host's present key what is under another. What no key here opens is left as it is, and told. */
  async rewrapAll(): Promise<Rewrapped> {
    const [rewrapped, unreadable]: [string[], string[]] = [[], []]
    for (const id of this.#ids()) {
      try {
        const before = this.#read(id)
        const after = before && (await this.#rewrapped(before))
        if (after === undefined) continue
        this.#write(after)
        rewrapped.push(id)
      } catch (error) {
        if (!(error instanceof HostletError) || error.code === 'E_UNAVAILABLE') throw error
        unreadable.push(id)
      }
    }
    return { rewrapped, unreadable }
  }

  /** Begins a change of the passphrase, or goes on with one: the disk is to open with both next. */
  async beginChange(id: string): Promise<PassphraseChange> {
    const record = this.#require(id)
    const from = await this.#open(id, record.wrapped)
    if (record.next !== undefined) return { from, to: await this.#open(id, record.next) }
    const to = newPassphrase()
    this.#write({ ...record, next: await this.#options.hostKey().seal(to) })
    return { from, to }
  }

  /** The disk opens with both: from here on the new one is used. */
  turnOver(id: string): void {
    const { next, ...record } = this.#require(id)
    if (next !== undefined) this.#write({ ...record, wrapped: next, previous: record.wrapped })
  }

  /** The change whose old passphrase may open the disk still; undefined where there is none. */
  async changeToEnd(id: string): Promise<PassphraseChange | undefined> {
    const { wrapped, previous } = this.#require(id)
    if (previous === undefined) return undefined
    return { from: await this.#open(id, previous), to: await this.#open(id, wrapped) }
  }

  /** The disk does not open with the old one any more, which is destroyed. */
  endChange(id: string): void {
    const { previous, ...rest } = this.#require(id)
    if (previous !== undefined) this.#write(rest)
  }

  async #rewrapped(record: Stored): Promise<Stored | undefined> {
    const hostKey = this.#options.hostKey()
    const after = { ...record }
    let changed = false
    for (const member of ['wrapped', 'next', 'previous'] as const) {
      const jwe = record[member]
      if (jwe === undefined || hostKey.isCurrent(jwe)) continue
      after[member] = await hostKey.seal(await this.#open(record.id, jwe))
      changed = true
    }
    return changed ? after : undefined
  }

  async #open(id: string, jwe: string): Promise<string> {
    try {
      return await this.#options.hostKey().open(jwe)
    } catch (cause) {
      if (!(cause instanceof HostletError)) throw cause
      throw new HostletError(cause.code, `the key ${id} of a disk: ${cause.message}`, { cause })
    }
  }

  #require(id: string): Stored {
    const found = this.#read(id)
    if (found !== undefined) return found
    throw new HostletError(
      'E_NOT_FOUND',
      `the key ${id} of a disk is not on this host: it was destroyed, or the state directory was lost. Without it the disk cannot be read; bring the key back from where a second copy is, or restore the VM from a backup.`,
      { details: { key: id } }
    )
  }

  #readable(id: string): Stored | undefined {
    try {
      return this.#read(id)
    } catch (error) {
      if (error instanceof HostletError && error.code === 'E_CORRUPT') return undefined
      throw error
    }
  }

  #read(id: string): Stored | undefined {
    const path = this.#path(id)
    let text: string
    try {
      text = readFileSync(path, 'utf8')
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw new HostletError('E_UNAVAILABLE', `${path} cannot be read`, { cause })
    }
    try {
      return check(JSON.parse(text))
    } catch (cause) {
      throw new HostletError('E_CORRUPT', `${path}: is not a disk key as hostlet wrote it`, { cause })
    }
  }

  #write(record: Stored): void {
    const text = `${JSON.stringify(record, undefined, 2)}\n`
    if (this.#ids().includes(record.id)) replacePrivateFile(this.#path(record.id), text)
    else writePrivateFile(this.#path(record.id), text)
  }

  #ids(): string[] {
    const { directory } = this.#options
    if (!existsSync(directory)) return []
    return readdirSync(directory)
      .filter((name) => name.endsWith(suffix) && !name.startsWith('.'))
      .map((name) => name.slice(0, -suffix.length))
  }

  #path(id: string): string {
    return join(this.#options.directory, `${id}${suffix}`)
  }
}
