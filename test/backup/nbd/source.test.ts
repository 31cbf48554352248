/** Disks read over NBD from the real qemu-nbd, compared with what libnbd's and QEMU's own tools say of them. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { DiskSource, Extent } from '../../../src/backup/disk.ts'
import { type QemuNbdOptions, startQemuNbd } from '../../../src/backup/nbd/qemu-nbd.ts'
import { openNbdSource } from '../../../src/backup/nbd/source.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import {
  addBitmap,
  contentOf,
  copyBy,
  kibibyte,
  type Mapped,
  makeLuks,
  makeQcow2,
  makeRaw,
  mapBy,
  mebibyte,
  overwrite,
  type Piece,
  temporaryDirectory,
  tool
} from './images.ts'
import { agree, startScriptedServer, wire } from './scripted-server.ts'

const wait = { signal: new AbortController().signal }
const size = 24 * mebibyte + 3 * 512
const pieces: readonly Piece[] = [
  { at: 0, length: 64 * kibibyte, byte: 1 },
  { at: mebibyte + 512, length: 3 * kibibyte, byte: 2 },
  { at: 5 * mebibyte, length: 4 * mebibyte, byte: 3 },
  { at: 20 * mebibyte, length: 128 * kibibyte, byte: 0 },
  { at: 24 * mebibyte, length: 3 * 512, byte: 5 }
]

async function contentBySource(source: DiskSource): Promise<Buffer> {
  const content = Buffer.alloc(source.sizeBytes, 0xff)
  let end = 0
  for await (const { offset, length, zero } of source.extents(wait)) {
    assert.equal(offset, end)
    end += length
    const target = content.subarray(offset, end)
    if (zero) target.fill(0)
    else await source.read(offset, target, wait)
  }
  assert.equal(end, source.sizeBytes)
  return content
}

/** Neighbours alike as one, as pairs of length and value. */
function runsOf<Run extends { length: number }>(runs: readonly Run[], value: (run: Run) => boolean) {
  const joined: [length: number, value: boolean][] = []
  for (const run of runs) {
    const last = joined.at(-1)
    if (last?.[1] === value(run)) last[0] += run.length
    else joined.push([run.length, value(run)])
  }
  return joined
}

async function extentsBySource(source: DiskSource): Promise<Extent[]> {
  const extents: Extent[] = []
  for await (const extent of source.extents(wait)) extents.push(extent)
  return extents
}

const isZero = ({ type }: Mapped) => (type & 2) !== 0
const isDirty = ({ type }: Mapped) => (type & 1) !== 0

interface Sample {
  readonly make: (path: string) => void
  readonly format: 'raw' | 'qcow2'
  readonly passphrase?: string
}

const samples: Readonly<Record<string, Sample>> = {
  'a raw image with holes': { make: (path) => makeRaw(path, size, pieces), format: 'raw' },
  'a qcow2 image with holes': { make: (path) => makeQcow2(path, size, pieces), format: 'qcow2' },
  'an encrypted qcow2 image': {
    make: (path) => makeLuks(path, size, 'pass,phrase=1', pieces),
    format: 'qcow2',
    passphrase: 'pass,phrase=1'
  }
}

const optionsOf = (file: string, { format, passphrase }: Sample): QemuNbdOptions => ({
  ...{ file, format, ...wait },
  ...(passphrase === undefined ? {} : { passphrase })
})

