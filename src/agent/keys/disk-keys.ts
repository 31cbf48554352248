// The keys of VMs' disks: one small file each, wrapped under the host's key, that can be overwritten where it lies.

import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { type Static, Type } from '../../lib/schema.ts'
import type { HostWrapping } from '../../protocol/keys.ts'
import { strict, Uuid, VmName } from '../../protocol/names.ts'
import { compile } from '../../protocol/validate.ts'
import type { Wait } from '../host/hypervisor.ts'
import { newPassphrase } from '../host/luks-format.ts'
import type { HostKey } from './host-key.ts'
import type { KeyCustody } from './key-custody.ts'
import { FileShelf, type KeyShelf } from './key-shelf.ts'

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
/** As it is kept: what opens the disk is wrapped under the host's key. */
export type StoredDiskKey = Static<typeof DiskKeyRecord>
type Stored = StoredDiskKey
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
  /** Of the files, where there is no other shelf. */
  readonly directory: string
  readonly shelf?: KeyShelf
  readonly hostKey: () => HostKey
  readonly clock: Pick<Clock, 'now'>
}

const check = compile(DiskKeyRecord, 'disk key')

export class DiskKeys {
  readonly #options: DiskKeysOptions
  readonly #shelf: KeyShelf
  readonly #listeners = new Set<(key: KeptDiskKey) => Promise<void>>()
  #custody: KeyCustody | undefined

  constructor(options: DiskKeysOptions) {
    this.#options = options
    this.#shelf = options.shelf ?? new FileShelf(options.directory)
  }

  /** Makes the directory, shreds what a crash left, and wraps anew what is under a key that was replaced. */
  async prepare(): Promise<Rewrapped> {
    this.#shelf.prepare()
    return await this.rewrapAll()
  }

