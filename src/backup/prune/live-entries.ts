// Which entries of which packs are needed: marked by walking the trees of the snapshots that stay.

import type { Wait } from '../disk.ts'
import { deriveVaultKeys, type VaultKeys } from '../format/keys.ts'
import type { Reference } from '../format/node.ts'
import type { PackEntry } from '../format/pack.ts'
import { PackReader } from '../read/packs.ts'
import { TreeReader } from '../read/tree.ts'
import type { GoodSnapshot } from '../vault/read-manifest.ts'
import type { Vault } from '../vault/vault.ts'

/** A bitmap grows by so many bytes at a time: 512 entries. */
const bitmapStepBytes = 64

export interface LivePack {
  /** What the pack was written under. */
  readonly keys: VaultKeys
  /** How many entries are marked. */
  readonly count: number
  has(entry: number): boolean
}

class Marks implements LivePack {
  readonly keys: VaultKeys
  count = 0
  #bits = new Uint8Array(bitmapStepBytes)

  constructor(keys: VaultKeys) {
    this.keys = keys
  }

  has(entry: number): boolean {
    return ((this.#bits[entry >> 3] ?? 0) & (1 << (entry & 7))) !== 0
  }

  /** False when it was marked already. */
  mark(entry: number): boolean {
    if (this.has(entry)) return false
    const byte = entry >> 3
    if (byte >= this.#bits.length) {
      const grown = new Uint8Array(Math.ceil((byte + 1) / bitmapStepBytes) * bitmapStepBytes)
      grown.set(this.#bits)
      this.#bits = grown
    }
    this.#bits[byte] = (this.#bits[byte] ?? 0) | (1 << (entry & 7))
    this.count++
    return true
  }
}

/** By pack id in hex. Some 450 bytes of memory a pack: 36 MB for a full TiB. */
export class LiveEntries {
  readonly #packs = new Map<string, Marks>()
  readonly #readers = new Map<string, { keys: VaultKeys; packs: PackReader }>()

  packOf(id: Uint8Array): LivePack | undefined {
    return this.#packs.get(Buffer.from(id).toString('hex'))
  }

  /**
   * Marks everything that the snapshot needs; subtrees that are marked already are not read again. Returns what is wrong
   * with its tree, if anything: then not everything could be marked.
   */
  async mark(vault: Vault, snapshot: GoodSnapshot, wait: Wait): Promise<string | undefined> {
    const { keys, packs } = this.#reader(vault, snapshot)
    let fault: string | undefined
    const tree = new TreeReader(packs, keys, wait)
    for (const disk of snapshot.body.disks) {
      const leaves = tree.leaves(disk, {
        wanted: (reference) => this.#mark(reference, keys),
        lost: (lost) => {
          fault ??= lost.fault.message
        }
      })
      for await (const { node } of leaves)
        for (const [, reference] of node.references()) this.#mark(reference, keys)
    }
    return fault
  }

  #mark({ pack, entry }: Reference, keys: VaultKeys): boolean {
    const id = Buffer.from(pack).toString('hex')
    const marks = this.#packs.get(id) ?? new Marks(keys)
    this.#packs.set(id, marks)
    return marks.mark(entry)
  }

  #reader(vault: Vault, { keyId, vmKey }: GoodSnapshot): { keys: VaultKeys; packs: PackReader } {
    const known = this.#readers.get(keyId)
    if (known !== undefined) return known
    const keys = deriveVaultKeys(vmKey)
    const reader = { keys, packs: new PackReader(vault.store, vault.vm, keys) }
    this.#readers.set(keyId, reader)
    return reader
  }
}

export function liveOf(entries: readonly PackEntry[], live: LivePack): PackEntry[] {
  return entries.filter(({ number }) => live.has(number))
}

export function bytesOf(entries: readonly PackEntry[]): number {
  return entries.reduce((sum, { length }) => sum + length, 0)
}
