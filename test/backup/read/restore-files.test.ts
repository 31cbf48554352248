// Restoring into files, which the threads that open the blocks write by themselves: to the byte, or nothing is left.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { blockBytes, type DiskTarget } from '../../../src/backup/disk.ts'
import { encodeNode, TreeNode } from '../../../src/backup/format/node.ts'
import { restoreDisk } from '../../../src/backup/read/restore.ts'
import { createQcow2File } from '../../../src/backup/targets/qcow2-file.ts'
import { createRawFile } from '../../../src/backup/targets/raw-file.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { contentOf, diskOf, PlainWriter, type StoredDisk } from '../plain-writer.ts'
import { type Bench, createBench } from '../vault-bench.ts'

const directory = mkdtempSync(join(tmpdir(), 'hostlet-restore-'))
after(() => rmSync(directory, { recursive: true, force: true }))

const formats = [
  { format: 'raw', create: createRawFile },
  { format: 'qcow2', create: createQcow2File }
] as const

for (const { format, create } of formats)
  describe(`restoring into a ${format} file`, () => {
    const path = join(directory, `disk.${format}`)
    let bench: Bench
    before(async () => {
      bench = await createBench()
    })

    async function restore(disk: StoredDisk, vmKey: Uint8Array, target: DiskTarget): Promise<number> {
      const options = { ...bench, vmKey, disk, target, workers: 2, clock: systemClock }
      return (await restoreDisk(options)).writtenBytes
    }

    /** The whole disk, as QEMU reads the file. */
    function takeContent(): Buffer {
      if (format === 'qcow2') execFileSync('qemu-img', ['check', '-f', format, path])
      const raw = `${path}.raw`
      execFileSync('qemu-img', ['convert', '-f', format, '-O', 'raw', path, raw])
      const content = readFileSync(raw)
      for (const each of [path, raw]) rmSync(each)
      return content
    }

    it('gives back blocks beside one another, alone, and one that the end of the disk cuts short', async () => {
      const fills = Array.from({ length: 100 }, (_, index) => (index % 40 < 37 ? index + 1 : 0))
      const disk = diskOf(fills, 99 * blockBytes + 1_536)
      const vault = await bench.open()
      const stored = await new PlainWriter({ ...vaultOf(vault), entriesMax: 60 }).write(disk)
      const writtenBytes = await restore(stored, vault.vmKey, await create(path, disk.sizeBytes))
      assert.equal(
        writtenBytes,
        [...disk.blocks.values()].reduce((sum, { length }) => sum + length, 0)
      )
      assert.ok(takeContent().equals(contentOf(disk)))
    })

    it('writes a block that is stored once to each of its places', async () => {
      const vault = await bench.open()
      const writer = new PlainWriter(vaultOf(vault))
      const { blocks } = diskOf([5, 6])
      const stored = await writer.write({ sizeBytes: 6 * blockBytes, blocks })
      const [one, other] = [stored.references.get(0), stored.references.get(1)]
      assert.ok(one && other)
      const node = new TreeNode(0)
      for (const [slot, reference] of [one, other, one, null, one, other].entries()) node.set(slot, reference)
      const trees = new PlainWriter(vaultOf(vault))
      const root = trees.storeNode(encodeNode(node))
      await trees.end()
      await restore({ ...stored, root }, vault.vmKey, await create(path, 6 * blockBytes))
      assert.ok(takeContent().equals(contentOf(diskOf([5, 6, 5, 0, 5, 6]))))
    })

    it('leaves no file behind when a block is damaged', async () => {
      const vault = await bench.open()
      const stored = await new PlainWriter(vaultOf(vault)).write(diskOf([1, 2, 3]))
      const reference = stored.references.get(1)
      assert.ok(reference)
      const pack = Buffer.from(reference.pack).toString('hex')
      const object = [...bench.store.objects].find(([name]) => name.includes(pack))?.[1]
      assert.ok(object)
      const content = Buffer.from(object.content)
      content.writeUInt8(content.readUInt8(100) ^ 1, 100)
      object.content = content
      const target = await create(path, 3 * blockBytes)
      await assert.rejects(restore(stored, vault.vmKey, target), { code: 'E_CORRUPT' })
      assert.equal(existsSync(path), false)
    })

    it('says which file cannot be written', async () => {
      const vault = await bench.open()
      const stored = await new PlainWriter(vaultOf(vault)).write(diskOf([1, 2, 3]))
      const target = await create(path, 3 * blockBytes)
      const { file } = target
      assert.ok(file)
      // No descriptor of this process.
      const broken = { ...file, descriptor: 1_000_000 }
      const wrapped: DiskTarget = {
        ...{ sizeBytes: target.sizeBytes, writesInFlightMax: 1, file: broken },
        write: (...all) => target.write(...all),
        finish: (wait) => target.finish(wait),
        abort: () => target.abort()
      }
      await assert.rejects(restore(stored, vault.vmKey, wrapped), (error: Error & { code: string }) => {
        assert.equal(error.code, 'E_UNAVAILABLE')
        assert.ok(error.message.includes(path))
        return true
      })
      assert.equal(existsSync(path), false)
    })
  })

function vaultOf({ store, vm, vmKey }: Awaited<ReturnType<Bench['open']>>) {
  return { store, vm, vmKey }
}
