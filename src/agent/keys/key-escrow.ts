// Keeps the scheduler told of disks' keys: each wrapped for the recovery keys of the policy, and for the host where the host keeps none itself.

import { asHostletError, HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline, untilAborted } from '../../lib/deadline.ts'
import type { Logger } from '../../lib/log.ts'
import type { keyPlaces } from '../../protocol/api.ts'
import { type EscrowedKey, keysAtOnceMax } from '../../protocol/keys.ts'
import type { SchedulerMessageOf } from '../../protocol/messages.ts'
import type { Wait } from '../host/hypervisor.ts'
import type { DiskKeys, StoredDiskKey } from './disk-keys.ts'
import type { EscrowEntry, EscrowRecipients, EscrowRecords } from './escrow-records.ts'
import type { PublicKey } from './jwk.ts'
import type { KeyCustody } from './key-custody.ts'
import { away, KeyRequests, keyAnswerMs, type SchedulerLine } from './key-requests.ts'
import { wrapForRecovery } from './recovery.ts'

export type KeyPlace = (typeof keyPlaces)[number]
export type KeyAnswer = SchedulerMessageOf<'disk-keys-ack' | 'disk-keys-gone-ack' | 'disk-keys-grant'>

/** How often what is not acknowledged is told again, and the policy looked at anew. */
export const retellMs = 60_000
export const policyLookMs = 600_000

export interface KeyEscrowOptions {
  readonly place: KeyPlace
  readonly records: EscrowRecords
  readonly line: SchedulerLine
  readonly disks: DiskKeys
  readonly hostKey: () => PublicKey
  /** Whom the policy has a VM's keys wrapped for; throws where it names nobody. */
  recipients(vm: { name: string; uuid: string }): Promise<readonly PublicKey[]>
  readonly clock: Clock
  readonly log: Logger
}

interface Sent {
  readonly revision: number
  readonly recipients: EscrowRecipients
  readonly settled?: PromiseWithResolvers<void>
}

export class KeyEscrow implements KeyCustody, Disposable {
  readonly #options: KeyEscrowOptions
  readonly #requests: KeyRequests
  readonly #sent = new Map<string, Sent>()
  readonly fetch?: (id: string, wait?: Wait) => Promise<StoredDiskKey | undefined>
  #timer: Disposable | undefined
  #lookedAt = Number.NEGATIVE_INFINITY
  #telling: Promise<void> | undefined
  #round: { again: boolean } | undefined
  #ended = false

  constructor(options: KeyEscrowOptions) {
    this.#options = options
    this.#requests = new KeyRequests(options)
    if (options.place === 'scheduler') this.fetch = (id, wait) => this.#fetch(id, wait)
  }

  async kept(key: StoredDiskKey): Promise<void> {
    const { records, clock, place, line } = this.#options
    const revision = records.note(entryOf(key), clock.now())
    if (place === 'host') return this.tell()
    if (!line.isOnline()) throw away('which is away')
    await this.#deposit(key.id, revision)
  }

  changed(key: StoredDiskKey): void {
    const { records, clock } = this.#options
    records.note(entryOf(key), clock.now())
    this.tell()
  }

  gone({ id, uuid: told }: { readonly id?: string; readonly uuid?: string }): readonly string[] {
    const { records, clock } = this.#options
    const uuid = told ?? (id === undefined ? undefined : records.find(id)?.uuid)
    if (uuid === undefined) return []
    const known = records.gone({ uuid, ...(id !== undefined && { id }) }, clock.now())
    this.tell()
    return known
  }

  /** The scheduler is there (again): it is told all that it has not acknowledged. */
  async online(): Promise<void> {
    await this.#review()
    this.tell({ again: true })
    this.#arm()
  }

  /** Has told anew what the policy, or another key of the host, would have wrapped otherwise. */
  async refresh(): Promise<void> {
    await this.#review()
    this.tell()
  }

