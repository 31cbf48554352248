// The hashes of all entries of a trail, 32 bytes each.

import type { Link } from '../../lib/chain.ts'

const hashBytes = 32

export class Hashes {
  #first = 1
  #count = 0
  #bytes = Buffer.alloc(hashBytes * 1_024)

  /** The one that follows the one before. */
  add({ seq, hash }: Link): void {
    if (this.#count === 0) this.#first = seq
    if ((this.#count + 1) * hashBytes > this.#bytes.length)
      this.#bytes = Buffer.concat([this.#bytes], this.#bytes.length * 2)
    this.#bytes.write(hash, this.#count * hashBytes, 'hex')
    this.#count++
  }

  at(seq: number): string | undefined {
    const index = seq - this.#first
    if (index < 0 || index >= this.#count) return undefined
    return this.#bytes.toString('hex', index * hashBytes, (index + 1) * hashBytes)
  }
}
