// Passphrases tried on LUKS headers as qemu-img makes them: every slot that is in use opens, nothing else does.

import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { formatLuks, newPassphrase, retryLuks, runLuks } from '../../../src/agent/host/luks-format.ts'
import { opensLuks } from '../../../src/agent/host/luks-unlock.ts'
import { clusterBytes, luksHeaderRange } from '../../../src/agent/host/qcow2-luks.ts'
import { systemClock } from '../../../src/lib/clock.ts'

describe('a LUKS header', { timeout: 120_000 }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'hostlet-luks-'))
  const path = join(directory, 'disk.qcow2')
  const [first, second] = [newPassphrase(), newPassphrase()]
  const wait = { signal: new AbortController().signal, clock: systemClock }
  before(() => formatLuks({ path, passphrase: first, sizeBytes: 2 ** 30 }, wait))
  after(() => rmSync(directory, { recursive: true }))

  function header(): Buffer {
    const file = readFileSync(path)
    const { offsetBytes, lengthBytes } = luksHeaderRange(file.subarray(0, clusterBytes))
    return file.subarray(offsetBytes, offsetBytes + lengthBytes)
  }

  it('opens with its passphrase and with no other', async () => {
    assert.equal(await opensLuks(header(), first), true)
    for (const wrong of [second, '', `${first} `]) assert.equal(await opensLuks(header(), wrong), false)
  })

  it('opens with each of two while it has two', async () => {
    for (const [name, passphrase] of Object.entries({ first, second }))
      writeFileSync(join(directory, name), passphrase)
    const secrets = ['first', 'second'].flatMap((name) => [
      '--object',
      `secret,id=${name},file=${join(directory, name)}`
    ])
    const image = `driver=qcow2,file.filename=${path},encrypt.format=luks,encrypt.key-secret=first`
    const change = 'encrypt.state=active,encrypt.new-secret=second,encrypt.iter-time=10'
    await retryLuks(
      wait,
      () => runLuks('qemu-img', ['amend', '-q', ...secrets, '-o', change, '--image-opts', image], wait),
      () => Promise.resolve()
    )
    for (const passphrase of [first, second]) assert.equal(await opensLuks(header(), passphrase), true)
    assert.equal(await opensLuks(header(), newPassphrase()), false)
  })

  it('that is damaged is told apart from one that another passphrase opens', async () => {
    for (const offset of [0, 6, 10, 45, 75, 111]) {
      const bad = Buffer.from(header())
      bad[offset] = (bad[offset] ?? 0) ^ 0x40
      await assert.rejects(opensLuks(bad, first), { code: 'E_CORRUPT' }, String(offset))
    }
    const endless = Buffer.from(header())
    endless.writeUInt32BE(0xffffffff, 208 + 4)
    await assert.rejects(opensLuks(endless, first), { code: 'E_CORRUPT' })
    await assert.rejects(opensLuks(header().subarray(0, 10_000), first), { code: 'E_CORRUPT' })
    const salted = Buffer.from(header())
    for (const slot of [208, 256]) salted[slot + 8] = (salted[slot + 8] ?? 0) ^ 1
    assert.equal(await opensLuks(salted, first), false)
  })
})
