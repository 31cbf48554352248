// Prepared encrypted disks become disks of any size on any base, and QEMU finds nothing amiss in them.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { copyFile, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { formatLuks, newPassphrase } from '../../../src/agent/host/luks-format.ts'
import { asDisk, blankBytes, clusterBytes, luksHeaderRange } from '../../../src/agent/host/qcow2-luks.ts'
import { systemClock } from '../../../src/lib/clock.ts'

const run = promisify(execFile)
const gibibyte = 1024 ** 3

describe('a prepared encrypted disk', { timeout: 170_000 }, () => {
  let directory: string
  let blank: string
  let base: string
  const passphrase = newPassphrase()
  const content = randomBytes(64 * 1024)

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'hostlet-luks-'))
    blank = join(directory, 'blank.qcow2')
    const wait = { clock: systemClock, signal: AbortSignal.timeout(160_000) }
    await formatLuks({ path: blank, passphrase, sizeBytes: blankBytes }, wait)
    base = join(directory, 'base.raw')
    await writeFile(base, content)
    await writeFile(join(directory, 'key'), passphrase, { mode: 0o600 })
  })
  after(() => rm(directory, { recursive: true, force: true }))

  for (const sizeBytes of [64 * 1024, 128 * 1024 ** 2, 512 * 1024 ** 2, 10 * gibibyte + 512, blankBytes])
    it(`is one of ${sizeBytes} bytes with the content of its base`, async () => {
      const path = await disk({ sizeBytes, backing: { path: base, format: 'raw' } })
      const info = JSON.parse((await run('qemu-img', ['info', '--output=json', path])).stdout)
      assert.equal(info['virtual-size'], sizeBytes)
      assert.equal(info['full-backing-filename'], base)
      assert.equal(info['backing-filename-format'], 'raw')
      const { stdout } = await run('qemu-img', ['check', ...opened(path)])
      assert.match(stdout, /No errors were found/)
      await run('qemu-io', [...opened(path), '-c', `write -P 7 ${sizeBytes - 512} 512`])
      const { stdout: read } = await run('qemu-io', ['-r', ...opened(path), '-c', 'read -v 0 512'])
      assert.ok(
        read.includes(
          content
            .subarray(0, 2)
            .toString('hex')
            .replace(/(..)(..)/, '$1 $2')
        )
      )
      await run('qemu-io', ['-r', ...opened(path), '-c', `read -P 7 ${sizeBytes - 512} 512`])
      assert.match((await run('qemu-img', ['check', ...opened(path)])).stdout, /No errors were found/)
      assert.equal((await readFile(path)).includes(Buffer.alloc(512, 7)), false)
    })

  it('is an empty one without a base', async () => {
    const path = await disk({ sizeBytes: gibibyte })
    const info = JSON.parse((await run('qemu-img', ['info', '--output=json', path])).stdout)
    assert.equal(info['backing-filename'], undefined)
    await run('qemu-io', ['-r', ...opened(path), '-c', `read -P 0 0 4096`])
  })

  it('tells where its keys lie', async () => {
    const first = (await readFile(blank)).subarray(0, clusterBytes)
    const { offsetBytes, lengthBytes } = luksHeaderRange(Buffer.from(first))
    const header = (await readFile(blank)).subarray(offsetBytes, offsetBytes + lengthBytes)
    assert.equal(header.subarray(0, 4).toString(), 'LUKS')
    assert.ok(lengthBytes > 1024 ** 2 && lengthBytes < 4 * 1024 ** 2)
  })

  it('is refused where it is not as it was made, and nothing else is taken for one', () => {
    assert.throws(() => asDisk(randomBytes(clusterBytes), { sizeBytes: 512 }), /not as it was made/)
    assert.throws(() => luksHeaderRange(randomBytes(clusterBytes)), /not the encrypted qcow2/)
  })

  async function disk(identity: Parameters<typeof asDisk>[1]): Promise<string> {
    const path = join(directory, `${identity.sizeBytes}.qcow2`)
    await copyFile(blank, path)
    await using file = await open(path, 'r+')
    const first = Buffer.alloc(clusterBytes)
    await file.read(first, 0, clusterBytes, 0)
    await file.write(asDisk(first, identity), 0, clusterBytes, 0)
    return path
  }

  function opened(path: string): string[] {
    const key = `secret,id=k,file=${join(directory, 'key')}`
    return ['--object', key, '--image-opts', `driver=qcow2,encrypt.key-secret=k,file.filename=${path}`]
  }
})
