// What tests of restoring and verifying share: a target in memory, and ways to damage and to compact what is stored.

import assert from 'node:assert/strict'
import type { DiskTarget } from '../../../src/backup/disk.ts'
import { deriveVaultKeys } from '../../../src/backup/format/keys.ts'
import { openPackEnd, parsePackName } from '../../../src/backup/format/pack.ts'
import { restoreDisk } from '../../../src/backup/read/restore.ts'
import { type VerifyReport, verifySnapshot } from '../../../src/backup/read/verify.ts'
import type { Vault } from '../../../src/backup/vault/vault.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import type { Bench } from '../vault-bench.ts'

export class MemoryTarget implements DiskTarget {
  readonly sizeBytes: number
  readonly writesInFlightMax = 3
  readonly content: Buffer
  readonly written: { offset: number; length: number }[] = []
  state: 'open' | 'finished' | 'aborted' = 'open'
  inFlight = 0
  inFlightSeen = 0

  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes
    this.content = Buffer.alloc(sizeBytes)
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    this.inFlightSeen = Math.max(this.inFlightSeen, ++this.inFlight)
    await new Promise((resolve) => setImmediate(resolve))
    assert.ok(offset + data.length <= this.sizeBytes)
    this.content.set(data, offset)
    this.written.push({ offset, length: data.length })
    this.inFlight--
  }

  async finish(): Promise<void> {
    this.state = 'finished'
  }

  async abort(): Promise<void> {
    if (this.state === 'open') this.state = 'aborted'
  }
}

export async function restore(bench: Bench, vault: Vault, id: string): Promise<MemoryTarget> {
  const { body, vmKey } = await vault.snapshot(id, bench)
  const [disk] = body.disks
  assert.ok(disk)
  const target = new MemoryTarget(disk.sizeBytes)
  await restoreDisk({
    store: vault.store,
    vm: vault.vm,
    vmKey,
    disk,
    target,
    workers: 1,
    clock: systemClock,
    signal: bench.signal
  })
  return target
}

export async function verify(
  bench: Bench,
  vault: Vault,
  id: string,
  depth?: 'structure'
): Promise<VerifyReport> {
  const snapshot = (await vault.snapshots(bench)).find((one) => one.id === id)
  assert.ok(snapshot)
  return verifySnapshot({
    store: vault.store,
    vm: vault.vm,
    snapshot,
    workers: 1,
    ...(depth && { depth }),
    signal: bench.signal
  })
}

export function packsOf({ store, vm }: Bench): string[] {
  return [...store.objects.keys()].filter((name) => parsePackName(vm, name) !== undefined)
}

/** Changes the stored bytes of one object. */
export function damage({ store }: Bench, name: string, change: (content: Buffer) => Uint8Array): void {
  const object = store.objects.get(name)
  assert.ok(object)
  object.content = change(Buffer.from(object.content))
}

export async function copyOf(bench: Bench): Promise<Bench> {
  const { MemoryStore } = await import('../../support/memory-store.ts')
  const objects = new Map(
    [...bench.store.objects].map(([name, object]) => [
      name,
      { ...object, content: Uint8Array.from(object.content) }
    ])
  )
  const store = new MemoryStore({}, objects)
  return { ...bench, store, open: (options = {}) => bench.open({ store, ...options }) }
}

/** What prune does to a pack with dead entries, here with all of them alive. */
export async function compact(bench: Bench, name: string, vmKey: Uint8Array): Promise<void> {
  const { assemblePack } = await import('../../../src/backup/format/pack-builder.ts')
  const keys = deriveVaultKeys(vmKey)
  const identity = parsePackName(bench.vm, name)
  const content = bench.store.objects.get(name)?.content
  assert.ok(identity && content)
  const entries = openPackEnd(keys, identity, { lastBytes: content, packBytes: content.length }, name)
  const kept = entries.map(({ number, flags, offset, length }) => ({
    number,
    flags,
    sealed: content.subarray(offset, offset + length)
  }))
  const next = { ...identity, generation: 2 }
  await bench.store.put(name.replace(/1$/, '2'), assemblePack(keys, next, kept), bench)
  await bench.store.remove(name, bench)
}
