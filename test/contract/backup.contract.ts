// What every hypervisor port must do about backups, whichever carries it.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import type { BackupDisk, BackupJob, BackupRequest } from '../../src/agent/host/backup-port.ts'
import type { VmDefinition } from '../../src/agent/host/hypervisor.ts'
import { blockBytes, type DiskSource } from '../../src/backup/disk.ts'
import type { DiskRole } from '../../src/protocol/backup.ts'
import {
  definitionOf,
  type HypervisorSubject,
  makeDisks,
  rejectsWith,
  removeVm,
  storeBase,
  wait
} from './hypervisor.contract.ts'

const run = promisify(execFile)

export interface BackupSubject extends HypervisorSubject {
  /** Fills a range of a disk of a machine that is on, as its guest would. */
  fill(vm: string, role: DiskRole, range: { offset: number; length: number; byte: number }): Promise<void>
}

export function describeBackups(
  title: string,
  options: { skip?: string | false; open: () => Promise<BackupSubject> }
): void {
  describe(`contract of backups: ${title}`, { skip: options.skip }, () => {
    let subject: BackupSubject
    let definition: VmDefinition
    let name = ''
    before(async () => {
      subject = await options.open()
      const { hypervisor, network } = subject
      await hypervisor.ensureNetwork(network, wait())
      await storeBase(hypervisor)
      definition = definitionOf(subject, 'backup', { data: true })
      name = definition.specification.name
      await makeDisks(hypervisor, definition)
      await hypervisor.define(definition, wait())
    })
    after(async () => {
      if (definition !== undefined) await removeVm(subject.hypervisor, definition)
      await subject?.dispose()
    })
    tests(() => ({ subject, definition, name }))
  })
}

type Ask = () => { subject: BackupSubject; definition: VmDefinition; name: string }

