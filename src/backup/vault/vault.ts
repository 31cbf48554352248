// The backups of one VM in one repository: its key, its snapshots, and how a snapshot comes into being and goes.

import { randomBytes } from 'node:crypto'
import type { JWK } from 'jose'
import { HostletError } from '../../errors.ts'
import type { Signer, Trust } from '../../lib/certified-signature.ts'
import type { Wait } from '../disk.ts'
import { deriveVaultKeys, vmKeyBytes } from '../format/keys.ts'
import { forEachConcurrent } from '../read/concurrent.ts'
import type { ObjectStore } from '../repository/store.ts'
import {
  encodeEnvelope,
  type ManifestIdentity,
  manifestBytesMax,
  manifestName,
  parseEnvelope,
  sealManifest,
  snapshotsPrefix
} from './envelope.ts'
import { encodeBody, type ManifestBody } from './manifest-body.ts'
import {
  badSnapshot,
  type GoodSnapshot,
  type KnownKeys,
  readManifest,
  type SnapshotSummary
} from './read-manifest.ts'
import { type Unlocker, wrapKey } from './recipients.ts'

/** Most snapshots of one VM. */
export const snapshotsMax = 16_384
const readsInFlightMax = 8
const snapshotPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

export interface VaultOptions extends Wait {
  readonly store: ObjectStore
  /** UUID of the VM. */
  readonly vm: string
  readonly unlocker: Unlocker
  /** Whose signatures are believed. Without it no signer is checked, and nothing may be written. */
  readonly trust?: Trust | undefined
  /** The host that writes: it goes on with the key of its own snapshots, whatever other hosts have signed since. */
  readonly host?: string | undefined
}

/** What committing needs besides the body. */
export interface Commitment extends Wait {
  readonly snapshot: string
  readonly body: ManifestBody
  readonly signer: Signer
  /** Public keys that can open the vault. */
  readonly recipients: readonly JWK[]
}

export class Vault {
  readonly vm: string
  readonly store: ObjectStore
  /** True when nothing was there: the key was made just now, and is lost unless a snapshot is committed. */
  readonly isNew: boolean
  readonly #options: VaultOptions
  readonly #known: KnownKeys
  #writingKey: Uint8Array | undefined
  /** Manifests are read once: only their wrapped keys ever change. */
  readonly #summaries: Map<string, SnapshotSummary>

  private constructor(options: VaultOptions, known: KnownKeys, summaries: Map<string, SnapshotSummary>) {
    this.vm = options.vm
    this.store = options.store
    this.#options = options
    this.#known = known
    this.#summaries = summaries
    this.isNew = known.size === 0
  }

  /**
   * Reads every manifest. A vault without any, or without one that says whom it is for, is a new one with a random key.
   * Throws E_AUTH, with the thumbprints in `details.recipients`, when there are manifests but no key given opens one.
   */
  static async open(options: VaultOptions): Promise<Vault> {
    const vault = new Vault(options, ...(await readAll(options, new Map(), new Map())))
    const shut = [...vault.#summaries.values()].filter(
      (one) => one.state === 'bad' && one.reason === 'no-key'
    )
    if (!vault.isNew || shut.length === 0) return vault
    const recipients = [...new Set(shut.flatMap((one) => one.recipients))].slice(0, 64).join(', ')
    throw new HostletError(
      'E_AUTH',
      `none of the keys given opens the backups of VM ${options.vm} in ${options.store.description}. They are wrapped for the keys ${recipients || '(none)'}: give the private key of one of them.`,
      { details: { reason: 'no-key', recipients } }
    )
  }

  /**
   * The key that new data is written under: that of the newest good snapshot of this host, else of any, else a random one.
   * It stays what it was when it was first asked for, whatever becomes of the snapshots: data and the manifest that speaks
   * of it belong under one key.
   */
  get vmKey(): Uint8Array {
    this.#writingKey ??= this.#keyOfNewest() ?? randomBytes(vmKeyBytes)
    return this.#writingKey
  }

