// The writer of the trail on files that the test holds in its hands: what is promised is on disk, and a full disk loses nothing.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type TrailFile, type TrailFiles, TrailWriter, waitingMax } from '../../../src/agent/trail/writer.ts'
import { openLine, origin } from '../../../src/lib/chain.ts'
import { FakeClock, settle } from '../../support/fake-clock.ts'

/** A file whose flushes end when the test says so. */
class HeldFile implements TrailFile {
  written = Buffer.alloc(0)
  /** What a power loss would leave. */
  durable = Buffer.alloc(0)
  appends = 0
  fail: { in: 'append' | 'sync'; code: string; after?: number } | undefined
  readonly syncs: { end(): void }[] = []
  holds = true

  async append(bytes: Buffer): Promise<void> {
    this.appends++
    if (this.fail?.in === 'append') {
      this.written = Buffer.concat([this.written, bytes.subarray(0, this.fail.after ?? 0)])
      throw Object.assign(new Error('refused'), { code: this.fail.code })
    }
    this.written = Buffer.concat([this.written, bytes])
  }

  async sync(): Promise<void> {
    const seen = this.written
    if (this.fail?.in === 'sync') throw Object.assign(new Error('refused'), { code: this.fail.code })
    if (this.holds) await new Promise<void>((end) => this.syncs.push({ end }))
    this.durable = seen
  }

  async truncate(bytes: number): Promise<void> {
    this.written = this.written.subarray(0, bytes)
  }

  async close(): Promise<void> {}

  get seqs(): number[] {
    return linesOf(this.written).map((line) => openLine(line)?.seq ?? 0)
  }
}

class HeldFiles implements TrailFiles {
  readonly files = new Map<string, HeldFile>()
  readonly #make: () => HeldFile

  constructor(make: () => HeldFile = () => new HeldFile()) {
    this.#make = make
  }

  async open(name: string): Promise<HeldFile> {
    const file = this.files.get(name) ?? this.#make()
    this.files.set(name, file)
    return file
  }

  get only(): HeldFile {
    const [file] = this.files.values()
    assert.ok(file)
    return file
  }
}

function linesOf(content: Buffer): Buffer[] {
  return content
    .toString()
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => Buffer.from(line))
}

function writerOn(files: TrailFiles, segmentBytesMax?: number): TrailWriter {
  const options = { files, clock: new FakeClock(), tail: origin }
  return new TrailWriter(segmentBytesMax === undefined ? options : { ...options, segmentBytesMax })
}

describe('the writer of the trail', () => {
  it('promises an entry when a flush that began after its write has ended, and flushes for all that wait at once', async () => {
    const files = new HeldFiles()
    const writer = writerOn(files)
    const done: string[] = []
    const append = (name: string) => writer.append(name, {}).then(() => done.push(name))
    const first = append('one')
    await settle()
    const others = ['two', 'three', 'four'].map(append)
    await settle()
    assert.deepEqual([files.only.seqs, done], [[1], []])
    files.only.syncs[0]?.end()
    await first
    await settle()
    // They came while the first flush was under way: it does not count for them.
    assert.deepEqual([files.only.seqs, done], [[1, 2, 3, 4], ['one']])
    assert.deepEqual(linesOf(files.only.durable).length, 1)
    files.only.syncs[1]?.end()
    await Promise.all(others)
    assert.deepEqual(
      [done, files.only.appends, files.only.syncs.length],
      [['one', 'two', 'three', 'four'], 2, 2]
    )
    assert.equal(linesOf(files.only.durable).length, 4)
    assert.deepEqual(
      [writer.tail.seq, writer.tail.hash],
      [4, openLine(linesOf(files.only.durable)[3] ?? Buffer.alloc(0))?.hash]
    )
  })

  it('fails with E_CAPACITY on a full disk, cuts what was half written, and goes on once there is room', async () => {
    const files = new HeldFiles(() => Object.assign(new HeldFile(), { holds: false }))
    const writer = writerOn(files)
    await writer.append('one', {})
    files.only.fail = { in: 'append', code: 'ENOSPC', after: 30 }
    await assert.rejects(writer.append('two', {}), {
      code: 'E_CAPACITY',
      message: /disk of the audit trail .* is full/
    })
    assert.match(writer.fault?.message ?? '', /Free some space/)
    assert.equal(writer.tail.seq, 1)
    files.only.fail = undefined
    await writer.append('three', {})
    assert.equal(writer.fault, undefined)
    const entries = linesOf(files.only.durable).map((line) => openLine(line))
    assert.deepEqual(
      entries.map((entry) => [entry?.seq, entry?.kind]),
      [
        [1, 'one'],
        [2, 'three']
      ]
    )
    assert.equal(entries[1]?.prev, entries[0]?.hash)
  })

  it('takes nothing for written that the disk refused to flush', async () => {
    const files = new HeldFiles(() => Object.assign(new HeldFile(), { holds: false }))
    const writer = writerOn(files)
    await writer.append('one', {})
    files.only.fail = { in: 'sync', code: 'EIO' }
    await assert.rejects(writer.append('two', {}), { code: 'E_UNAVAILABLE', message: /EIO/ })
    files.only.fail = undefined
    await writer.append('three', {})
    assert.deepEqual(files.only.seqs, [1, 2])
    assert.equal(openLine(linesOf(files.only.written)[1] ?? Buffer.alloc(0))?.kind, 'three')
  })

  it('begins a new file, named by its first entry, once one is full', async () => {
    const files = new HeldFiles(() => Object.assign(new HeldFile(), { holds: false }))
    const writer = writerOn(files, 400)
    for (let count = 0; count < 7; count++) await writer.append('one', { text: 'x'.repeat(100) })
    const named = [...files.files].map(([name, file]) => [name, file.seqs])
    assert.deepEqual(named, [
      ['00000001.jsonl', [1, 2]],
      ['00000003.jsonl', [3, 4]],
      ['00000005.jsonl', [5, 6]],
      ['00000007.jsonl', [7]]
    ])
  })

  it('lets no more wait than its bound, and writes all that waits before it closes', async () => {
    const files = new HeldFiles()
    const writer = writerOn(files)
    const first = writer.append('first', {})
    await settle()
    const waiting = Array.from({ length: waitingMax }, () => writer.append('more', {}))
    await assert.rejects(writer.append('too many', {}), { code: 'E_BUSY' })
    files.only.holds = false
    files.only.syncs[0]?.end()
    await writer.close()
    await Promise.all([first, ...waiting])
    assert.equal(linesOf(files.only.durable).length, waitingMax + 1)
    await assert.rejects(writer.append('late', {}), { code: 'E_UNAVAILABLE' })
  })
})
