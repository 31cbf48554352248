// Which qcow2 images may become a base: told by images that qemu-img makes, and by headers that nobody should.

import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { promisify } from 'node:util'
import fc from 'fast-check'
import { readQcow2Header } from '../../../src/agent/host/qcow2-header.ts'
import { HostletError } from '../../../src/errors.ts'

const run = promisify(execFile)
const directory = mkdtempSync(join(tmpdir(), 'hostlet-qcow2-'))
const skip = installed() ? false : 'qemu-img is not installed'

describe('qcow2 headers of qemu-img', { skip }, () => {
  after(() => rmSync(directory, { recursive: true }))

  const good: [string, string[]][] = [
    ['version 3', ['-o', 'compat=1.1']],
    ['version 2', ['-o', 'compat=0.10']],
    ['large clusters', ['-o', 'cluster_size=2M']],
    ['zstd compression', ['-o', 'compression_type=zstd']],
    ['extended L2 entries', ['-o', 'extended_l2=on,cluster_size=128k']],
    ['lazy refcounts', ['-o', 'lazy_refcounts=on']]
  ]
  for (const [what, options] of good) {
    it(`are accepted with ${what}`, async () => {
      assert.equal(readQcow2Header(await made(options)).virtualSizeBytes, 64 * 1024 ** 2)
    })
  }

  it('are refused with a backing file, whatever its format', async () => {
    await made([], 'base.qcow2')
    const options = ['-F', 'qcow2', '-b', join(directory, 'base.qcow2')]
    refused(await made(options), /backing file/)
  })

  it('are refused with their data in another file', async () => {
    refused(await made(['-o', `data_file=${join(directory, 'data.raw')}`]), /another file/)
  })

  it('are refused when they are encrypted', async () => {
    // Not LUKS: qemu-img measures the CPU for its key derivation, and gives up at times on a busy machine.
    const secret = ['--object', 'secret,id=key,data=secret']
    refused(await made([...secret, '-o', 'encrypt.format=aes,encrypt.key-secret=key']), /encrypted/)
  })
})

describe('other headers', () => {
  it('are refused: not qcow2, too short, an unknown version or feature', () => {
    refused(Buffer.alloc(4096), /not a qcow2/)
    refused(Buffer.from('QFI\xfb', 'latin1'), /not a qcow2/)
    refused(header({ version: 4 }), /version/)
    refused(header({ incompatible: 1n << 40n }), /features/)
    refused(header({ incompatible: 1n << 2n }), /another file/)
    refused(header({ incompatible: 1n << 1n }), /corrupt/)
    refused(header({ size: 0n }), /size/)
    refused(header({ size: 2n ** 63n }), /size/)
    refused(header({ clusterBits: 63 }), /cluster/)
    refused(header({ backingOffset: 512n }), /backing/)
    refused(header({ crypt: 1 }), /encrypted/)
    refused(header({ crypt: 2 }), /encrypted/)
    refused(header({ headerBytes: 50 }), /header/)
    refused(header({ headerBytes: 2 ** 31 }), /header/)
  })

  it('are refused when an extension says what the features deny', () => {
    for (const [type, text] of [
      [0xe2792aca, /backing/],
      [0x44415441, /another file/],
      [0x0537be77, /encrypted/]
    ] as const) {
      const image = header({})
      image.writeUInt32BE(type, 104)
      image.writeUInt32BE(4, 108)
      refused(image, text)
    }
  })

  it('are read or refused, never anything else, whatever their bytes', () => {
    const sane = header({})
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(4095), (bytes, at) => {
        const image = Buffer.from(sane)
        image.set(bytes.subarray(0, image.length - at), at)
        try {
          assert.ok(readQcow2Header(image).virtualSizeBytes > 0)
        } catch (error) {
          assert.ok(error instanceof HostletError && error.code === 'E_BAD_REQUEST', String(error))
        }
      })
    )
  })
})

interface Header {
  version?: number
  backingOffset?: bigint
  clusterBits?: number
  size?: bigint
  crypt?: number
  incompatible?: bigint
  headerBytes?: number
}

/** A version 3 header with an end of its extensions, as in QEMU docs/interop/qcow2.txt. */
function header({
  version = 3,
  backingOffset = 0n,
  clusterBits = 16,
  size = 1024n ** 2n,
  crypt = 0,
  incompatible = 0n,
  headerBytes = 104
}: Header): Buffer {
  const image = Buffer.alloc(4096)
  image.writeUInt32BE(0x514649fb, 0)
  image.writeUInt32BE(version, 4)
  image.writeBigUInt64BE(backingOffset, 8)
  image.writeUInt32BE(clusterBits, 20)
  image.writeBigUInt64BE(size, 24)
  image.writeUInt32BE(crypt, 32)
  image.writeBigUInt64BE(incompatible, 72)
  image.writeUInt32BE(headerBytes, 100)
  return image
}

function refused(image: Buffer, text: RegExp): void {
  assert.throws(
    () => readQcow2Header(image),
    (error) => {
      assert.ok(error instanceof HostletError)
      assert.equal(error.code, 'E_BAD_REQUEST')
      assert.match(error.message, text)
      return true
    }
  )
}

async function made(options: readonly string[], name = 'image.qcow2'): Promise<Buffer> {
  const path = join(directory, name)
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', ...options, path, '64M'])
  return readFileSync(path).subarray(0, 4096)
}

function installed(): boolean {
  try {
    execFileSync('qemu-img', ['--version'])
    return true
  } catch {
    return false
  }
}