  /** Told of each key before its disk is used; what a listener throws, keeping the key throws. */
  onKept(listener: (key: KeptDiskKey) => Promise<void>): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) }
  }

  /** From here on the other one has a say in every key. */
  entrust(custody: KeyCustody): void {
    this.#custody = custody
  }

  /** Durable when it resolves. One of the same id, of a disk that is made anew, is destroyed. */
  async keep(key: KeptDiskKey): Promise<void> {
    const { id, vm, volume, passphrase } = key
    let wrapped: string
    // A rotation may have come in between, and would not look here again.
    do wrapped = await this.#options.hostKey().seal(passphrase)
    while (!this.#options.hostKey().isCurrent(wrapped))
    const createdAt = this.#options.clock.now()
    const record = { id, vm: { name: vm.name, uuid: vm.uuid }, volume, createdAt, wrapped }
    this.#write(record)
    await this.#custody?.kept(record)
    for (const listener of this.#listeners) await listener(key)
  }

  /** The passphrase that opens the disk. Throws E_NOT_FOUND when it was destroyed or lost, E_AUTH, E_CORRUPT. */
  async unwrap(id: string, wait?: Wait): Promise<string> {
    const { wrapped } = await this.#load(id, wait)
    return await this.#open(id, wrapped)
  }

  /** All that may open the disk, and the same wrapped under the host's present key. Throws as unwrap does. */
  async reveal(id: string, wait?: Wait): Promise<{ passphrases: string[]; wrapping: HostWrapping }> {
    const before = await this.#load(id, wait)
    const { wrapped, next, previous } = (await this.#rewrapped(before)) ?? before
    const jwes = [wrapped, next, previous].filter((jwe) => jwe !== undefined)
    const passphrases = await Promise.all(jwes.map((jwe) => this.#open(id, jwe)))
    return { passphrases, wrapping: { wrapped, ...(next && { next }), ...(previous && { previous }) } }
  }

  /** Takes over what lies on another shelf, which is destroyed there once it counts here. */
  async moveFrom(shelf: KeyShelf): Promise<void> {
    for (const id of shelf.ids()) {
      const record = check(JSON.parse(shelf.read(id) ?? 'null'))
      this.#write(record)
      await this.#custody?.kept(record)
      shelf.destroy(id)
    }
  }

  has(id: string): boolean {
    return this.#shelf.read(id) !== undefined
  }

  /** A file that cannot be read as one of ours is left out. */
  list(): DiskKeyRecord[] {
    return this.#shelf.ids().flatMap((id) => {
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
    const uuid = this.#readable(id)?.vm.uuid
    this.#custody?.gone({ id, ...(uuid !== undefined && { uuid }) })
    return this.#shelf.destroy(id)
  }

  /** Destroys what lies here of a key, and nothing of it elsewhere: a recovery may still want that. */
  discard(id: string): boolean {
    return this.#shelf.destroy(id)
  }

  /** All keys of a VM, wherever they are kept. Returns those that were known. */
  destroyAll(vmUuid: string): Pick<DiskKeyRecord, 'id'>[] {
    const known = this.#custody?.gone({ uuid: vmUuid }) ?? []
    const here = this.listOf(vmUuid).map(({ id }) => id)
    for (const id of here) this.#shelf.destroy(id)
    return [...new Set([...known, ...here])].map((id) => ({ id }))
  }

  /** Wraps under the host's present key what is under another. What no key here opens is left as it is, and told. */
  async rewrapAll(): Promise<Rewrapped> {
    const [rewrapped, unreadable]: [string[], string[]] = [[], []]
    for (const id of this.#shelf.ids()) {
      try {
        if (await this.#update(id, (record) => this.#rewrapped(record))) rewrapped.push(id)
      } catch (error) {
        if (!(error instanceof HostletError) || error.code === 'E_UNAVAILABLE') throw error
        unreadable.push(id)
      }
    }
    return { rewrapped, unreadable }
  }

  /** Begins a change of the passphrase, or goes on with one: the disk is to open with both next. */
  async beginChange(id: string): Promise<PassphraseChange> {
    await this.#load(id)
    const begun = await this.#update(id, async (record) => {
      if (record.next !== undefined) return undefined
      return { ...record, next: await this.#options.hostKey().seal(newPassphrase()) }
    })
    const record = this.#require(id)
    if (begun) await this.#custody?.kept(record)
    const { wrapped, next = wrapped } = record
    return { from: await this.#open(id, wrapped), to: await this.#open(id, next) }
  }

  /** The disk opens with both: from here on the new one is used. */
  turnOver(id: string): void {
    const { next, ...record } = this.#require(id)
    if (next === undefined) return
    const changed = { ...record, wrapped: next, previous: record.wrapped }
    this.#write(changed)
    this.#custody?.changed(changed)
  }

  /** The change whose old passphrase may open the disk still; undefined where there is none. */
  async changeToEnd(id: string): Promise<PassphraseChange | undefined> {
    const record = await this.#load(id)
    const { wrapped, previous } = record
    if (previous === undefined) return undefined
    // Before the old one opens it no more, all who keep it know of the new one.
    await this.#custody?.kept(record)
    return { from: await this.#open(id, previous), to: await this.#open(id, wrapped) }
  }

  /** The disk does not open with the old one any more, which is destroyed. */
  endChange(id: string): void {
    const { previous, ...rest } = this.#require(id)
    if (previous === undefined) return
    this.#write(rest)
    this.#custody?.changed(rest)
  }

  /**
   * Writes what becomes of a record, unless the record has been changed or destroyed meanwhile, or the host's key: then it is
   * asked again, and what is destroyed never comes back. False where nothing was to be written.
   */
  async #update(id: string, change: (record: Stored) => Promise<Stored | undefined>): Promise<boolean> {
    for (;;) {
      const { kid } = this.#options.hostKey().publicKey
      const before = this.#read(id)
      const after = before && (await change(before))
      if (after === undefined) return false
      if (kid !== this.#options.hostKey().publicKey.kid) continue
      if (JSON.stringify(this.#read(id)) !== JSON.stringify(before)) continue
      this.#write(after)
      return true
    }
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

  /** What is kept elsewhere is asked for each time: it may be withheld. */
  async #load(id: string, wait?: Wait): Promise<Stored> {
    const found = await this.#custody?.fetch?.(id, wait)
    if (found !== undefined) this.#write(check(found))
    return this.#require(id)
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
    const text = this.#shelf.read(id)
    if (text === undefined) return undefined
    try {
      return check(JSON.parse(text))
    } catch (cause) {
      const place = this.#shelf.place(id)
      throw new HostletError('E_CORRUPT', `${place}: is not a disk key as hostlet wrote it`, { cause })
    }
  }

  #write(record: Stored): void {
    this.#shelf.write(record.id, `${JSON.stringify(record, undefined, 2)}\n`)
  }
}
