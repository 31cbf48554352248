// Figure: reading all data of a 2 GiB disk from qemu-nbd, by the agent's client and by nbdcopy, raw and qcow2.

import { execFileSync } from 'node:child_process'
import type { DiskSource } from '../../src/backup/disk.ts'
import { openNbdSource } from '../../src/backup/nbd/source.ts'
import { type Figure, interleave, type Race, type RatioRow, ratioRow, timeMs } from '../harness.ts'
import {
  type ImageFormat,
  type MixedDisk,
  makeMixedDisk,
  mebibyte,
  mixedContent,
  serveImage
} from '../support/mixed-disk.ts'
import { requireTools } from '../support/tools.ts'

const SIZE_BYTES = 2048 * mebibyte
/** As a backup asks: a megabyte at a time, a few at once, each in memory of its own that is used again. */
const READ_BYTES = mebibyte
const READS_AT_ONCE = 8

const wait = { signal: new AbortController().signal }

export const figure: Figure = {
  id: 'block-reading',
  title: 'Reading all data of a disk over NBD',
  run: async ({ quick, log }) => {
    requireTools(['qemu-nbd', 'qemu-img', 'nbdcopy'])
    using disk = makeMixedDisk(quick ? SIZE_BYTES / 8 : SIZE_BYTES)
    const rows: RatioRow[] = []
    for (const format of ['raw', 'qcow2'] as const) {
      log(format)
      rows.push(await readingOf(disk, format, { pairs: quick ? 3 : 15, warmUps: quick ? 1 : 3 }))
    }
    return {
      rows,
      how: [
        `The disk has ${disk.sizeBytes / mebibyte} MiB in pieces of a mebibyte: ${mixedContent}; the file is in the page cache. Both ask \`qemu-nbd\` (read-only) what is data, read all of that once and throw it away: \`nbdcopy\` with its defaults to \`null:\`, a process a run; ours over one connection, ${READS_AT_ONCE} reads of ${READ_BYTES / mebibyte} MiB at once, connecting included. Throughput counts the bytes of data, holes left out.`
      ]
    }
  }
}

async function readingOf(
  disk: MixedDisk,
  format: ImageFormat,
  times: Pick<Race, 'pairs' | 'warmUps'>
): Promise<RatioRow> {
  await using server = await serveImage(disk, format)
  const { socketPath } = server
  const throughput = (ms: number) => disk.dataBytes / mebibyte / (ms / 1000)
  const { ours, peer } = await interleave({
    ours: async () => throughput(await timeMs(() => readAll(socketPath, disk.dataBytes))),
    peer: async () => throughput(await timeMs(() => copyAway(socketPath))),
    ...times
  })
  return ratioRow({
    what: `throughput, ${format}`,
    first: ['ours', ours],
    second: ['nbdcopy', peer],
    unit: 'MiB/s',
    target: { atLeast: 0.8 }
  })
}

async function readAll(socketPath: string, dataBytes: number): Promise<void> {
  const source = await openNbdSource({ socketPath, exportName: '', ...wait })
  const reads = readsOf(source)
  const workers = Array.from({ length: READS_AT_ONCE }, async () => {
    const memory = Buffer.allocUnsafeSlow(READ_BYTES)
    let bytes = 0
    for await (const { offset, length } of { [Symbol.asyncIterator]: () => reads }) {
      await source.read(offset, memory.subarray(0, length), wait)
      bytes += length
    }
    return bytes
  })
  const bytes = (await Promise.all(workers)).reduce((sum, each) => sum + each, 0)
  await source.close()
  if (bytes !== dataBytes) throw new Error(`read ${bytes} bytes of ${dataBytes}`)
}

async function* readsOf(source: DiskSource): AsyncGenerator<{ offset: number; length: number }> {
  for await (const { offset, length, zero } of source.extents(wait)) {
    if (zero) continue
    for (let at = 0; at < length; at += READ_BYTES)
      yield { offset: offset + at, length: Math.min(READ_BYTES, length - at) }
  }
}

function copyAway(socketPath: string): void {
  execFileSync('nbdcopy', [`nbd+unix:///?socket=${socketPath}`, 'null:'], { stdio: 'ignore' })
}
