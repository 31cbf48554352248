// Backups of disks in memory: read back as they were, and never more read or stored than what changed.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { blockBytes } from '../../../src/backup/disk.ts'
import { deriveVaultKeys } from '../../../src/backup/format/keys.ts'
import { sameReference } from '../../../src/backup/format/node.ts'
import { type BackUpOptions, backUpDisks, type DiskToBackUp } from '../../../src/backup/write/back-up.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { MemoryStore } from '../../support/memory-store.ts'
import { MemoryDisk, MemorySource } from './memory-source.ts'
import { ReadBack } from './read-back.ts'

const vm = '8f5fb1f0-3a3c-4a53-9d1c-111111111111'
const vmKey = Buffer.alloc(32, 3)
const keys = deriveVaultKeys(vmKey)

function backUp(store: MemoryStore, disks: readonly DiskToBackUp[], options: Partial<BackUpOptions> = {}) {
  return backUpDisks({
    store,
    vm,
    vmKey,
    disks,
    compressionLevel: 1,
    workers: 2,
    clock: systemClock,
    signal: new AbortController().signal,
    onProgress: () => undefined,
    ...options
  })
}

async function full(store: MemoryStore, disk: MemoryDisk) {
  const source = new MemorySource(disk)
  const result = await backUp(store, [{ role: 'root', source, parent: null, tracking: 'all' }])
  const [backup] = result.disks
  assert.ok(backup !== undefined)
  return { ...result, backup, source }
}

function mixedDisk(sizeBytes: number): MemoryDisk {
  const disk = new MemoryDisk(sizeBytes)
  disk.write(0, randomBytes(Math.floor(sizeBytes / 3)))
  disk.write(Math.floor(sizeBytes / 3), Buffer.alloc(Math.floor(sizeBytes / 3), 'some text to compress. '))
  return disk
}

test('a full backup is read back as the disk was', async () => {
  const store = new MemoryStore()
  const disk = mixedDisk(40 * 1024 * 1024 + 777)
  const { backup, readBytes, storedBytes, packs } = await full(store, disk)
  assert.ok(new ReadBack(store, vm, keys).disk(backup).equals(disk.bytes))
  assert.ok(readBytes < disk.bytes.length * 0.7, 'zeros are not read')
  assert.equal(
    storedBytes,
    [...store.objects.values()].reduce((sum, { content }) => sum + content.length, 0)
  )
  assert.equal(packs, store.objects.size)
})

test('an incremental backup reads and stores what is dirty and changed, and nothing else', async () => {
  const store = new MemoryStore()
  const disk = mixedDisk(80 * 1024 * 1024)
  const first = await full(store, disk)
  disk.clean()
  disk.write(5 * blockBytes + 10, Buffer.from('changed'))
  disk.write(9 * blockBytes, disk.bytes.subarray(9 * blockBytes, 10 * blockBytes))
  const source = new MemorySource(disk)
  const parent = first.backup.root
  const { disks, readBytes, packs } = await backUp(store, [
    { role: 'root', source, parent, tracking: 'changed' }
  ])
  assert.ok(disks[0])
  assert.ok(new ReadBack(store, vm, keys).disk(disks[0]).equals(disk.bytes))
  assert.deepEqual(source.reads, [
    [5 * blockBytes, blockBytes],
    [9 * blockBytes, blockBytes]
  ])
  assert.equal(readBytes, 2 * blockBytes)
  assert.ok(packs <= 2)
  assert.ok(sameReference(first.backup.root, parent))
})
