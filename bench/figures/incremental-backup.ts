// Figure: what an incremental backup costs when nothing changed, and what it stores after small writes all over the disk.

import { execFileSync } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { closeSync, openSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { constants, zstdCompressSync } from 'node:zlib'
import { blockBytes } from '../../src/backup/disk.ts'
import { type Figure, measureRow, type Row, type RunOptions, ratioRow } from '../harness.ts'
import { makeRoom, openVault } from '../support/backup-engine.ts'
import { makeMixedDisk, mebibyte, mixedContent } from '../support/mixed-disk.ts'
import { timeSource, trackChanges } from '../support/nbd-disk.ts'
import { blockOf, syntheticDisk } from '../support/synthetic-disk.ts'
import { requireTools } from '../support/tools.ts'

const gibibyte = 1024 * mebibyte
const POOL_BYTES = 192 * mebibyte
const QUIET_TURNS = 10
const WRITES = 1_000
const WRITE_BYTES = 4_096
const WRITTEN_DISK_BYTES = 10 * gibibyte
const CHUNK_BYTES = 4 * mebibyte
const WRITTEN_TURNS = 3

export const figure: Figure = {
  id: 'incremental-backup',
  title: 'Incremental backup',
  run: async ({ quick, log }: RunOptions) => {
    requireTools(['qemu-img', 'qemu-nbd'])
    const pool = poolOf(POOL_BYTES)
    const rows: Row[] = []
    for (const gibibytes of quick ? [1] : [10, 100]) {
      log(`${gibibytes} GiB, nothing changed`)
      rows.push(...(await quietRows(gibibytes, pool)))
    }
    log('small writes')
    rows.push(await writtenRow(pool, quick ? gibibyte : WRITTEN_DISK_BYTES, quick ? 1 : WRITTEN_TURNS))
    return {
      rows,
      how: [
        `Nothing changed: a disk of the size whose every block is in the snapshot before (its tree is full; its content is ${POOL_BYTES / mebibyte} MiB again and again, stored once). Asked is \`qemu-nbd\` for the bitmap of a qcow2 of that size. From connecting to the committed manifest, to a repository in memory, in the environment of the agent's unit.`,
        `Small writes: ${WRITES} of ${WRITE_BYTES / 1024} KiB of random bytes at random places of ${WRITTEN_DISK_BYTES / gibibyte} GiB of mixed data (${mixedContent}). The emulation stores each piece of ${CHUNK_BYTES / mebibyte} MiB that was touched, compressed as ours is (zstd 1, what does not shrink as it is).`
      ]
    }
  }
}

/** Blocks of mixed data, all in memory. */
function poolOf(bytes: number): Buffer {
  using disk = makeMixedDisk(bytes)
  const pool = Buffer.allocUnsafeSlow(bytes)
  const file = openSync(disk.files.raw, 'r')
  readSync(file, pool, 0, bytes, 0)
  closeSync(file)
  return pool
}

async function quietRows(gibibytes: number, pool: Buffer): Promise<Row[]> {
  using room = makeRoom('memory')
  await using vault = await openVault(room.path)
  const sizeBytes = gibibytes * gibibyte
  await vault.backUp(syntheticDisk({ sizeBytes, pool }), 'all')
  const file = join(room.path, 'disk.qcow2')
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', file, String(sizeBytes)])
  trackChanges(file)
  const seconds: number[] = []
  const readBytes: number[] = []
  for (let turn = 0; turn < QUIET_TURNS; turn++) {
    const ms = await timeSource({ file, format: 'qcow2', changed: true }, async (source) => {
      readBytes.push((await vault.backUp(source, 'changed')).readBytes)
    })
    seconds.push(ms / 1_000)
  }
  const target = (atMost: number) => ({ target: { atMost } })
  return [
    measureRow({ what: `${gibibytes} GiB, nothing changed`, samples: seconds, unit: 's', ...target(2) }),
    measureRow({
      what: `data read of ${gibibytes} GiB, nothing changed`,
      samples: readBytes,
      unit: 'bytes',
      ...target(0)
    })
  ]
}

async function writtenRow(pool: Buffer, sizeBytes: number, turns: number): Promise<Row> {
  using room = makeRoom('memory')
  await using vault = await openVault(room.path)
  const disk = { sizeBytes, pool }
  await vault.backUp(syntheticDisk(disk), 'all')
  const stored = { ours: [] as number[], emulated: [] as number[] }
  const changes = new Map<number, Buffer>()
  for (let turn = 0; turn < turns; turn++) {
    changes.clear()
    for (let write = 0; write < WRITES; write++) {
      const at = Math.floor(Math.random() * (sizeBytes / WRITE_BYTES)) * WRITE_BYTES
      const block = Math.floor(at / blockBytes)
      const content = Buffer.from(blockOf({ ...disk, changes }, block))
      randomFillSync(content, at % blockBytes, WRITE_BYTES)
      changes.set(block, content)
    }
    const { storedBytes } = await vault.backUp(syntheticDisk({ ...disk, changes }), 'changed')
    stored.ours.push(storedBytes / mebibyte)
    stored.emulated.push(chunkBytes({ ...disk, changes }) / mebibyte)
  }
  return ratioRow({
    what: `bytes stored after ${WRITES} small writes`,
    first: ['ours', stored.ours],
    second: ['in pieces of 4 MiB', stored.emulated],
    unit: 'MiB',
    target: { atMost: 0.1 }
  })
}

function chunkBytes(disk: Parameters<typeof blockOf>[0] & { changes: Map<number, Buffer> }): number {
  const blocks = CHUNK_BYTES / blockBytes
  const touched = new Set([...disk.changes.keys()].map((block) => Math.floor(block / blocks)))
  const level = { params: { [constants.ZSTD_c_compressionLevel]: 1 } }
  let sum = 0
  for (const chunk of touched) {
    const content = Buffer.concat(
      Array.from({ length: blocks }, (_, index) => blockOf(disk, chunk * blocks + index))
    )
    sum += Math.min(CHUNK_BYTES, zstdCompressSync(content, level).length)
  }
  return sum
}