describe('disks read over NBD', { timeout: 120_000 }, () => {
  for (const [name, sample] of Object.entries(samples)) {
    it(`reads ${name}, whose zeros are where nbdinfo sees them`, async () => {
      using directory = temporaryDirectory()
      const path = join(directory.path, 'disk')
      sample.make(path)
      const content = contentOf(path, sample.format, sample.passphrase)
      await using server = await startQemuNbd(optionsOf(path, sample))
      const { socketPath, exportName } = server
      for (const connections of [1, 3]) {
        const source = await openNbdSource({ socketPath, exportName, connections, ...wait })
        assert.equal(source.sizeBytes, content.length)
        assert.ok((await contentBySource(source)).equals(content))
        const extents = await extentsBySource(source)
        assert.deepEqual(
          runsOf(extents, ({ zero }) => zero),
          runsOf(mapBy(socketPath), isZero)
        )
        assert.ok(extents.some(({ zero }) => zero) && extents.every(({ dirty }) => dirty))
        await source.close()
      }
      assert.ok(copyBy(socketPath, join(directory.path, 'copy')).equals(content))
    })
  }

  it('tells what a persistent bitmap marks, and which of that reads as zeros', async () => {
    using directory = temporaryDirectory()
    const path = join(directory.path, 'disk')
    makeQcow2(path, size, pieces)
    addBitmap(path, 'since')
    overwrite(path, [
      { at: 2 * mebibyte, length: 100, byte: 7 },
      { at: 6 * mebibyte, length: 2 * mebibyte, byte: 8 },
      { at: 24 * mebibyte, length: 512, byte: 9 }
    ])
    await using server = await startQemuNbd({ file: path, format: 'qcow2', bitmap: 'since', ...wait })
    const { socketPath, exportName } = server
    const source = await openNbdSource({ socketPath, exportName, dirtyBitmap: 'since', ...wait })
    const extents = await extentsBySource(source)
    const expected = runsOf(mapBy(socketPath, 'qemu:dirty-bitmap:since'), isDirty)
    assert.deepEqual(
      runsOf(extents, ({ dirty }) => dirty),
      expected
    )
    assert.deepEqual(
      extents.filter(({ dirty }) => dirty).map(({ offset, length }) => [offset, length]),
      [
        [2 * mebibyte, 64 * kibibyte],
        [6 * mebibyte, 2 * mebibyte],
        [24 * mebibyte, 3 * 512]
      ]
    )
    const target = Buffer.alloc(2 * mebibyte)
    await source.read(6 * mebibyte, target, wait)
    assert.ok(target.every((byte) => byte === 8))
    await source.close()
  })

  it('finds zeros in what a bitmap marks', async () => {
    using directory = temporaryDirectory()
    const path = join(directory.path, 'disk')
    makeQcow2(path, 16 * mebibyte, [{ at: 0, length: 16 * mebibyte, byte: 1 }])
    addBitmap(path, 'since')
    // Zeros written as such, as a guest's discard does.
    tool('qemu-io', ['-f', 'qcow2', '-c', `write -z -u ${4 * mebibyte} ${4 * mebibyte}`, path])
    overwrite(path, [{ at: 8 * mebibyte, length: mebibyte, byte: 2 }])
    await using server = await startQemuNbd({ file: path, format: 'qcow2', bitmap: 'since', ...wait })
    const { socketPath, exportName } = server
    const source = await openNbdSource({ socketPath, exportName, dirtyBitmap: 'since', ...wait })
    assert.deepEqual(await extentsBySource(source), [
      { offset: 0, length: 4 * mebibyte, zero: false, dirty: false },
      { offset: 4 * mebibyte, length: 4 * mebibyte, zero: true, dirty: true },
      { offset: 8 * mebibyte, length: mebibyte, zero: false, dirty: true },
      { offset: 9 * mebibyte, length: 7 * mebibyte, zero: false, dirty: false }
    ])
    await source.close()
  })

  it('says that a bitmap or an export is not there', async () => {
    using directory = temporaryDirectory()
    const path = join(directory.path, 'disk')
    makeQcow2(path, mebibyte)
    await using server = await startQemuNbd({ file: path, format: 'qcow2', ...wait })
    const { socketPath } = server
    const source = (options: { exportName: string; dirtyBitmap?: string }) =>
      openNbdSource({ socketPath, ...options, ...wait })
    await assert.rejects(source({ exportName: '', dirtyBitmap: 'none' }), { code: 'E_NOT_FOUND' })
    await assert.rejects(source({ exportName: 'other' }), { code: 'E_NOT_FOUND' })
  })

  it('fills memory that is shared with other threads', async () => {
    using directory = temporaryDirectory()
    const path = join(directory.path, 'disk')
    makeRaw(path, mebibyte, [{ at: 0, length: mebibyte, byte: 6 }])
    await using server = await startQemuNbd({ file: path, format: 'raw', ...wait })
    const source = await openNbdSource({ socketPath: server.socketPath, exportName: '', ...wait })
    const target = new Uint8Array(new SharedArrayBuffer(mebibyte + 128)).subarray(64, 64 + mebibyte)
    await source.read(0, target, wait)
    assert.ok(target.every((byte) => byte === 6))
    await source.close()
  })

  it('loses what is in flight with the server, at once', async () => {
    using directory = temporaryDirectory()
    const path = join(directory.path, 'disk')
    makeRaw(path, 64 * mebibyte, [])
    const server = await startQemuNbd({ file: path, format: 'raw', ...wait })
    const source = await openNbdSource({ socketPath: server.socketPath, exportName: '', ...wait })
    const reads = Array.from({ length: 64 }, (_, index) =>
      source.read(index * mebibyte, Buffer.alloc(mebibyte), wait)
    )
    const outcomes = Promise.allSettled(reads)
    await server.stop()
    for (const outcome of await outcomes)
      if (outcome.status === 'rejected') assert.equal(outcome.reason.code, 'E_UNAVAILABLE')
    await assert.rejects(source.read(0, Buffer.alloc(1), wait), { code: 'E_UNAVAILABLE' })
    await source.close()
  })
})

