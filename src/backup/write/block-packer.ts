// What a worker thread does with blocks: address, compare, compress, encrypt. Without a thread, for tests.

import { blockBytes } from '../disk.ts'
import { addressBytes, deriveVaultKeys, type VaultKeys } from '../format/keys.ts'
import { sealPlain } from '../format/seal.ts'
import {
  batchHeadBytes,
  type PackReply,
  type PackRequest,
  type PackWorkerData,
  type Row,
  rowBytes,
  writeRow
} from './pack-messages.ts'

/** Blocks of this run that a thread remembers, so that equal ones are stored once: half a gigabyte of them. */
const recentMax = 8192
const zeroBlock = Buffer.alloc(blockBytes)

interface Stored {
  readonly pack: Uint8Array
  readonly entry: number
}

export class BlockPacker {
  readonly #keys: VaultKeys
  readonly #compressionLevel: number
  readonly #recent = new Map<string, Stored>()
  #pack: { readonly id: Buffer; readonly key: Buffer } = { id: Buffer.alloc(0), key: Buffer.alloc(0) }

  constructor({ vmKey, compressionLevel }: PackWorkerData) {
    this.#keys = deriveVaultKeys(vmKey)
    this.#compressionLevel = compressionLevel
  }

  pack({ buffer, blocks, parents, pack, firstNumber }: PackRequest): PackReply {
    if (!this.#pack.id.equals(pack)) this.#pack = { id: Buffer.from(pack), key: this.#keys.packKey(pack) }
    const rows = Buffer.alloc(blocks * rowBytes)
    const target = { bytes: new Uint8Array(buffer), end: 0 }
    for (let index = 0; index < blocks; index++) {
      const block = Buffer.from(buffer, batchHeadBytes + index * blockBytes, blockBytes)
      const parent = parents.subarray(index * addressBytes, (index + 1) * addressBytes)
      writeRow(rows, index, this.#packBlock(block, parent, firstNumber + index, target))
    }
    return { buffer, rows }
  }

  #packBlock(
    block: Buffer,
    parent: Uint8Array,
    entry: number,
    target: { bytes: Uint8Array; end: number }
  ): Row {
    if (block.equals(zeroBlock)) return { outcome: 'zero' }
    const address = this.#keys.addressOf(block)
    if (address.equals(parent)) return { outcome: 'same' }
    const name = address.toString('latin1')
    const known = this.#recent.get(name)
    if (known !== undefined) return { outcome: 'known', reference: { address, ...known } }
    const { id: pack, key } = this.#pack
    this.#remember(name, { pack, entry })
    const plain = { key, number: entry, kind: 'block', plain: block } as const
    const { flags, length } = sealPlain(plain, this.#compressionLevel, target.bytes, target.end)
    target.end += length
    return { outcome: 'sealed', reference: { address, pack, entry }, flags, length }
  }

  #remember(name: string, stored: Stored): void {
    if (this.#recent.size >= recentMax) this.#recent.delete(this.#recent.keys().next().value ?? '')
    this.#recent.set(name, stored)
  }
}
