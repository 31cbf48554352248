// Everything about keys of disks that the host has, made once.

import { join } from 'node:path'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { KeyedLock } from '../../lib/keyed-lock.ts'
import type { Logger } from '../../lib/log.ts'
import type { Hypervisor } from '../host/hypervisor.ts'
import { Adoption } from './adoption.ts'
import { BlankDisks } from './blank-disks.ts'
import { DiskKeys, type Rewrapped } from './disk-keys.ts'
import { createEscrow, createWatch, diskKeySource } from './escrow-join.ts'
import type { EscrowRecords } from './escrow-records.ts'
import { HostKey } from './host-key.ts'
import type { PublicKey } from './jwk.ts'
import type { KeyEscrow, KeyPlace } from './key-escrow.ts'
import { FileShelf, MemoryShelf } from './key-shelf.ts'
import { KeySupply } from './key-supply.ts'
import type { KeyWatch } from './key-watch.ts'
import { Rekeying } from './rekeying.ts'
import { LateLine } from './scheduler-line.ts'
import { SealedDisks } from './sealed-disks.ts'
import { StartedSecrets } from './started-secrets.ts'

export interface KeysOptions {
  readonly stateDirectory: string
  readonly runtimeDirectory: string
  readonly credentialsDirectory?: string | undefined
  /** Encrypted disks that are kept ready. */
  readonly preparedDisks: number
  /** Where the wrapped keys lie: on this host unless said otherwise. */
  readonly keys?: KeyPlace
  /** What is remembered of keys at the scheduler; without it the scheduler is told of none. */
  readonly escrow?: EscrowRecords | undefined
  readonly policyPath: string
  readonly hypervisor: Hypervisor
  readonly clock: Clock
  readonly log: Logger
}

export class Keys implements AsyncDisposable {
  readonly disks: DiskKeys
  readonly blanks: BlankDisks
  readonly sealed: SealedDisks
  readonly supply: KeySupply
  readonly rekeying: Rekeying
  readonly adoption: Adoption
  readonly escrow: KeyEscrow | undefined
  readonly watch: KeyWatch
  /** To be attached to the session. */
  readonly line = new LateLine()
  readonly place: KeyPlace
  readonly #options: KeysOptions
  readonly #started: StartedSecrets | undefined
  readonly #files: FileShelf
  readonly #rotating = new KeyedLock()
  readonly #rotated = new Set<() => void>()
  #hostKey: HostKey | undefined

  constructor(options: KeysOptions) {
    const { stateDirectory, runtimeDirectory, preparedDisks: count } = options
    this.#options = options
    this.place = options.keys ?? 'host'
    const atScheduler = this.place === 'scheduler'
    const directory = join(stateDirectory, 'keys')
    this.#files = new FileShelf(directory)
    const shelf = atScheduler ? new MemoryShelf() : this.#files
    this.disks = new DiskKeys({ ...options, directory, shelf, hostKey: () => this.hostKey })
    this.blanks = new BlankDisks({ ...options, directory: join(runtimeDirectory, 'disks'), count })
    this.sealed = new SealedDisks({ ...options, keys: this.disks, blanks: this.blanks })
    this.adoption = new Adoption({ ...options, disks: this.disks, hostKey: () => this.hostKey })
    this.rekeying = new Rekeying({ ...options, keys: this.disks, directory: runtimeDirectory })
    const custody = { ...options, place: this.place, line: this.line, disks: this.disks }
    this.escrow = createEscrow({ ...custody, hostKey: () => this.hostKey.publicKey })
    if (this.escrow !== undefined) this.disks.entrust(this.escrow)
    this.watch = createWatch(custody)
    const source = diskKeySource(this.disks)
    this.supply = new KeySupply({ ...options, source, onConnect: !atScheduler })
    this.#started = atScheduler ? new StartedSecrets(options) : undefined
  }

  /** The scheduler is there (again). */
  async online(): Promise<void> {
    if (this.place === 'scheduler') await this.disks.moveFrom(this.#files)
    await this.escrow?.online()
  }

  /** Throws E_INTERNAL before the host was prepared. */
  get hostKey(): HostKey {
    if (this.#hostKey !== undefined) return this.#hostKey
    throw new HostletError('E_INTERNAL', 'the host key was asked for before it was read')
  }

  /** What secrets for this host are sealed for; undefined before it is known. */
  get publicKey(): PublicKey | undefined {
    return this.#hostKey?.publicKey
  }

  /** See HostKey.rotate. Disk keys are wrapped under the new one before the old one goes. */
  async rotateHostKey(signal: AbortSignal): Promise<{ before: string; now: string } & Rewrapped> {
    await using _held = await this.#rotating.acquire('host key', signal)
    let done: Rewrapped = { rewrapped: [], unreadable: [] }
    const names = await this.hostKey.rotate(async () => {
      done = await this.disks.rewrapAll()
    })
    this.#options.log.info({ ...names, count: done.rewrapped.length }, 'host key rotated')
    for (const listener of this.#rotated) listener()
    await this.escrow?.refresh()
    return { ...names, ...done }
  }

  /** The public key is another one. */
  onRotated(listener: () => void): Disposable {
    this.#rotated.add(listener)
    return { [Symbol.dispose]: () => this.#rotated.delete(listener) }
  }

  /** Reads the keys, and removes what a killed agent left. */
  async prepare(): Promise<void> {
    const { log } = this.#options
    this.#hostKey = await HostKey.open(this.#options)
    log.info({ kid: this.#hostKey.publicKey.kid, keys: this.place }, 'host key for secrets')
    const { rewrapped, unreadable } = await this.disks.prepare()
    if (rewrapped.length > 0)
      log.info({ count: rewrapped.length }, 'disk keys wrapped under the present host key')
    if (unreadable.length > 0)
      log.error({ keys: unreadable }, 'disk keys that the host key does not open: their VMs cannot start')
    await this.blanks.prepare()
    this.supply.begin()
    this.blanks.fill()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.escrow?.[Symbol.dispose]()
    await this.watch[Symbol.asyncDispose]()
    await this.#started?.[Symbol.asyncDispose]()
    await this.supply[Symbol.asyncDispose]()
    await this.blanks[Symbol.asyncDispose]()
  }
}
