// Scratch files on real libvirt: encrypted where the disk is, and never so large that the guest would meet a full disk.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { chmod, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import type { VmDefinition } from '../../src/agent/host/hypervisor.ts'
import { blockBytes } from '../../src/backup/disk.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { diskOf } from '../contract/backup.contract.ts'
import { rejectsWith, wait } from '../contract/hypervisor.contract.ts'
import { cannotRun } from '../contract/libvirt-fixture.ts'
import { aborted, type BackupBench, openBackupBench } from './backup-bench.ts'

const run = promisify(execFile)
const mebibyte = 1024 ** 2

describe('scratch files of backup jobs', { skip: await cannotRun(), timeout: 90_000 }, () => {
  let bench: BackupBench
  before(async () => {
    bench = await openBackupBench()
  })
  after(() => bench?.dispose())

  it('hold nothing in clear of an encrypted disk, and their keys are forgotten', async () => {
    const { fixture, begin } = bench
    const { hypervisor, virsh } = fixture
    const vm = await bench.addVm('sealed')
    const { name, uuid } = vm.specification
    const disk = await encryptDataDisk(bench, vm)
    const canary = await canaryFile(fixture.directory)
    try {
      await hypervisor.start(name, wait())
      await writeFrom(bench, name, 'data', canary.path)
      await writeFrom(bench, name, 'root', canary.path)
      const job = await begin(vm, { checkpoint: 'c1' })
      const secrets = await virsh('secret-list')
      assert.match(secrets, new RegExp(`hostlet-scratch/${uuid}/`))
      await fixture.fill(name, 'data', { offset: 0, length: blockBytes, byte: 0x22 })
      await fixture.fill(name, 'root', { offset: 0, length: blockBytes, byte: 0x22 })
      const source = await diskOf(job, 'data').open(wait())
      const read = Buffer.alloc(blockBytes)
      await source.read(0, read, wait())
      assert.ok(read.includes(canary.bytes), 'the view shows what was there before')
      await source.close()
      const holders = await holdersOf(bench, canary.bytes)
      assert.deepEqual(
        holders.map((file) => /(root|data)/.exec(file)?.[0]),
        ['root'],
        'the file of the disk that is not encrypted is found, so the search finds'
      )
      await job.end({ ...wait(), keepCheckpoint: true })
      assert.doesNotMatch(await virsh('secret-list'), /hostlet-scratch/)
      const next = await begin(vm, { checkpoint: 'c2', since: 'c1' })
      await next.end({ ...wait(), keepCheckpoint: true })
      await hypervisor.cutPower(name, wait())
      assert.deepEqual(await bench.scratch(), [])
    } finally {
      await virsh('secret-undefine', disk.secret)
    }
  })

  it('make the backup fail before the guest meets a full disk, and refuse one that has no room', async () => {
    const { fixture } = bench
    const path = join(fixture.directory, 'scratch')
    await mkdir(path)
    await chmod(path, 0o711)
    await run('mount', ['-t', 'tmpfs', '-o', 'size=96m,mode=711', 'tmpfs', path])
    try {
      await runFull(bench, path)
    } finally {
      await fixture.virsh('pool-destroy', `${fixture.prefix}-scratch`).catch(() => undefined)
      await run('umount', ['-l', path])
    }
  })
})

async function runFull(bench: BackupBench, path: string): Promise<void> {
  const { fixture } = bench
  const reserveBytes = 64 * mebibyte
  const pool = { name: `${fixture.prefix}-scratch`, path }
  const hypervisor = await bench.another({ scratch: { pool, reserveBytes } })
  const vm = await bench.addVm('full', { dataDiskBytes: 160 * mebibyte })
  const { name } = vm.specification
  await hypervisor.start(name, wait())
  const length = 40 * mebibyte
  const places = [0, 1, 2, 3].map((index) => index * length)
  for (const offset of places) await fixture.fill(name, 'data', { offset, length, byte: 0x11 })
  const request = { snapshot: 'full', roles: ['data'], checkpoint: 'c1', since: null } as const
  const job = await hypervisor.beginBackup(name, request, wait())
  // The first leaves less than the reserve; all of them would not fit.
  for (const [index, offset] of places.entries()) {
    await fixture.fill(name, 'data', { offset, length, byte: 0x22 })
    if (index === 0) assert.equal((await aborted(job.signal)).code, 'E_CAPACITY')
    if (index === 0) await untilFree(path, reserveBytes)
  }
  assert.equal((await hypervisor.findVm(name, wait()))?.state, 'running')
  assert.equal((await fixture.virsh('domblkerror', name)).trim(), 'No errors found')
  await job.end({ ...wait(), keepCheckpoint: false })
  assert.deepEqual(await hypervisor.listCheckpoints(name, wait()), [])
  await run('fallocate', ['-l', '60M', join(path, 'ballast')])
  await rejectsWith('E_CAPACITY', hypervisor.beginBackup(name, { ...request, snapshot: 'none' }, wait()))
  assert.equal((await hypervisor.findVm(name, wait()))?.state, 'running')
  await rm(join(path, 'ballast'))
  await hypervisor.cutPower(name, wait())
}

