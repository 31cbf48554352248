// What a worker thread does with blocks: address, compare, compress, encrypt, append to its pack. Without a thread, for tests.

import { blockBytes } from '../disk.ts'
import { addressBytes, deriveVaultKeys, type VaultKeys } from '../format/keys.ts'
import { PackBuilder } from '../format/pack-builder.ts'
import {
  type BatchRequest,
  type FinishedPack,
  type PackReply,
  type PackWorkerData,
  type Row,
  rowBytes,
  writeRow
} from './pack-messages.ts'

/** Blocks of this run that a thread remembers, so that equal ones are stored once: a gigabyte of them. */
const recentMax = 16_384
const zeroBlock = Buffer.alloc(blockBytes)

interface Stored {
  readonly pack: Buffer
  readonly entry: number
}

export class BlockPacker {
  readonly #keys: VaultKeys
  readonly #compressionLevel: number
  readonly #packBytes: number
  readonly #recent = new Map<string, Stored>()
  #builder: { readonly builder: PackBuilder; readonly buffer: ArrayBuffer } | undefined
  #spare: ArrayBuffer | undefined
  #finished: FinishedPack[] = []

  constructor({ vmKey, compressionLevel, packBytes }: PackWorkerData) {
    this.#keys = deriveVaultKeys(vmKey)
    this.#compressionLevel = compressionLevel
    this.#packBytes = packBytes
  }

  pack({ buffer, blocks, parents, spare }: BatchRequest): PackReply {
    this.#spare = spare
    const rows = Buffer.alloc(blocks * rowBytes)
    for (let index = 0; index < blocks; index++) {
      const block = Buffer.from(buffer, index * blockBytes, blockBytes)
      const parent = parents.subarray(index * addressBytes, (index + 1) * addressBytes)
      writeRow(rows, index, this.#packBlock(block, parent))
    }
    const unused = this.#spare
    this.#spare = undefined
    return { buffer, rows, packs: this.#takeFinished(), ...(unused === undefined ? {} : { spare: unused }) }
  }

  finish(): PackReply {
    this.#finishPack()
    return { rows: new Uint8Array(0), packs: this.#takeFinished() }
  }

  #packBlock(block: Buffer, parent: Uint8Array): Row {
    if (block.equals(zeroBlock)) return { outcome: 'zero' }
    const address = this.#keys.addressOf(block)
    if (address.equals(parent)) return { outcome: 'same' }
    const key = address.toString('latin1')
    const stored = this.#recent.get(key) ?? this.#store(block, key)
    return { outcome: 'stored', reference: { address, ...stored } }
  }

  #store(block: Buffer, key: string): Stored {
    this.#builder ??= this.#startPack()
    const { builder } = this.#builder
    const stored = { pack: builder.id, entry: builder.append('block', block, this.#compressionLevel) }
    if (this.#recent.size >= recentMax) this.#forgetOldest()
    this.#recent.set(key, stored)
    if (builder.full) this.#finishPack()
    return stored
  }

  #forgetOldest(): void {
    const [oldest] = this.#recent.keys()
    if (oldest !== undefined) this.#recent.delete(oldest)
  }

  #startPack() {
    const buffer = this.#spare ?? new ArrayBuffer(this.#packBytes)
    this.#spare = undefined
    return { buffer, builder: new PackBuilder(this.#keys, new Uint8Array(buffer)) }
  }

  #finishPack(): void {
    if (this.#builder === undefined) return
    const { builder, buffer } = this.#builder
    this.#builder = undefined
    const { id, generation, entries, content } = builder.finish()
    this.#finished.push({ id, generation, entries, buffer, length: content.length })
  }

  #takeFinished(): FinishedPack[] {
    const finished = this.#finished
    this.#finished = []
    return finished
  }
}
