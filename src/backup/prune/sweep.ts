// Frees what nothing needs: packs without live entries go, packs with few are written anew without the dead ones.

import { HostletError } from '../../errors.ts'
import type { Wait } from '../disk.ts'
import { corrupt } from '../format/corrupt.ts'
import { authenticateEntry } from '../format/entry.ts'
import {
  openPackEnd,
  type PackEntry,
  type PackIdentity,
  packName,
  packsPrefix,
  parsePackName
} from '../format/pack.ts'
import { assemblePack, type SealedEntry } from '../format/pack-builder.ts'
import { forEachConcurrent } from '../read/concurrent.ts'
import { StoredFault } from '../read/fault.ts'
import { PackReader } from '../read/packs.ts'
import type { ObjectStore } from '../repository/store.ts'
import { bytesOf, type LiveEntries, type LivePack, liveOf } from './live-entries.ts'

const packsInFlightMax = 4
/** A pack is written anew when less than this share of its entries' bytes is needed. */
export const liveShareMin = 0.5

export interface PlaceOfPacks extends Wait {
  readonly store: ObjectStore
  readonly vm: string
}

export interface SweepOptions extends PlaceOfPacks {
  readonly live: LiveEntries
  readonly dryRun: boolean
  readonly liveShareMin: number
}

export interface Swept {
  freedBytes: number
  removedPacks: number
  compactedPacks: number
  /** Packs that are needed but cannot be looked into: left as they are. */
  readonly damagedPacks: string[]
}

interface Generation extends PackIdentity {
  readonly name: string
  readonly sizeBytes: number
}

/** What is listed of each pack, by its id in hex. A vault has tens of thousands for each TiB, so it is no more than this: some 300 bytes each. */
export type ListedPacks = ReadonlyMap<string, readonly Pick<Generation, 'generation' | 'sizeBytes'>[]>

/** Looks at no pack but those that were listed, which must have been before the snapshots were read. */
export async function sweep(packs: ListedPacks, options: SweepOptions): Promise<Swept> {
  const swept: Swept = { freedBytes: 0, removedPacks: 0, compactedPacks: 0, damagedPacks: [] }
  await forEachConcurrent(packs, packsInFlightMax, async ([id, listed]) => {
    const [newest, ...older] = generationsOf(id, listed, options.vm)
    if (newest === undefined) return
    const live = options.live.packOf(newest.id)
    if (live === undefined) await removeAll([newest, ...older], options, swept)
    else await tidy(newest, older, live, options, swept)
  })
  return swept
}

export async function listPacks({ store, vm, signal }: PlaceOfPacks): Promise<ListedPacks> {
  const packs = new Map<string, Pick<Generation, 'generation' | 'sizeBytes'>[]>()
  for await (const { name, sizeBytes } of store.list(packsPrefix(vm), { signal })) {
    const identity = parsePackName(vm, name)
    if (identity === undefined) continue
    const id = Buffer.from(identity.id).toString('hex')
    const listed = packs.get(id) ?? []
    if (listed.length === 0) packs.set(id, listed)
    listed.push({ generation: identity.generation, sizeBytes })
  }
  return packs
}

/** The newest first. */
function generationsOf(
  hex: string,
  listed: readonly Pick<Generation, 'generation' | 'sizeBytes'>[],
  vm: string
): Generation[] {
  const id = Buffer.from(hex, 'hex')
  return listed
    .map(({ generation, sizeBytes }) => ({
      ...{ id, generation, sizeBytes },
      name: packName(vm, { id, generation })
    }))
    .sort((one, other) => other.generation - one.generation)
}

async function removeAll(
  generations: readonly Generation[],
  options: SweepOptions,
  swept: Swept
): Promise<void> {
  for (const { name, sizeBytes } of generations) {
    if (!options.dryRun) await options.store.remove(name, { signal: options.signal })
    swept.freedBytes += sizeBytes
    swept.removedPacks++
  }
}

/** Leaves one generation of a pack, compacted where that is worth it. */
async function tidy(
  newest: Generation,
  older: readonly Generation[],
  live: LivePack,
  options: SweepOptions,
  swept: Swept
): Promise<void> {
  try {
    const reader = new PackReader(options.store, options.vm, live.keys)
    const { entries } = await reader.load(newest, options)
    const needed = liveOf(entries, live)
    if (needed.length < live.count) return void swept.damagedPacks.push(newest.name)
    // The older generation of a compaction that was cut short: everything that is needed is in the newer one.
    if (older.length > 0) await soundEntries(newest, live, options)
    await removeAll(older, options, swept)
    if (bytesOf(needed) < bytesOf(entries) * options.liveShareMin)
      await compact(newest, needed, live, options, swept)
  } catch (error) {
    if (!(error instanceof StoredFault)) throw error
    swept.damagedPacks.push(newest.name)
  }
}

/** Writes the next generation first, and only then removes this one. */
async function compact(
  pack: Generation,
  needed: readonly PackEntry[],
  live: LivePack,
  options: SweepOptions,
  swept: Swept
): Promise<void> {
  const { store, vm, dryRun, signal } = options
  const next = { id: pack.id, generation: pack.generation + 1 }
  if (!dryRun) {
    const kept = await soundEntries(pack, live, options)
    await store.put(packName(vm, next), assemblePack(live.keys, next, kept), { signal })
    await store.remove(pack.name, { signal })
  }
  swept.compactedPacks++
  swept.freedBytes += Math.max(0, pack.sizeBytes - bytesOf(needed))
}

/**
 * The entries of a pack that are needed, each of them authentic: after them another copy is removed, and a bit that was
 * wrong on the way here would be wrong for ever. Throws StoredFault.
 */
async function soundEntries(
  pack: Generation,
  live: LivePack,
  { store, signal }: SweepOptions
): Promise<SealedEntry[]> {
  const content = await store.get(pack.name, { signal })
  try {
    // By the table of these very bytes: two answers of a store need not agree.
    const entries = openPackEnd(live.keys, pack, { lastBytes: content, packBytes: content.length }, pack.name)
    const needed = liveOf(entries, live)
    if (needed.length < live.count)
      throw corrupt({ object: pack.name }, 'entries that are needed are missing')
    const key = live.keys.packKey(pack.id)
    return needed.map(({ number, flags, offset, length }) => {
      const sealed = content.subarray(offset, offset + length)
      authenticateEntry({ key, number, flags, sealed }, pack.name)
      return { number, flags, sealed }
    })
  } catch (error) {
    if (error instanceof HostletError) throw new StoredFault('damaged-object', pack.name, error)
    throw error
  }
}