/** A lost job gives its room back by itself. */
async function untilFree(path: string, bytes: number): Promise<void> {
  const { signal } = wait()
  for (;;) {
    const { stdout } = await run('df', ['--output=avail', '-B1', path])
    if (Number(stdout.split('\n')[1]) > bytes + 16 * mebibyte) return
    await systemClock.sleep(50, signal)
  }
}

/** Makes the data disk of a VM a LUKS one, which the VM's definition knows. */
async function encryptDataDisk(bench: BackupBench, vm: VmDefinition): Promise<{ secret: string }> {
  const { virsh, directory } = bench.fixture
  const { name, uuid } = vm.specification
  const path = bench.diskPath(vm, 'data')
  const secret = randomUUID()
  const keyPath = join(directory, 'key')
  await writeFile(keyPath, randomBytes(32).toString('base64'), { mode: 0o600 })
  const options = 'compat=1.1,encrypt.format=luks,encrypt.key-secret=k,encrypt.iter-time=10'
  const size = String(vm.specification.dataDiskBytes)
  await makeLuks([
    'create',
    '-q',
    '-f',
    'qcow2',
    '--object',
    `secret,id=k,file=${keyPath}`,
    '-o',
    options,
    path,
    size
  ])
  const secretXml = join(directory, 'secret.xml')
  await writeFile(
    secretXml,
    `<secret ephemeral='yes' private='yes'><uuid>${secret}</uuid><usage type='volume'><volume>${uuid}</volume></usage></secret>`
  )
  await virsh('secret-define', secretXml)
  await virsh('secret-set-value', secret, '--file', keyPath, '--plain')
  const before = await virsh('dumpxml', '--inactive', name)
  const element = `<encryption format='luks'><secret type='passphrase' uuid='${secret}'/></encryption>`
  const after = before.replace(`<source file='${path}'/>`, `<source file='${path}'>${element}</source>`)
  assert.notEqual(after, before)
  const domainXml = join(directory, 'sealed.xml')
  await writeFile(domainXml, after)
  await virsh('define', domainXml)
  await rm(keyPath)
  return { secret }
}

/** QEMU measures CPU time, of which a busy machine gives it none now and then. */
async function makeLuks(args: string[]): Promise<void> {
  for (let left = 5; ; left--) {
    try {
      await run('qemu-img', args)
      return
    } catch (error) {
      if (left === 1) throw error
    }
  }
}

async function canaryFile(directory: string): Promise<{ path: string; bytes: Buffer }> {
  const bytes = randomBytes(64)
  const path = join(directory, 'canary')
  await writeFile(path, Buffer.concat(Array.from({ length: blockBytes / bytes.length }, () => bytes)))
  await chmod(path, 0o644)
  return { path, bytes }
}

async function writeFrom(bench: BackupBench, vm: string, role: 'root' | 'data', file: string): Promise<void> {
  const device = `/machine/peripheral/virtio-disk${role === 'root' ? 0 : 1}/virtio-backend`
  const command = `qemu-io -d ${device} "write -s ${file} 0 ${blockBytes}"`
  assert.equal((await bench.fixture.virsh('qemu-monitor-command', '--hmp', vm, command)).trim(), '')
}

/** Files of the pool that hold these bytes. */
async function holdersOf(bench: BackupBench, bytes: Buffer): Promise<string[]> {
  const { stdout } = await run('find', [bench.fixture.pool.path, '-type', 'f'])
  const holders: string[] = []
  for (const path of stdout.trim().split('\n')) {
    if ((await readFile(path)).includes(bytes)) holders.push(path)
  }
  return holders
}
