// Everything about keys of disks that the host has, made once.

import { join } from 'node:path'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { KeyedLock } from '../../lib/keyed-lock.ts'
import type { Logger } from '../../lib/log.ts'
import type { Hypervisor } from '../host/hypervisor.ts'
import { BlankDisks } from './blank-disks.ts'
import { DiskKeys, type Rewrapped } from './disk-keys.ts'
import { HostKey } from './host-key.ts'
import type { PublicKey } from './jwk.ts'
import { type DiskKeySource, KeySupply } from './key-supply.ts'
import { Rekeying } from './rekeying.ts'
import { SealedDisks } from './sealed-disks.ts'

export interface KeysOptions {
  readonly stateDirectory: string
  readonly runtimeDirectory: string
  readonly credentialsDirectory?: string | undefined
  /** Encrypted disks that are kept ready. */
  readonly preparedDisks: number
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
  readonly #options: KeysOptions
  readonly #rotating = new KeyedLock()
  readonly #rotated = new Set<() => void>()
  #hostKey: HostKey | undefined

  constructor(options: KeysOptions) {
    const { stateDirectory, runtimeDirectory, preparedDisks: count } = options
    this.#options = options
    const directory = join(stateDirectory, 'keys')
    this.disks = new DiskKeys({ ...options, directory, hostKey: () => this.hostKey })
    this.blanks = new BlankDisks({ ...options, directory: join(runtimeDirectory, 'disks'), count })
    this.sealed = new SealedDisks({ ...options, keys: this.disks, blanks: this.blanks })
    this.rekeying = new Rekeying({ ...options, keys: this.disks, directory: runtimeDirectory })
    const source: DiskKeySource = { passphrase: (id) => this.disks.unwrap(id) }
    this.supply = new KeySupply({ ...options, source })
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
    return { ...names, ...done }
  }

  /** The public key is another one. */
  onRotated(listener: () => void): Disposable {
    this.#rotated.add(listener)
    return { [Symbol.dispose]: () => this.#rotated.delete(listener) }
  }

  /** Reads the keys, and removes what a killed agent left. */
  async prepare(): Promise<void> {
    this.#hostKey = await HostKey.open(this.#options)
    const { rewrapped, unreadable } = await this.disks.prepare()
    const { log } = this.#options
    if (rewrapped.length > 0)
      log.info({ count: rewrapped.length }, 'disk keys wrapped under the present host key')
    if (unreadable.length > 0)
      log.error({ keys: unreadable }, 'disk keys that the host key does not open: their VMs cannot start')
    await this.blanks.prepare()
    this.supply.begin()
    this.blanks.fill()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.supply[Symbol.asyncDispose]()
    await this.blanks[Symbol.asyncDispose]()
  }
}