function tests(ask: Ask): void {
  it('shows the disks of an instant, whatever is written after it', async () => {
    const { subject, name } = ask()
    const { hypervisor } = subject
    await hypervisor.start(name, wait())
    await subject.fill(name, 'data', { offset: blockBytes, length: blockBytes, byte: 0x11 })
    const job = await begin(ask(), { snapshot: 's1', checkpoint: 'c1' })
    assert.equal(job.consistency, 'crash')
    assert.deepEqual(rolesOf(job), ['root', 'data'])
    await subject.fill(name, 'data', { offset: blockBytes, length: 2 * blockBytes, byte: 0x22 })
    const source = await diskOf(job, 'data').open(wait())
    assert.equal(source.sizeBytes, definitionBytes(ask().definition, 'data'))
    assert.deepEqual(await dirtyRanges(source), [[0, source.sizeBytes]])
    const content = await contentOf(source)
    assert.equal(content[blockBytes], 0x11)
    assert.equal(content[2 * blockBytes], 0)
    await source.close()
    const root = await diskOf(job, 'root').open(wait())
    assert.equal((await contentOf(root))[0], 0xfa, 'the base image shows through')
    await root.close()
    await job.end({ ...wait(), keepCheckpoint: true })
    await job.end({ ...wait(), keepCheckpoint: true })
    assert.deepEqual(await hypervisor.listCheckpoints(name, wait()), ['c1'])
    assert.deepEqual(await scratchFiles(ask()), [])
  })

  it('tells what was written since a checkpoint, on each disk', async () => {
    const { subject, name } = ask()
    const job = await begin(ask(), { snapshot: 's2', checkpoint: 'c2', since: 'c1' })
    const source = await diskOf(job, 'data').open(wait())
    assert.deepEqual(await dirtyRanges(source), [[blockBytes, 2 * blockBytes]])
    assert.equal((await contentOf(source))[2 * blockBytes], 0x22)
    await source.close()
    const root = await diskOf(job, 'root').open(wait())
    assert.deepEqual(await dirtyRanges(root), [])
    await root.close()
    await job.end({ ...wait(), keepCheckpoint: true })
    assert.deepEqual(await subject.hypervisor.listCheckpoints(name, wait()), ['c1', 'c2'])
    await subject.hypervisor.removeCheckpoint(name, 'c1', wait())
    await subject.hypervisor.removeCheckpoint(name, 'c1', wait())
    assert.deepEqual(await subject.hypervisor.listCheckpoints(name, wait()), ['c2'])
  })

  it('keeps no checkpoint of a backup that came to nothing', async () => {
    const { subject, name } = ask()
    const job = await begin(ask(), { snapshot: 's3', checkpoint: 'c3', since: 'c2' })
    await job.end({ ...wait(), keepCheckpoint: false })
    assert.deepEqual(await subject.hypervisor.listCheckpoints(name, wait()), ['c2'])
    assert.deepEqual(await scratchFiles(ask()), [])
  })

  it('refuses a checkpoint that is not there, a disk that is not there, and a second job', async () => {
    const { subject, definition, name } = ask()
    const { hypervisor } = subject
    await rejectsWith('E_STALE', begin(ask(), { snapshot: 's4', checkpoint: 'c4', since: 'never' }))
    const lone = definitionOf(subject, 'lone')
    await hypervisor.define(lone, wait())
    await makeDisks(hypervisor, lone)
    const request = { snapshot: 's4', checkpoint: 'c4', since: null, roles: ['data'] } as const
    await rejectsWith('E_NOT_FOUND', hypervisor.beginBackup(lone.specification.name, request, wait()))
    assert.equal((await hypervisor.findVm(lone.specification.name, wait()))?.state, 'stopped')
    await removeVm(hypervisor, lone)
    const job = await begin(ask(), { snapshot: 's5', checkpoint: 'c5' })
    await rejectsWith('E_BUSY', begin(ask(), { snapshot: 's6', checkpoint: 'c6' }))
    assert.equal(job.signal.aborted, false)
    await job.end({ ...wait(), keepCheckpoint: false })
    assert.deepEqual(await hypervisor.listCheckpoints(name, wait()), ['c2'])
    assert.equal((await hypervisor.findVm(definition.specification.name, wait()))?.state, 'running')
  })

  it('loses the job with its machine, and says so', async () => {
    const { subject, name } = ask()
    const job = await begin(ask(), { snapshot: 's7', checkpoint: 'c7' })
    await subject.hypervisor.cutPower(name, wait())
    await aborted(job.signal)
    assert.equal(job.signal.reason.code, 'E_UNAVAILABLE')
    await rejectsWith('E_UNAVAILABLE', diskOf(job, 'root').open(wait()))
    await job.end({ ...wait(), keepCheckpoint: false })
    assert.deepEqual(await scratchFiles(ask()), [])
    assert.equal((await subject.hypervisor.findVm(name, wait()))?.state, 'stopped')
    assert.deepEqual(await subject.hypervisor.listCheckpoints(name, wait()), ['c2'])
  })

  it('backs up a VM that is off, which is off again at the end', async () => {
    const { subject, name } = ask()
    const { hypervisor } = subject
    const job = await begin(ask(), { snapshot: 's8', checkpoint: 'c8', since: 'c2' })
    assert.equal(job.consistency, 'stopped')
    const during = await hypervisor.findVm(name, wait())
    assert.deepEqual([during?.state, during?.reason], ['paused', 'backup'])
    const source = await diskOf(job, 'data').open(wait())
    assert.deepEqual(await dirtyRanges(source), [], 'nothing was written since the last one')
    await source.close()
    await job.end({ ...wait(), keepCheckpoint: true })
    assert.equal((await hypervisor.findVm(name, wait()))?.state, 'stopped')
    assert.deepEqual(await hypervisor.listCheckpoints(name, wait()), ['c2', 'c8'])
    assert.deepEqual(await scratchFiles(ask()), [])
  })

  it('lets a VM run that is started while it stands paused for its backup', async () => {
    const { subject, name } = ask()
    const { hypervisor } = subject
    const job = await begin(ask(), { snapshot: 's9', checkpoint: 'c9', since: 'c8' })
    await hypervisor.start(name, wait())
    const during = await hypervisor.findVm(name, wait())
    assert.equal(during?.state, 'running')
    assert.equal(job.signal.aborted, false)
    await job.end({ ...wait(), keepCheckpoint: false })
    const after = await hypervisor.findVm(name, wait())
    assert.deepEqual([after?.state, after?.run], ['running', during?.run])
  })

  it('lets a VM run at the end of its backup that should run by then', async () => {
    const { subject, name } = ask()
    const { hypervisor } = subject
    await hypervisor.cutPower(name, wait())
    const job = await begin(ask(), { snapshot: 's10', checkpoint: 'c10' })
    await hypervisor.annotate(name, { wanted: 'running' }, wait())
    await job.end({ ...wait(), keepCheckpoint: false })
    assert.equal((await hypervisor.findVm(name, wait()))?.state, 'running')
    await hypervisor.annotate(name, { wanted: 'stopped' }, wait())
  })

  it('leaves a VM off whose guest had shut itself down, although it was wanted to run', async () => {
    const { subject, name } = ask()
    const { hypervisor } = subject
    await hypervisor.cutPower(name, wait())
    await hypervisor.annotate(name, { wanted: 'running' }, wait())
    const job = await begin(ask(), { snapshot: 's11', checkpoint: 'c11' })
    await job.end({ ...wait(), keepCheckpoint: false })
    assert.equal((await hypervisor.findVm(name, wait()))?.state, 'stopped')
    await hypervisor.annotate(name, { wanted: 'stopped' }, wait())
    await hypervisor.start(name, wait())
  })

  it('clears what is no longer wanted, and nothing else', async () => {
    const { subject, name } = ask()
    const { hypervisor } = subject
    const job = await begin(ask(), { snapshot: 's11', checkpoint: 'c11' })
    await job.end({ ...wait(), keepCheckpoint: true })
    assert.notDeepEqual(await hypervisor.clearBackup(name, ['c11'], wait()), [])
    assert.deepEqual(await hypervisor.listCheckpoints(name, wait()), ['c11'])
    assert.deepEqual(await hypervisor.clearBackup(name, ['c11'], wait()), [])
    assert.equal((await hypervisor.findVm(name, wait()))?.state, 'running')
  })

  it('takes a checkpoint back that is known already, and refuses one whose bitmaps are gone', async () => {
    const { subject, name } = ask()
    const { hypervisor } = subject
    const job = await begin(ask(), { snapshot: 's12', checkpoint: 'c12' })
    await job.end({ ...wait(), keepCheckpoint: true })
    await hypervisor.redefineCheckpoint(name, job.checkpointXml, wait())
    assert.deepEqual(await hypervisor.listCheckpoints(name, wait()), ['c11', 'c12'])
    await hypervisor.removeCheckpoint(name, 'c12', wait())
    await rejectsWith('E_STALE', hypervisor.redefineCheckpoint(name, job.checkpointXml, wait()))
    assert.deepEqual(await hypervisor.listCheckpoints(name, wait()), ['c11'])
  })

  it('makes room for a restored disk, and knows it when it is written', async () => {
    const { subject, definition, name } = ask()
    const { hypervisor, prefix } = subject
    const volume = `${prefix}-restored.root.qcow2`
    const sizeBytes = 4 * 1024 ** 2
    const { path } = await hypervisor.createImport({ name: volume, sizeBytes }, wait())
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', path, String(sizeBytes)])
    await hypervisor.finishImport(volume, wait())
    assert.equal((await hypervisor.findVolume(volume, wait()))?.capacityBytes, sizeBytes)
    await hypervisor.removeVolume(volume, wait())
    const used = { name: definition.placement.rootVolume, sizeBytes }
    await rejectsWith('E_CONFLICT', hypervisor.createImport(used, wait()))
    assert.equal((await hypervisor.findVm(name, wait()))?.state, 'running')
  })
}

