// Packs of tree nodes, made in the main thread: nodes are few, and packs of their own keep a tree together.

import type { VaultKeys } from '../format/keys.ts'
import { encodeNode, type NodeReference, type TreeNode } from '../format/node.ts'
import { PackBuilder } from '../format/pack-builder.ts'
import { noCompression } from '../format/seal.ts'
import type { Uploads } from './uploads.ts'

/** Packs of nodes are shorter than those of blocks: a tree of 64 GiB is about 50 MiB, and most backups write little of it. */
const nodePackBytes = 4 * 1024 * 1024

export class NodePacker {
  readonly #keys: VaultKeys
  readonly #uploads: Uploads
  #spare: ArrayBuffer | undefined
  #builder: { readonly builder: PackBuilder; readonly buffer: ArrayBuffer } | undefined

  constructor(keys: VaultKeys, uploads: Uploads) {
    this.#keys = keys
    this.#uploads = uploads
  }

  /** Stores a node, or gives back `same` where that is the very node. As it is: most of a node is addresses, which do not shrink. */
  async store(node: TreeNode, same: NodeReference | null): Promise<NodeReference> {
    const bytes = encodeNode(node)
    const address = this.#keys.nodeAddressOf(bytes)
    if (same !== null && address.equals(same.address)) return same
    if (this.#builder?.builder.full) await this.flush()
    this.#builder ??= this.#start()
    const { builder } = this.#builder
    return { address, pack: builder.id, entry: builder.append('node', bytes, noCompression) }
  }

  /** Sends the pack that is being built, if there is one. */
  async flush(): Promise<void> {
    if (this.#builder === undefined) return
    const { builder, buffer } = this.#builder
    this.#builder = undefined
    await this.#uploads.room()
    this.#uploads.send(builder.finish(), () => {
      this.#spare = buffer
    })
  }

  #start() {
    const buffer = this.#spare ?? new ArrayBuffer(nodePackBytes)
    this.#spare = undefined
    return { buffer, builder: new PackBuilder(this.#keys, new Uint8Array(buffer)) }
  }
}
