/** Disks written over NBD through the real qemu-nbd, and what qemu-img reads of them afterwards. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { startQemuNbd } from '../../../src/backup/nbd/qemu-nbd.ts'
import { openNbdTarget } from '../../../src/backup/nbd/target.ts'
import { contentOf, makeLuks, makeQcow2, makeRaw, mebibyte, temporaryDirectory } from './images.ts'
import { agree, startScriptedServer } from './scripted-server.ts'

const wait = { signal: new AbortController().signal }
const size = 8 * mebibyte

const makers = {
  raw: { format: 'raw', make: (path: string) => makeRaw(path, size, []), passphrase: undefined },
  qcow2: { format: 'qcow2', make: (path: string) => makeQcow2(path, size), passphrase: undefined },
  'encrypted qcow2': {
    format: 'qcow2',
    make: (path: string) => makeLuks(path, size, 'secret'),
    passphrase: 'secret'
  }
} as const

describe('disks written over NBD', { timeout: 120_000 }, () => {
  for (const [name, { format, make, passphrase }] of Object.entries(makers)) {
    it(`holds in a ${name} image what was written, and zeros elsewhere`, async () => {
      using directory = temporaryDirectory()
      const file = join(directory.path, 'disk')
      make(file)
      const secret = passphrase === undefined ? {} : { passphrase }
      const server = await startQemuNbd({ file, format, writable: true, ...secret, ...wait })
      const target = await openNbdTarget({ socketPath: server.socketPath, exportName: '', ...wait })
      assert.equal(target.sizeBytes, size)
      const expected = Buffer.alloc(size)
      const writes = [0, 3, 5, 7].map((index) => {
        const data = Buffer.alloc(mebibyte, 0x10 + index)
        data.copy(expected, index * mebibyte)
        return target.write(index * mebibyte, data, wait)
      })
      await Promise.all(writes)
      const long = Buffer.alloc(mebibyte + 512, 0x77)
      long.copy(expected, mebibyte)
      await target.write(mebibyte, long, wait)
      await target.finish(wait)
      await server.stop()
      assert.ok(contentOf(file, format, passphrase).equals(expected))
    })
  }

  it('zeroes first what is not blank', async () => {
    using directory = temporaryDirectory()
    const file = join(directory.path, 'disk')
    makeRaw(file, size, [{ at: 0, length: size, byte: 9 }])
    await using server = await startQemuNbd({ file, format: 'raw', writable: true, ...wait })
    const options = { socketPath: server.socketPath, exportName: '', blank: false }
    const target = await openNbdTarget({ ...options, ...wait })
    await target.write(512, Buffer.alloc(512, 1), wait)
    await target.finish(wait)
    await target.abort()
    await server.stop()
    const expected = Buffer.alloc(size).fill(1, 512, 1_024)
    assert.ok(contentOf(file, 'raw').equals(expected))
  })

  it('refuses what cannot be written, or not made durable', async () => {
    for (const [flags, code] of [
      [0b111, 'E_CONFLICT'],
      [0b001, 'E_UNSUPPORTED']
    ] as const) {
      await using server = await startScriptedServer((line) => agree(line, { flags }))
      const options = { socketPath: server.socketPath, exportName: '' }
      await assert.rejects(openNbdTarget({ ...options, ...wait }), { code })
    }
  })
})
