// Disks as files: what was written reads back through QEMU's own tools, the rest takes no room, and failures leave nothing.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import fc from 'fast-check'
import type { DiskTarget } from '../../../src/backup/disk.ts'
import { createQcow2File } from '../../../src/backup/targets/qcow2-file.ts'
import { layOutRefcounts } from '../../../src/backup/targets/qcow2-layout.ts'
import { createRawFile } from '../../../src/backup/targets/raw-file.ts'

const directory = mkdtempSync(join(tmpdir(), 'hostlet-targets-'))
after(() => rmSync(directory, { recursive: true, force: true }))
const { signal } = new AbortController()
const block = 65_536
let files = 0
const newPath = (extension: string) => join(directory, `disk-${++files}.${extension}`)

const formats = [
  { name: 'raw', create: createRawFile },
  { name: 'qcow2', create: createQcow2File }
] as const

function asRaw(path: string, format: string): Buffer {
  const raw = `${path}.raw`
  execFileSync('qemu-img', ['convert', '-f', format, '-O', 'raw', path, raw])
  const content = readFileSync(raw)
  rmSync(raw)
  return content
}

/** Throws with what it found unless the image is without fault and without a leaked cluster. */
function check(path: string): void {
  execFileSync('qemu-img', ['check', '-f', 'qcow2', path], { encoding: 'utf8' })
}

function info(path: string): Record<string, unknown> {
  return JSON.parse(
    execFileSync('qemu-img', ['info', '--output=json', '-f', 'qcow2', path], { encoding: 'utf8' })
  )
}

for (const { name, create } of formats)
  describe(`a disk as a ${name} file`, () => {
    it('reads back as it was written, in whatever order, at whatever size', async () => {
      const size = fc.integer({ min: 0, max: 40 * block })
      const writes = fc.array(
        fc.record({ at: fc.nat(39), blocks: fc.integer({ min: 1, max: 3 }), fill: fc.nat(255) }),
        {
          maxLength: 12
        }
      )
      await fc.assert(
        fc.asyncProperty(size, writes, async (sizeBytes, plan) => {
          const path = newPath(name)
          const target = await create(path, sizeBytes)
          const expected = Buffer.alloc(sizeBytes)
          for (const { at, blocks, fill } of plan) {
            const data = Buffer.alloc(Math.max(0, Math.min(blocks * block, sizeBytes - at * block)), fill)
            if (data.length === 0) continue
            await target.write(at * block, data, { signal })
            data.copy(expected, at * block)
          }
          await target.finish({ signal })
          if (name === 'qcow2') check(path)
          // QEMU rounds sizes up to whole sectors.
          const content = asRaw(path, name)
          assert.ok(content.subarray(0, sizeBytes).equals(expected))
          assert.ok(content.length - sizeBytes < 512)
          rmSync(path)
        }),
        { numRuns: 25 }
      )
    })

    it('takes several writes at once', async () => {
      const path = newPath(name)
      const target = await create(path, 64 * block)
      await Promise.all(
        Array.from({ length: 32 }, (_, index) =>
          target.write(index * 2 * block, Buffer.alloc(block, index + 1), { signal })
        )
      )
      await target.finish({ signal })
      const content = asRaw(path, name)
      for (let index = 0; index < 64; index++)
        assert.equal(content[index * block + 17], index % 2 === 0 ? index / 2 + 1 : 0)
    })

    it('takes little room for a large disk that is nearly empty', async () => {
      const path = newPath(name)
      const target = await create(path, 3 * 2 ** 40)
      await target.write(3 * 2 ** 40 - block, Buffer.alloc(block, 7), { signal })
      await target.finish({ signal })
      assert.ok(statSync(path).blocks * 512 < 2 ** 20)
      if (name === 'qcow2') check(path)
    })

    it('refuses to write over a file that is there', async () => {
      const path = newPath(name)
      writeFileSync(path, 'mine')
      await assert.rejects(create(path, block), { code: 'E_CONFLICT' })
      assert.equal(readFileSync(path, 'utf8'), 'mine')
    })

    it('refuses what lies beyond the disk', async () => {
      const target = await create(newPath(name), block)
      await assert.rejects(target.write(block, Buffer.alloc(block), { signal }), { code: 'E_INTERNAL' })
      await target.abort()
    })

    it('removes its file when it is aborted, and only then', async () => {
      const [gone, kept] = [newPath(name), newPath(name)]
      const aborted = await create(gone, block)
      await aborted.write(0, Buffer.alloc(block, 1), { signal })
      await aborted.abort()
      assert.equal(existsSync(gone), false)
      const finished: DiskTarget = await create(kept, block)
      await finished.finish({ signal })
      await finished.abort()
      assert.equal(existsSync(kept), true)
    })

    it('writes nothing once the signal is aborted', async () => {
      const target = await create(newPath(name), block)
      const aborted = AbortSignal.abort(new Error('no more'))
      await assert.rejects(target.write(0, Buffer.alloc(block, 1), { signal: aborted }), /no more/)
      await assert.rejects(target.finish({ signal: aborted }), /no more/)
      await target.abort()
    })
  })

describe('a qcow2 file', () => {
  it('is of compat 1.1, of 64 KiB clusters and without a backing file, so that it can hold bitmaps', async () => {
    const path = newPath('qcow2')
    const target = await createQcow2File(path, 10 * block)
    await target.finish({ signal })
    const { 'format-specific': specific, 'cluster-size': clusterSize, ...rest } = info(path)
    assert.equal((specific as { data: { compat: string } }).data.compat, '1.1')
    assert.equal(clusterSize, block)
    assert.equal('backing-filename' in rest, false)
    execFileSync('qemu-img', ['bitmap', '--add', path, 'changes'])
    check(path)
  })

  it('is no image before it is finished', async () => {
    const path = newPath('qcow2')
    const target = await createQcow2File(path, 10 * block)
    await target.write(0, Buffer.alloc(block, 1), { signal })
    assert.notEqual(readFileSync(path).toString('latin1', 0, 3), 'QFI')
    await target.abort()
  })

  it('goes on where its tables were put out of memory', async () => {
    const path = newPath('qcow2')
    const span = 8_192 * block
    const target = await createQcow2File(path, 100 * span)
    for (const turn of [0, 1])
      for (let table = 0; table < 100; table++)
        await target.write(table * span + turn * block, Buffer.alloc(block, table + 1), { signal })
    await target.finish({ signal })
    check(path)
    for (const table of [0, 1, 50, 99]) {
      const pattern = ['-c', `read -P ${table + 1} ${table * span} ${2 * block}`]
      const output = execFileSync('qemu-io', ['-f', 'qcow2', '-r', ...pattern, path], { encoding: 'utf8' })
      assert.doesNotMatch(output, /failed/i)
    }
  })

  it('refuses writes that are not of whole clusters', async () => {
    const target = await createQcow2File(newPath('qcow2'), 3 * block)
    await assert.rejects(target.write(512, Buffer.alloc(block), { signal }), { code: 'E_INTERNAL' })
    await assert.rejects(target.write(0, Buffer.alloc(512), { signal }), { code: 'E_INTERNAL' })
    await target.abort()
  })

  it('counts the clusters of its reference counts among those counted, at any size', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 2 ** 31 }), (used) => {
        const { blocks, tableClusters, totalClusters } = layOutRefcounts(used)
        assert.equal(totalClusters, used + blocks + tableClusters)
        assert.ok(blocks * 32_768 >= totalClusters && (blocks - 1) * 32_768 < totalClusters)
        assert.ok(tableClusters * 8_192 >= blocks && (tableClusters - 1) * 8_192 < blocks)
      })
    )
  })
})