  async #review(): Promise<void> {
    const { records, disks, clock } = this.#options
    this.#lookedAt = clock.monotonic()
    const known = records.all()
    const ids = new Set(known.map(({ id }) => id))
    for (const { id, vm, volume, createdAt } of disks.list())
      if (!ids.has(id)) records.note({ id, vm: vm.name, uuid: vm.uuid, volume, createdAt }, clock.now())
    for (const entry of known)
      if (entry.told >= entry.revision && (await this.#isStale(entry))) records.note(entry, clock.now())
  }

  /** Sends what is new; `again` also what was sent or failed before and is not acknowledged. */
  tell({ again = false }: { again?: boolean } = {}): void {
    if (this.#ended || !this.#options.line.isOnline()) return
    this.#round = { again: again || this.#round?.again === true }
    this.#begin()
  }

  /** Resolves when what was to be sent is sent. */
  async told(): Promise<void> {
    await this.#telling
  }

  take(answer: KeyAnswer): void {
    if (answer.type === 'disk-keys-grant') this.#requests.take(answer)
    else if (answer.type === 'disk-keys-ack') for (const key of answer.keys) this.#acknowledged(key)
    else for (const key of answer.keys) this.#options.records.forget(key)
    if (answer.type !== 'disk-keys-grant') this.tell()
  }

  [Symbol.dispose](): void {
    this.#ended = true
    this.#timer?.[Symbol.dispose]()
  }

  async #fetch(id: string, wait?: Wait): Promise<StoredDiskKey | undefined> {
    const { records, disks } = this.#options
    const entry = records.find(id)
    // What is here is newer than what the scheduler has.
    if (entry !== undefined && entry.told < entry.revision && disks.has(id)) return undefined
    const { vm: name, uuid, host, ...rest } = await this.#requests.ask(id, wait)
    return { ...rest, vm: { name, uuid }, ...host }
  }

  async #deposit(id: string, revision: number): Promise<void> {
    const { line, clock, records } = this.#options
    const entry = records.find(id)
    if (entry === undefined) throw new HostletError('E_INTERNAL', `key ${id} is not noted`)
    const settled = Promise.withResolvers<void>()
    settled.promise.catch(() => undefined)
    const { key, recipients } = await this.#wrapped(entry)
    await records.durable()
    this.#sent.set(id, { revision, recipients, settled })
    using deadline = startDeadline({ clock, ms: keyAnswerMs, what: 'handing a key to the scheduler' })
    line.post({ type: 'disk-keys', keys: [{ ...key, revision }] })
    try {
      await untilAborted(settled.promise, deadline.signal)
    } catch (error) {
      if (asHostletError(error).code === 'E_TIMEOUT') throw away('which did not answer in time')
      throw error
    }
  }

