// The attack on a stolen disk of a host: QEMU's log and libvirt's key of a VM give the passphrase of its disks where both lie on it, and do not as hostlet sets a host up.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createDecipheriv, randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { isInMemory } from '../../src/agent/doctor/file-systems.ts'
import { qemuLogDirectory } from '../../src/agent/host/qemu-logs.ts'
import { LeakHost } from './leak-host.ts'

interface Sealed {
  readonly data: Buffer
  readonly iv: Buffer
}

for (const logs of ['disk', 'memory'] as const)
  describe(`a stolen disk of a host whose QEMU logs are on ${logs}`, { skip: cannotAttack() }, () => {
    let host: LeakHost
    /** What a passphrase can be made of: bytes of the log, and libvirt's key. */
    let log: Buffer
    let key: Buffer
    before(async () => {
      host = await LeakHost.start(logs)
      log = await host.readSeen(`${qemuLogDirectory}/${host.vm}.log`)
      key = await host.readSeen(await host.keyPath())
    })
    after(() => host?.[Symbol.asyncDispose]())

    it('the two together are the passphrase, which opens the disk', async () => {
      const passphrase = decrypt(sealedIn(log), key)
      assert.equal(passphrase, host.passphrase)
      assert.ok((await host.openDisk(passphrase)).includes(host.canary), 'the guest’s bytes')
    })

    it('holds both while the VM runs, or one of them', async () => {
      const onDisk = {
        log: !isInMemory((await statfs(host.seen(qemuLogDirectory))).type),
        key: !isInMemory((await statfs(host.seen(await host.keyPath()))).type)
      }
      assert.deepEqual(onDisk, { log: logs === 'disk', key: true })
      const text = sealedText(log)
      assert.deepEqual((await host.filesWith(key)).length, 1)
      assert.deepEqual((await host.filesWith(text)).length, logs === 'disk' ? 1 : 0)
      assert.deepEqual(await host.blocksWith(text, key), [logs === 'disk', true])
    })

    it('holds neither passphrase nor plaintext in any form, in files or blocks', async () => {
      for (const form of formsOf(host)) assert.deepEqual(await host.filesWith(form), [])
      assert.deepEqual(
        await host.blocksWith(...formsOf(host)),
        formsOf(host).map(() => false)
      )
    })

    it('would be found by this search, in a file and after its removal', async () => {
      const path = join(host.root, 'clear')
      const planted = Buffer.concat([Buffer.from('control '), host.canary.subarray(0, 32)])
      await writeFile(path, Buffer.concat([randomBytes(5_000), planted]), { flush: true })
      assert.deepEqual(await host.filesWith(planted), [path])
      await rm(path)
      assert.deepEqual(await host.filesWith(planted), [])
      assert.deepEqual(await host.blocksWith(planted), [true])
    })

    it('after teardown: still has what removed files held, so the log must never have been there', async () => {
      const text = sealedText(log)
      await host.teardown()
      assert.deepEqual(await host.filesWith(text), [])
      assert.deepEqual(await host.filesWith(key), [])
      const [hasLog, hasKey] = await host.blocksWith(text, key)
      assert.deepEqual([hasLog, hasKey], [logs === 'disk', true])
      assert.deepEqual(
        await host.blocksWith(...formsOf(host)),
        formsOf(host).map(() => false)
      )
    })
  })

/** The passphrase as text, as bytes and in the usual encodings; the guest's own bytes. */
function formsOf({ passphrase, canary }: LeakHost): Buffer[] {
  const bytes = Buffer.from(passphrase, 'base64')
  return [
    Buffer.from(passphrase),
    bytes,
    Buffer.from(Buffer.from(passphrase).toString('base64')),
    Buffer.from(bytes.toString('base64url')),
    Buffer.from(bytes.toString('hex')),
    Buffer.from(Buffer.from(passphrase).toString('hex')),
    canary
  ]
}

/** `-object {"qom-type":"secret",…,"data":…,"keyid":"masterKey0","iv":…}`, as the log quotes QEMU's command line. */
function sealedIn(log: Buffer): Sealed {
  const found = /"qom-type":"secret","id":"[^"]+","data":"([^"]+)","keyid":"masterKey0","iv":"([^"]+)"/.exec(
    log.toString()
  )
  assert.ok(found?.[1] && found[2], 'no secret in the log')
  return { data: Buffer.from(found[1], 'base64'), iv: Buffer.from(found[2], 'base64') }
}

function sealedText(log: Buffer): Buffer {
  return Buffer.from(sealedIn(log).data.toString('base64'))
}

function decrypt({ data, iv }: Sealed, key: Buffer): string {
  const decipher = createDecipheriv('aes-256-cbc', key, iv)
  return Buffer.concat([decipher.update(data), decipher.final()]).toString()
}

function cannotAttack(): string | false {
  if (process.getuid?.() !== 0) return 'takes root'
  if (!existsSync('/usr/sbin/libvirtd')) return 'takes libvirtd: run "sh scripts/setup.sh"'
  if (spawnSync('mkfs.ext4', ['-V']).status !== 0) return 'takes mkfs.ext4'
  if (spawnSync('losetup', ['-f']).status !== 0) return 'this machine has no loop devices'
  return false
}
