// Backs a large disk up and restores it in a process of its own, and tells by how much its memory grew over what it was at rest.

import { readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { DiskTarget } from '../../src/backup/disk.ts'
import { makeRoom, openVault } from './backup-engine.ts'
import { makeMixedDisk, mebibyte } from './mixed-disk.ts'
import { residentMib } from './process-usage.ts'
import { syntheticDisk } from './synthetic-disk.ts'

const SETTLE_MS = 5_000
const POOL_BYTES = 48 * mebibyte

export interface BackupMemory {
  readonly restMib: number
  readonly backUpMib: number
  readonly restoreMib: number
}

const sizeBytes = Number(process.argv[2])
using room = makeRoom('memory')
await using vault = await openVault(room.path)
const pool = readPool()
const restMib = await rest()
const source = syntheticDisk({ sizeBytes, pool, uniqueEvery: 16, holeBytes: 64 * mebibyte })
const backUpMib = (await peakMib(() => vault.backUp(source, 'all'))) - restMib
await rest()
const restoreMib = (await peakMib(() => vault.restore(nowhere()))) - restMib
process.send?.({ restMib, backUpMib, restoreMib } satisfies BackupMemory)
process.disconnect?.()

function readPool(): Buffer {
  using disk = makeMixedDisk(POOL_BYTES)
  return readFileSync(disk.files.raw)
}

async function rest(): Promise<number> {
  await sleep(SETTLE_MS)
  return residentMib(process.pid)
}

/** The most that the kernel has seen from here on. */
async function peakMib(work: () => Promise<unknown>): Promise<number> {
  writeFileSync('/proc/self/clear_refs', '5')
  await work()
  const kib = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]
  return Number(kib) / 1024
}

function nowhere(): DiskTarget {
  return {
    ...{ sizeBytes, writesInFlightMax: 8 },
    write: async () => undefined,
    finish: async () => undefined,
    abort: async () => undefined
  }
}