describe('questions of a disk over NBD', { timeout: 60_000 }, () => {
  const gibibyte = 1024 * mebibyte
  const readOnlyShared = 0b1_0000_0111

  it('asks nothing about the allocation of what a bitmap calls clean', async () => {
    const asked: string[] = []
    await using server = await startScriptedServer(async (line, connection) => {
      const contexts = connection === 1 ? { 1: 'qemu:dirty-bitmap:b' } : { 2: 'base:allocation' }
      await agree(line, { sizeBytes: 10 * gibibyte, flags: readOnlyShared, contexts })
      for (;;) {
        const { type, cookie, offset, length } = await line.request()
        if (type === 2) return
        asked.push(connection === 1 ? 'bitmap' : 'allocation')
        const first =
          offset === 0
            ? ([
                [65_536, 1],
                [length - 65_536, 0]
              ] as const)
            : ([[length, 0]] as const)
        line.write(wire.status(cookie, connection, first, true))
      }
    })
    const source = await openNbdSource({
      socketPath: server.socketPath,
      exportName: '',
      dirtyBitmap: 'b',
      ...wait
    })
    assert.deepEqual(await extentsBySource(source), [
      { offset: 0, length: 65_536, zero: false, dirty: true },
      { offset: 65_536, length: 10 * gibibyte - 65_536, zero: false, dirty: false }
    ])
    assert.deepEqual(asked, Array(3).fill('bitmap'))
    await source.close()
  })

  it('stops asking a server whose answers are slow and hold no zeros, and looks again later', async () => {
    const clock = new FakeClock()
    const asked: number[] = []
    await using server = await startScriptedServer(async (line) => {
      await agree(line, { sizeBytes: 100 * gibibyte, contexts: { 2: 'base:allocation' } })
      for (;;) {
        const { type, cookie, offset, length } = await line.request()
        if (type === 2) return
        asked.push(offset)
        await clock.advance(400)
        line.write(wire.status(cookie, 2, [[length, 0]], true))
      }
    })
    const options = { socketPath: server.socketPath, exportName: '', clock, deadlineMs: 1_000_000 }
    const source = await openNbdSource({ ...options, ...wait })
    assert.deepEqual(await extentsBySource(source), [
      { offset: 0, length: 100 * gibibyte, zero: false, dirty: true }
    ])
    assert.ok(asked.length > 2 && asked.length < 12, `asked ${asked.length} times`)
    assert.ok((asked.at(-1) ?? 0) > 20 * gibibyte, 'looks again further on')
    await source.close()
  })

  it('goes on where an answer covers less than was asked', async () => {
    await using server = await startScriptedServer(async (line) => {
      await agree(line, { sizeBytes: mebibyte, contexts: { 2: 'base:allocation' } })
      for (let count = 0; ; count++) {
        const { type, cookie, length } = await line.request()
        if (type === 2) return
        const runs = [[Math.min(length, 4_096), count % 2 === 0 ? 3 : 0]] as const
        line.write(wire.status(cookie, 2, runs, true))
      }
    })
    const source = await openNbdSource({ socketPath: server.socketPath, exportName: '', ...wait })
    const extents = await extentsBySource(source)
    assert.equal(extents.length, 256)
    assert.ok(extents.every(({ zero, length }, index) => length === 4_096 && zero === (index % 2 === 0)))
    await source.close()
  })

  it('takes everything for data where the server knows no contexts', async () => {
    await using server = await startScriptedServer(async (line) => {
      await agree(line, { structured: false })
      await line.request()
    })
    const source = await openNbdSource({ socketPath: server.socketPath, exportName: '', ...wait })
    assert.deepEqual(await extentsBySource(source), [
      { offset: 0, length: mebibyte, zero: false, dirty: true }
    ])
    await source.close()
  })
})