  /** All snapshots, by sequence, the newest last; those that are bad come first, each with its reason. */
  async snapshots(wait: Wait): Promise<SnapshotSummary[]> {
    const [, summaries] = await readAll({ ...this.#options, ...wait }, this.#known, this.#summaries)
    return [...summaries.values()].sort(inOrder)
  }

  /** The newest good snapshot, or undefined. */
  async newest(wait: Wait): Promise<GoodSnapshot | undefined> {
    return newestOf(await this.snapshots(wait))
  }

  /** One snapshot by its id, or `latest`. Throws E_NOT_FOUND, or what is wrong with its manifest. */
  async snapshot(id: string, wait: Wait): Promise<GoodSnapshot> {
    const all = await this.snapshots(wait)
    const found = id === 'latest' ? newestOf(all) : all.find((one) => one.id === id)
    if (found?.state === 'good') return found
    if (found === undefined)
      throw new HostletError(
        'E_NOT_FOUND',
        `VM ${this.vm} has no ${id === 'latest' ? 'good snapshot' : `snapshot ${id}`} in ${this.store.description}`
      )
    throw new HostletError(found.code, found.message, {
      details: { reason: found.reason, snapshot: found.id }
    })
  }

  /**
   * Writes the manifest: from here on the snapshot exists. Throws E_CONFLICT when there is one of the id already, and, with
   * nothing written, what a reader would say of the manifest if it would not believe it: E_AUTH where the signer's
   * certificate is of another CA or host, or not valid at this time. The caller holds the vault's lock.
   */
  async commit({ snapshot, body, signer, recipients, signal }: Commitment): Promise<void> {
    const identity = this.#identity(snapshot)
    const { vmKey } = this
    if (body.vm.uuid !== this.vm)
      throw new HostletError(
        'E_BAD_REQUEST',
        `a snapshot of VM ${body.vm.uuid} does not belong into the vault of ${this.vm}`
      )
    const sealed = await sealManifest(identity, encodeBody(body), deriveVaultKeys(vmKey), signer)
    const content = encodeEnvelope({ ...sealed, keys: await wrapKey(vmKey, recipients) })
    await this.#mustBeBelieved(identity, content, new Map([[sealed.keyId, vmKey]]))
    await this.#create(manifestName(identity), content, { signal })
    // Known from now on, so that what follows is written under the same key.
    this.#known.set(sealed.keyId, vmKey)
    await this.snapshots({ signal })
  }

  /** Removes the manifest: the snapshot is gone, its data waits for the next prune. The caller holds the lock. */
  async remove(snapshot: string, { signal }: Wait): Promise<void> {
    await this.store.remove(manifestName(this.#identity(snapshot)), { signal })
    this.#summaries.delete(snapshot)
  }

  /**
   * Wraps the key of every good snapshot for these recipients and no others; each manifest is replaced whole, so that a run
   * that is cut short leaves some for the old recipients and some for the new. Data is not touched, nor signatures. Returns
   * the snapshots that were rewritten. The caller holds the lock.
   */
  async rewrap(recipients: readonly JWK[], wait: Wait): Promise<string[]> {
    const good = (await this.snapshots(wait)).filter((one) => one.state === 'good')
    const done: string[] = []
    for (const { id, vmKey } of good) {
      const identity = this.#identity(id)
      const envelope = parseEnvelope(await getManifest(this.store, identity, wait), identity)
      const content = encodeEnvelope({ ...envelope, keys: await wrapKey(vmKey, recipients) })
      await this.store.put(manifestName(identity), [content], { signal: wait.signal })
      this.#summaries.delete(id)
      done.push(id)
    }
    await this.snapshots(wait)
    return done
  }

  /** Not simply of the newest: a host that was captured could sign one with a key that it knows, to read what we store next. */
  #keyOfNewest(): Uint8Array | undefined {
    const good = [...this.#summaries.values()].filter((one) => one.state === 'good')
    const own = good.filter(({ body }) => body.host === this.#options.host)
    return (newestOf(own) ?? newestOf(good))?.vmKey
  }

  #identity(snapshot: string): ManifestIdentity {
    if (!snapshotPattern.test(snapshot))
      throw new HostletError('E_BAD_REQUEST', `"${snapshot.slice(0, 64)}" is no id of a snapshot`)
    return { vm: this.vm, snapshot }
  }

  /** A backup that nobody can use must fail now, not be found out when it is needed. */
  async #mustBeBelieved(identity: ManifestIdentity, content: Uint8Array, known: KnownKeys): Promise<void> {
    const { unlocker, trust } = this.#options
    if (trust === undefined)
      throw new HostletError('E_BAD_REQUEST', 'a vault that was opened without a CA is for reading only')
    const summary = await readManifest(content, identity, { unlocker, trust, known })
    if (summary.state === 'good') return
    throw new HostletError(
      summary.code,
      `the snapshot was not stored, since nobody would believe it: ${summary.message}. Look at this host's certificate and clock.`,
      { details: { reason: summary.reason } }
    )
  }

  async #create(name: string, content: Uint8Array, wait: Wait): Promise<void> {
    try {
      await this.store.put(name, [content], { ...wait, ifAbsent: true })
    } catch (error) {
      if (!(error instanceof HostletError)) throw error
      if (error.code === 'E_UNSUPPORTED') return this.#createUnderLock(name, content, wait)
      // A first try whose answer was lost stored it: the id and the content are ours alone.
      if (error.code === 'E_CONFLICT' && Buffer.compare(await this.store.get(name, wait), content) === 0)
        return
      throw error
    }
  }

  /** For a store that cannot promise it by itself: the caller's lock keeps others out. */
  async #createUnderLock(name: string, content: Uint8Array, wait: Wait): Promise<void> {
    for await (const entry of this.store.list(name, wait))
      if (entry.name === name) throw new HostletError('E_CONFLICT', `${name} is there already`)
    await this.store.put(name, [content], wait)
  }
}

function newestOf(snapshots: readonly SnapshotSummary[]): GoodSnapshot | undefined {
  return snapshots
    .filter((one) => one.state === 'good')
    .sort(inOrder)
    .at(-1)
}

function inOrder(one: SnapshotSummary, other: SnapshotSummary): number {
  const [left, right] = [one, other].map((each) => (each.state === 'good' ? each.body.sequence : 0))
  const [leftAt, rightAt] = [one, other].map((each) => (each.state === 'good' ? each.body.at : 0))
  return (left ?? 0) - (right ?? 0) || (leftAt ?? 0) - (rightAt ?? 0) || (one.id < other.id ? -1 : 1)
}

/** Brings what is known of the manifests up to date with the store. */
async function readAll(
  options: VaultOptions,
  known: KnownKeys,
  summaries: Map<string, SnapshotSummary>
): Promise<[KnownKeys, Map<string, SnapshotSummary>]> {
  const present = await listSnapshots(options)
  for (const id of summaries.keys()) if (!present.has(id)) summaries.delete(id)
  const fresh = [...present].filter((id) => summaries.get(id)?.state !== 'good')
  await forEachConcurrent(fresh, readsInFlightMax, (id) => readOne(id, options, known, summaries))
  // A manifest whose own wrapping is spoilt opens with the key of its neighbours, once that is known.
  const shut = fresh.filter((id) => {
    const one = summaries.get(id)
    return one?.state === 'bad' && one.reason === 'no-key'
  })
  if (known.size > 0)
    await forEachConcurrent(shut, readsInFlightMax, (id) => readOne(id, options, known, summaries))
  return [known, summaries]
}

async function readOne(
  id: string,
  { store, vm, unlocker, trust, signal }: VaultOptions,
  known: KnownKeys,
  summaries: Map<string, SnapshotSummary>
): Promise<void> {
  const identity = { vm, snapshot: id }
  try {
    const bytes = await getManifest(store, identity, { signal })
    summaries.set(id, await readManifest(bytes, identity, { unlocker, trust, known }))
  } catch (error) {
    // Removed since it was listed.
    if (error instanceof HostletError && error.code === 'E_NOT_FOUND') summaries.delete(id)
    else summaries.set(id, badSnapshot(id, error, []))
  }
}

/** Never more than shows that it is too long: whoever holds the repository chooses its length, and several are read at once. */
function getManifest(store: ObjectStore, identity: ManifestIdentity, { signal }: Wait): Promise<Uint8Array> {
  return store.get(manifestName(identity), { signal, range: { offset: 0, length: manifestBytesMax + 1 } })
}

async function listSnapshots({ store, vm, signal }: VaultOptions): Promise<Set<string>> {
  const prefix = snapshotsPrefix(vm)
  const ids = new Set<string>()
  for await (const { name } of store.list(prefix, { signal })) {
    const id = name.slice(prefix.length).replace(/\.json$/, '')
    if (name !== `${prefix}${id}.json` || !snapshotPattern.test(id)) continue
    if (ids.size >= snapshotsMax)
      throw new HostletError(
        'E_CAPACITY',
        `VM ${vm} has more than ${snapshotsMax} snapshots. Prune with a shorter retention.`
      )
    ids.add(id)
  }
  return ids
}
