// A change of passphrase that is killed at any instant: a key that is kept opens the disk, and the change can be ended.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { copyFile, cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import { formatLuks, newPassphrase } from '../../src/agent/host/luks-format.ts'
import { DiskKeys } from '../../src/agent/keys/disk-keys.ts'
import { HostKey } from '../../src/agent/keys/host-key.ts'
import { systemClock } from '../../src/lib/clock.ts'

const run = promisify(execFile)
const child = join(import.meta.dirname, 'rekey-child.ts')
const points = [
  'the new one is kept',
  'half of write 1',
  'write 1',
  'half of write 2',
  'write 2',
  'both open it',
  'the new one is used',
  'half of write 3',
  'write 3',
  'half of write 4',
  'write 4',
  'the old one is destroyed'
]

describe('a change of passphrase', { timeout: 1_200_000 }, () => {
  let origin: string
  const id = randomUUID()
  const first = newPassphrase()

  before(async () => {
    origin = await mkdtemp(join(tmpdir(), 'hostlet-rekey-'))
    const path = join(origin, 'disk.qcow2')
    const wait = { clock: systemClock, signal: AbortSignal.timeout(300_000) }
    await formatLuks({ path, passphrase: first, sizeBytes: 8 * 1024 ** 2 }, wait)
    await qemuIo(origin, first, 'write -P 7 0 65536')
    const keys = await keysIn(origin)
    const vm = { name: 'web-1', uuid: randomUUID() }
    await keys.keep({ id, vm, volume: 'disk.qcow2', passphrase: first })
  })
  after(() => rm(origin, { recursive: true, force: true }))

  it('leaves a disk that opens with the new one, and with the old one no more', async () => {
    const directory = await copy()
    await run(process.execPath, [child, directory, id, ''])
    await ended(directory)
    await rm(directory, { recursive: true })
  })

  for (const point of points)
    it(`killed at "${point}" leaves a disk that its kept key opens, and ends when asked again`, async () => {
      const directory = await copy()
      await assert.rejects(run(process.execPath, [child, directory, id, point]), { signal: 'SIGKILL' })
      assert.ok(await opens(directory, await (await keysIn(directory)).unwrap(id)))
      await run(process.execPath, [child, directory, id, ''])
      await ended(directory)
      await rm(directory, { recursive: true })
    })

  async function ended(directory: string): Promise<void> {
    const now = await (await keysIn(directory)).unwrap(id)
    assert.notEqual(now, first)
    assert.equal(await opens(directory, first), false)
    await qemuIo(directory, now, 'read -P 7 0 65536')
    const { stdout } = await run('qemu-img', ['info', '--output=json', join(directory, 'disk.qcow2')])
    const { slots } = JSON.parse(stdout)['format-specific'].data.encrypt
    assert.equal(slots.filter(({ active }: { active: boolean }) => active).length, 1)
  }

  async function copy(): Promise<string> {
    const directory = await mkdtemp(join(tmpdir(), 'hostlet-rekey-'))
    await mkdir(join(directory, 'keys'), { mode: 0o700 })
    await cp(join(origin, 'keys'), join(directory, 'keys'), { recursive: true })
    for (const name of ['disk.qcow2', 'host-key.jwk'])
      await copyFile(join(origin, name), join(directory, name))
    return directory
  }

  async function keysIn(directory: string): Promise<DiskKeys> {
    const hostKey = await HostKey.open({ stateDirectory: directory, clock: systemClock })
    const keys = new DiskKeys({
      directory: join(directory, 'keys'),
      hostKey: () => hostKey,
      clock: systemClock
    })
    await keys.prepare()
    return keys
  }

  async function opens(directory: string, passphrase: string): Promise<boolean> {
    return await qemuIo(directory, passphrase, 'read -P 7 0 65536').then(
      () => true,
      () => false
    )
  }

  async function qemuIo(directory: string, passphrase: string, command: string): Promise<void> {
    const key = join(directory, 'test-key')
    await writeFile(key, passphrase, { mode: 0o600 })
    const image = `driver=qcow2,encrypt.key-secret=k,file.filename=${join(directory, 'disk.qcow2')}`
    const { stdout } = await run('qemu-io', [
      '--object',
      `secret,id=k,file=${key}`,
      '--image-opts',
      image,
      '-c',
      command
    ])
    assert.doesNotMatch(stdout, /failed/i)
  }
})