  #begin(): void {
    this.#telling ??= this.#tellAll().finally(() => {
      this.#telling = undefined
      // What was asked for in the last moment.
      if (this.#round !== undefined) this.#begin()
    })
  }

  async #tellAll(): Promise<void> {
    for (let round = this.#round; round !== undefined; round = this.#round) {
      this.#round = undefined
      try {
        await this.#tellRound(round.again)
      } catch (error) {
        this.#options.log.warn({ error: asHostletError(error) }, 'the scheduler could not be told of keys')
      }
    }
  }

  async #tellRound(again: boolean): Promise<void> {
    const { records, line } = this.#options
    const gone = records.goneToTell(keysAtOnceMax)
    await records.durable()
    // Keys follow its acknowledgement: a new one of the same VM is not to be destroyed by an end that is told twice.
    if (gone.length > 0) return line.post({ type: 'disk-keys-gone', keys: gone })
    const keys: EscrowedKey[] = []
    for (const entry of records.pending(keysAtOnceMax, { failed: again })) {
      const { revision } = entry
      const before = this.#sent.get(entry.id)
      const isOut = before?.revision === revision
      // Somebody waits for this very one, or it was sent already.
      if (isOut && (before.settled !== undefined || !again)) continue
      const wrapped = await this.#wrappedOrNoted(entry)
      if (wrapped === undefined) continue
      this.#sent.set(entry.id, { revision, recipients: wrapped.recipients })
      keys.push({ ...wrapped.key, revision })
    }
    await records.durable()
    if (keys.length > 0 && !this.#ended) line.post({ type: 'disk-keys', keys })
  }

  async #wrappedOrNoted(entry: EscrowEntry): Promise<Wrapped | undefined> {
    try {
      return await this.#wrapped(entry)
    } catch (thrown) {
      const error = asHostletError(thrown)
      this.#options.records.failed(entry.id, error.message)
      this.#options.log.warn(
        { key: entry.id, vm: entry.vm, error },
        'the scheduler could not be told of a key'
      )
      return undefined
    }
  }

  async #wrapped({ id, vm, uuid, volume, createdAt }: EscrowEntry): Promise<Wrapped> {
    const { disks, place, hostKey } = this.#options
    const { passphrases, wrapping } = await disks.reveal(id)
    const publicKeys = await this.#recipients({ name: vm, uuid })
    const atScheduler = place === 'scheduler'
    return {
      key: {
        ...{ id, vm, uuid, volume, createdAt },
        ...(publicKeys.length > 0 && {
          recovery: await wrapForRecovery({ id, uuid, volume, passphrases }, publicKeys)
        }),
        ...(atScheduler && { host: wrapping })
      },
      recipients: {
        recovery: publicKeys.map(({ kid }) => kid),
        ...(atScheduler && { host: hostKey().kid })
      }
    }
  }

  #acknowledged({ id, revision, fault }: { id: string; revision: number; fault?: string }): void {
    const { records, log } = this.#options
    const sent = this.#sent.get(id)
    if (sent?.revision !== revision) return
    this.#sent.delete(id)
    if (fault === undefined) {
      records.stored(id, revision, sent.recipients)
      sent.settled?.resolve()
      return
    }
    records.failed(id, fault)
    log.warn({ key: id, reason: fault }, 'the scheduler does not keep a key')
    sent.settled?.reject(
      new HostletError(
        'E_UNAVAILABLE',
        `the scheduler does not keep the key of a disk: ${fault}. Nothing starts without it.`
      )
    )
  }

  async #isStale({ vm, uuid, recipients }: EscrowEntry): Promise<boolean> {
    const { place, hostKey } = this.#options
    const host = place === 'scheduler' ? hostKey().kid : undefined
    const wanted = (await this.#recipients({ name: vm, uuid })).map(({ kid }) => kid)
    return recipients.host !== host || wanted.join() !== recipients.recovery.join()
  }

  /** None where the policy names none, or cannot be read: a condition says so. */
  async #recipients(vm: { name: string; uuid: string }): Promise<readonly PublicKey[]> {
    try {
      return await this.#options.recipients(vm)
    } catch (error) {
      if (error instanceof HostletError) return []
      throw error
    }
  }

  /** As long as something waits for its acknowledgement, and for another look at the policy. */
  #arm(): void {
    const { clock } = this.#options
    this.#timer?.[Symbol.dispose]()
    this.#timer = clock.timer(retellMs, () => {
      this.tell({ again: true })
      if (clock.monotonic() - this.#lookedAt >= policyLookMs)
        void this.refresh().catch((error) =>
          this.#options.log.warn({ error: asHostletError(error) }, 'keys could not be looked at anew')
        )
      this.#arm()
    })
  }
}

interface Wrapped {
  readonly key: Omit<EscrowedKey, 'revision'>
  readonly recipients: EscrowRecipients
}

function entryOf({ id, vm, volume, createdAt }: StoredDiskKey) {
  return { id, vm: vm.name, uuid: vm.uuid, volume, createdAt }
}
