// What is read of a QEMU below /proc, from a tree that stands for it.

import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { isLed } from '../../../src/agent/audit/network.ts'
import { readProcess } from '../../../src/agent/audit/process.ts'

const uuid = '0b54e6f2-6b53-4a3e-9d1c-0123456789ab'
const status = (uid: number) =>
  `Name:\tqemu\nUid:\t${uid}\t${uid}\t${uid}\t${uid}\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n`

describe('the process of a VM', () => {
  let proc: string
  beforeEach(async () => {
    proc = await mkdtemp(join(tmpdir(), 'hostlet-proc-'))
    await put('1/cmdline', 'init\0')
    await put('1/status', status(0))
    await put('1/mountinfo', '22 1 0:1 / / rw - ext4 a rw\n')
    await put('42/cmdline', ['qemu', '-uuid', uuid, '-sandbox', 'on,spawn=deny', ''].join('\0'))
    await put('42/status', status(1_900_000_001))
    await put('42/mountinfo', '43 1 0:1 / / rw - ext4 a rw\n')
    await put(
      '42/limits',
      'Limit   Soft  Hard  Units\nMax core file size   0   0   bytes\nMax processes   512   512   processes\n'
    )
    await put(
      'net/tcp',
      'sl\n 0: 0100007F:170C 00000000:0000 0A 0:0 0:0 0 1900000001 0 1\n 1: 0100007F:0016 00000000:0000 0A 0:0 0:0 0 0 0 2\n'
    )
  })
  afterEach(() => rm(proc, { recursive: true, force: true }))

  async function put(path: string, text: string): Promise<void> {
    await mkdir(dirname(join(proc, path)), { recursive: true })
    await writeFile(join(proc, path), text)
  }

  async function found() {
    const facts = await readProcess(uuid, proc)
    assert.ok(typeof facts === 'object', String(facts))
    return facts
  }

  it('is known by the argument, not by a mention of the UUID', async () => {
    await put('7/cmdline', `grep\0${uuid}\0`)
    const facts = await found()
    assert.deepEqual([facts.pid, facts.sandbox, facts.seccomp], [42, 'on,spawn=deny', 2])
    assert.deepEqual([facts.coreLimit, facts.processLimit, facts.label], ['0', '512', undefined])
  })

  it('has mounts of its own when it shares no number with the host', async () => {
    assert.equal((await found()).ownMounts, true)
    await put('42/mountinfo', '22 1 0:1 / / rw - ext4 a rw\n')
    assert.equal((await found()).ownMounts, false)
    await rm(join(proc, '1/mountinfo'))
    assert.equal((await found()).ownMounts, undefined)
  })

  it('has the sockets of its user that listen, and no others', async () => {
    assert.deepEqual((await found()).listening, ['tcp port 5900'])
  })

  it('is told when another process has its user', async () => {
    assert.deepEqual((await found()).sameUser, [])
    await put('50/status', status(1_900_000_001))
    assert.deepEqual((await found()).sameUser, [50])
  })

  it('is hidden where the first process is too, and otherwise not there', async () => {
    await rm(join(proc, '42'), { recursive: true })
    assert.equal(await readProcess(uuid, proc), 'none')
    await rm(join(proc, '1'), { recursive: true })
    assert.equal(await readProcess(uuid, proc), 'hidden')
  })
})

describe('rules at a port', () => {
  const map = (name: string, ...devices: string[]) => ({
    map: { name, elem: devices.map((device) => [device, { goto: { target: 'x' } }]) }
  })

  it('are there when both ways lead to chains', () => {
    assert.equal(isLed([map('from', 'hl1'), map('to', 'hl0', 'hl1')], 'hl1'), true)
    assert.equal(isLed([map('from', 'hl1'), map('to')], 'hl1'), false)
    assert.equal(isLed([map('from', 'hl12'), map('to', 'hl12')], 'hl1'), false)
    assert.equal(isLed([], 'hl1'), false)
  })
})