function begin(
  { subject, name }: { subject: BackupSubject; name: string },
  request: Partial<BackupRequest> & Pick<BackupRequest, 'snapshot' | 'checkpoint'>
): Promise<BackupJob> {
  return subject.hypervisor.beginBackup(name, { roles: ['root', 'data'], since: null, ...request }, wait())
}

function rolesOf(job: BackupJob): DiskRole[] {
  return job.disks.map(({ role }) => role)
}

export function diskOf(job: BackupJob, role: DiskRole): BackupDisk {
  const disk = job.disks.find((each) => each.role === role)
  assert.ok(disk)
  return disk
}

function definitionBytes({ specification }: VmDefinition, role: DiskRole): number {
  return (role === 'root' ? specification.rootDiskBytes : specification.dataDiskBytes) ?? 0
}

/** Offset and length of what is dirty, neighbours joined. */
export async function dirtyRanges(source: DiskSource): Promise<[number, number][]> {
  const ranges: [number, number][] = []
  for await (const { offset, length, dirty } of source.extents(wait())) {
    if (!dirty) continue
    const last = ranges.at(-1)
    if (last !== undefined && last[0] + last[1] === offset) last[1] += length
    else ranges.push([offset, length])
  }
  return ranges
}

export async function contentOf(source: DiskSource): Promise<Buffer> {
  const content = Buffer.alloc(source.sizeBytes)
  for (let offset = 0; offset < content.length; offset += 1024 ** 2)
    await source.read(offset, content.subarray(offset, offset + 1024 ** 2), wait())
  return content
}

async function scratchFiles({ subject }: { subject: BackupSubject }): Promise<string[]> {
  const volumes = await subject.hypervisor.listVolumes(wait())
  return volumes.map(({ name }) => name).filter((name) => name.includes('scratch'))
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return
  await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
}
