// Compression of one block or node: zstd in one call, and no attempt where a sample says that nothing would come of it.

import { constants, zstdCompressSync } from 'node:zlib'
import { blockBytes } from '../disk.ts'

/** What saves less than this is stored as it is: reading it back costs less. */
const savingShare = 1 / 32
/** Room of an output beyond its input: what does not shrink still fits in one piece. */
const slackBytes = 1_024
/** Pieces shorter than this are given to zstd without a look. */
const sampledBytesMin = 16_384
const sampleWindows = 16
const sampleWindowBytes = 256
const sampleBytes = sampleWindows * sampleWindowBytes

/** The compressed form, or undefined where it would not be shorter. */
export function compressed(plain: Uint8Array, level: number): Buffer | undefined {
  if (looksRandom(plain)) return undefined
  const output = zstdCompressSync(plain, options(plain.length, level))
  if (output.length < plain.length * (1 - savingShare)) return output
  discard(output)
  return undefined
}

/** The size is said beforehand and the output fits in one piece: both save allocations that cost as much as the work. */
function options(length: number, level: number) {
  return {
    chunkSize: length + slackBytes,
    pledgedSrcSize: length,
    params: { [constants.ZSTD_c_compressionLevel]: level, [constants.ZSTD_c_windowLog]: 17 }
  }
}

/**
 * Gives the memory behind the compressed form of a block back at once. Left to the collector it would pile up, and the work
 * of that and of the fresh pages is a fifth of that of a backup. Shorter pieces, which may lie in a pool of Node's, are left.
 */
export function discard({ buffer }: Buffer): void {
  const isOfBlock = buffer.byteLength === blockBytes + slackBytes
  if (isOfBlock && buffer instanceof ArrayBuffer && !buffer.detached) buffer.transfer(0)
}

const counts = new Uint16Array(256)

/**
 * True where the bytes of a sample are spread as those of random data are (chi-squared over 256 values, mean 255, deviation 23):
 * compressed and encrypted files. Text and binaries give thousands, a counting pattern gives next to nothing.
 */
export function looksRandom(plain: Uint8Array): boolean {
  if (plain.length < sampledBytesMin) return false
  counts.fill(0)
  const stride = Math.floor(plain.length / sampleWindows)
  for (let window = 0; window < sampleWindows; window++) {
    const start = window * stride
    for (let at = start; at < start + sampleWindowBytes; at++) (counts[plain[at] ?? 0] as number)++
  }
  const expected = sampleBytes / 256
  let sum = 0
  for (const count of counts) sum += (count - expected) ** 2
  const chiSquared = sum / expected
  return chiSquared > 140 && chiSquared < 400
}
