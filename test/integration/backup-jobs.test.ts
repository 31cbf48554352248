// Backup jobs on real libvirt: who may read them, chains of checkpoints over power cycles, and what is left after crashes.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import type { BackupJob } from '../../src/agent/host/backup-port.ts'
import { find, findAll, readXml } from '../../src/agent/host/xml-read.ts'
import { blockBytes } from '../../src/backup/disk.ts'
import { dirtyRanges, diskOf } from '../contract/backup.contract.ts'
import { rejectsWith, wait } from '../contract/hypervisor.contract.ts'
import { cannotRun } from '../contract/libvirt-fixture.ts'
import { aborted, type BackupBench, openBackupBench, pidOf } from './backup-bench.ts'

const run = promisify(execFile)

describe('backup jobs on libvirt', { skip: await cannotRun(), timeout: 90_000 }, () => {
  let bench: BackupBench
  before(async () => {
    bench = await openBackupBench()
  })
  after(() => bench?.dispose())

  it("are read by members of QEMU's group, and by nobody else", async () => {
    const { fixture, addVm, begin } = bench
    const vm = await addVm('group')
    const { name } = vm.specification
    await fixture.hypervisor.start(name, wait())
    const job = await begin(vm, { checkpoint: 'c1' })
    const xml = readXml(await fixture.virsh('backup-dumpxml', name))
    const socket = find(xml, 'server')?.attributes.socket ?? ''
    assert.match(socket, /\/hostlet-backup-[0-9a-f]{16}\.sock$/)
    const { stdout } = await run('getent', ['group', 'libvirt-qemu'])
    const gid = Number(stdout.split(':')[2])
    const other = fixture.uid + 999
    assert.equal(await connects(socket, { uid: other, gid }), 'connected')
    assert.equal(await connects(socket, { uid: other, gid: other }), 'EACCES')
    const [kept] = findAll(find(xml, 'disks'), 'disk').map((disk) => find(disk, 'scratch')?.attributes.file)
    await job.end({ ...wait(), keepCheckpoint: false })
    assert.equal(existsSync(socket), false)
    assert.equal(existsSync(kept ?? ''), false)
    await fixture.hypervisor.cutPower(name, wait())
  })

  it('follow what is written over power cycles and three checkpoints', async () => {
    const { fixture, addVm, begin } = bench
    const { hypervisor, fill } = fixture
    const vm = await addVm('chain')
    const { name } = vm.specification
    await hypervisor.start(name, wait())
    await end(await begin(vm, { checkpoint: 'c1' }))
    await fill(name, 'data', { offset: 0, length: blockBytes, byte: 1 })
    await end(await begin(vm, { checkpoint: 'c2', since: 'c1' }))
    await hypervisor.cutPower(name, wait())
    await hypervisor.start(name, wait())
    await fill(name, 'data', { offset: 4 * blockBytes, length: blockBytes, byte: 2 })
    await end(await begin(vm, { checkpoint: 'c3', since: 'c2' }))
    await fill(name, 'root', { offset: 2 * blockBytes, length: blockBytes, byte: 3 })
    const expected = {
      c1: { data: [0, 4], root: [2] },
      c2: { data: [4], root: [2] },
      c3: { data: [], root: [2] }
    }
    for (const [since, { data, root }] of Object.entries(expected)) {
      const job = await begin(vm, { checkpoint: 'probe', since })
      assert.deepEqual(await dirtyBlocks(job, 'data'), data, since)
      assert.deepEqual(await dirtyBlocks(job, 'root'), root, since)
      await job.end({ ...wait(), keepCheckpoint: false })
    }
    await hypervisor.cutPower(name, wait())
    await hypervisor.removeCheckpoint(name, 'c1', wait())
    assert.equal((await hypervisor.findVm(name, wait()))?.state, 'stopped')
    assert.deepEqual(await bench.bitmaps(bench.diskPath(vm, 'data')), ['hostlet-c2', 'hostlet-c3'])
  })

  it('tell libvirt again of a checkpoint that it lost', async () => {
    const { fixture, addVm, begin } = bench
    const vm = await addVm('lost')
    const { name } = vm.specification
    await fixture.hypervisor.start(name, wait())
    const job = await begin(vm, { checkpoint: 'c1' })
    await end(job)
    await fixture.fill(name, 'data', { offset: blockBytes, length: blockBytes, byte: 1 })
    await fixture.virsh('checkpoint-delete', name, 'hostlet-c1', '--metadata')
    await rejectsWith('E_STALE', begin(vm, { checkpoint: 'c2', since: 'c1' }))
    await fixture.hypervisor.redefineCheckpoint(name, job.checkpointXml, wait())
    const next = await begin(vm, { checkpoint: 'c2', since: 'c1' })
    assert.deepEqual(await dirtyBlocks(next, 'data'), [1])
    await end(next)
    await fixture.hypervisor.cutPower(name, wait())
  })

  it('end when QEMU is killed, and a spoilt checkpoint is refused and cleared', async () => {
    const { fixture, addVm, begin } = bench
    const { hypervisor } = fixture
    const vm = await addVm('killed')
    const { name } = vm.specification
    await hypervisor.start(name, wait())
    await end(await begin(vm, { checkpoint: 'c1' }))
    const job = await begin(vm, { checkpoint: 'c2', since: 'c1' })
    const source = await diskOf(job, 'data').open(wait())
    process.kill(await pidOf(vm), 'SIGKILL')
    assert.equal((await aborted(job.signal)).code, 'E_UNAVAILABLE')
    await rejectsWith('E_UNAVAILABLE', source.read(0, Buffer.alloc(blockBytes), wait()))
    await job.end({ ...wait(), keepCheckpoint: false })
    assert.deepEqual(await bench.scratch(), [])
    await hypervisor.start(name, wait())
    await rejectsWith('E_STALE', begin(vm, { checkpoint: 'c3', since: 'c1' }))
    assert.deepEqual(await hypervisor.clearBackup(name, [], wait()), ['checkpoint c1'])
    await end(await begin(vm, { checkpoint: 'c4' }))
    await end(await begin(vm, { checkpoint: 'c5', since: 'c4' }))
    await hypervisor.cutPower(name, wait())
    assert.deepEqual(await bench.bitmaps(bench.diskPath(vm, 'data')), ['hostlet-c4', 'hostlet-c5'])
  })

  it("of an agent that was killed are cleared by the next one, and nobody else's job is", async () => {
    const { fixture, addVm, begin } = bench
    const vm = await addVm('orphaned')
    const { name } = vm.specification
    await fixture.hypervisor.start(name, wait())
    await end(await begin(vm, { checkpoint: 'c1' }))
    await begin(vm, { checkpoint: 'c2', since: 'c1' })
    const next = await bench.another()
    const request = { snapshot: 'next', roles: ['data'], checkpoint: 'c3', since: null } as const
    await rejectsWith('E_BUSY', next.beginBackup(name, request, wait()))
    const cleared = await next.clearBackup(name, ['c1'], wait())
    assert.deepEqual(
      cleared.map((what) => what.split(' ')[0]?.replace(/^hl-t.*scratch.*/, 'scratch')),
      ['backup', 'scratch', 'scratch', 'checkpoint']
    )
    assert.deepEqual(await bench.scratch(), [])
    assert.deepEqual(await next.listCheckpoints(name, wait()), ['c1'])
    const foreign = join(fixture.directory, 'foreign.xml')
    const id = (await fixture.virsh('domid', name)).trim()
    const path = `/var/lib/libvirt/qemu/domain-${id}-${name.slice(0, 20)}/foreign.sock`
    await writeFile(
      foreign,
      `<domainbackup mode='pull'><server transport='unix' socket='${path}'/><disks><disk name='vda' backup='yes' type='file'><driver type='qcow2'/><scratch file='${fixture.pool.path}/foreign.qcow2'/></disk><disk name='vdb' backup='no'/><disk name='sda' backup='no'/></disks></domainbackup>`
    )
    await fixture.virsh('backup-begin', name, foreign)
    await rejectsWith('E_BUSY', next.beginBackup(name, request, wait()))
    assert.deepEqual(await next.clearBackup(name, ['c1'], wait()), [])
    assert.match(await fixture.virsh('backup-dumpxml', name), /foreign\.sock/)
    await fixture.virsh('domjobabort', name)
    await fixture.hypervisor.cutPower(name, wait())
  })

  it('of a VM that was off leave it off after the agent was killed, and running if it should be', async () => {
    const { addVm, begin } = bench
    for (const wanted of ['stopped', 'running'] as const) {
      const vm = await addVm(`paused-${wanted}`)
      const { name } = vm.specification
      await begin(vm, { checkpoint: 'c1' })
      const next = await bench.another()
      assert.equal((await next.findVm(name, wait()))?.reason, 'backup')
      await next.annotate(name, { wanted }, wait())
      assert.ok((await next.clearBackup(name, [], wait())).includes('machine that stood paused'))
      assert.equal((await next.findVm(name, wait()))?.state, wanted)
      await next.cutPower(name, wait())
    }
    assert.deepEqual(await bench.scratch(), [])
  })

  it('leave no socket where the machine keeps its files', async () => {
    const { fixture, addVm, begin } = bench
    const vm = await addVm('socket')
    const { name } = vm.specification
    await fixture.hypervisor.start(name, wait())
    const job = await begin(vm, { checkpoint: 'c1' })
    const xml = readXml(await fixture.virsh('backup-dumpxml', name))
    const socket = find(xml, 'server')?.attributes.socket ?? ''
    await end(job)
    const left = (await readdir(dirname(socket))).filter((file) => file.startsWith('hostlet-backup-'))
    assert.deepEqual(left, [])
    await fixture.hypervisor.cutPower(name, wait())
  })
})

async function end(job: BackupJob): Promise<void> {
  await job.end({ ...wait(), keepCheckpoint: true })
}

/** Numbers of the blocks that are dirty. */
async function dirtyBlocks(job: BackupJob, role: 'root' | 'data'): Promise<number[]> {
  const source = await diskOf(job, role).open(wait())
  const ranges = await dirtyRanges(source)
  await source.close()
  return ranges.flatMap(([offset, length]) =>
    Array.from({ length: length / blockBytes }, (_, index) => offset / blockBytes + index)
  )
}

/** What a process of that user and group meets at a socket. */
async function connects(path: string, user: { uid: number; gid: number }): Promise<string> {
  const program = `
    const socket = require('node:net').connect(${JSON.stringify(path)})
    socket.on('connect', () => { console.log('connected'); socket.destroy() })
    socket.on('error', ({ code }) => console.log(code))`
  const { stdout } = await run(process.execPath, ['-e', program], user)
  return stdout.trim()
}
