// Procedures of block jobs, checkpoints, backups, jobs and snapshots on the domain that `domain.ts` left.

import assert from 'node:assert/strict'
import { it } from 'node:test'
import * as backups from '../../../src/node-libvirt/protocol/backup.ts'
import * as checkpoints from '../../../src/node-libvirt/protocol/checkpoint.ts'
import {
  blockCommitFlag,
  blockCopyFlag,
  blockJobAbortFlag,
  blockJobType,
  blockResizeFlag,
  checkpointDeleteFlag,
  checkpointListFlag,
  checkpointXmlFlag,
  jobOperation,
  jobParameter,
  jobStatisticsFlag,
  jobType,
  snapshotDeleteFlag,
  snapshotListFlag
} from '../../../src/node-libvirt/protocol/constants/blocks.ts'
import { blockJobStatus } from '../../../src/node-libvirt/protocol/constants/domain-events.ts'
import { errorCode } from '../../../src/node-libvirt/protocol/constants/errors.ts'
import { domainGetState, domainLookupByName } from '../../../src/node-libvirt/protocol/domain.ts'
import * as devices from '../../../src/node-libvirt/protocol/domain-devices.ts'
import { domainEvents } from '../../../src/node-libvirt/protocol/events.ts'
import * as jobs from '../../../src/node-libvirt/protocol/job.ts'
import type { Domain } from '../../../src/node-libvirt/protocol/objects.ts'
import * as snapshots from '../../../src/node-libvirt/protocol/snapshot.ts'
import type { Bench } from './bench.ts'
import { diskBytes, isOurs } from './domain.ts'
import { assertIncludes, directory, mebibyte, named, ourName, virsh } from './workshop.ts'

const disk = 'vda'

export function blockJobTests(bench: () => Bench): void {
  let domain: Domain

  const ended = (type: number, status: number) => (event: { domain: Domain; type: number; status: number }) =>
    isOurs(event) && event.type === type && event.status === status

  it('tells the size of a disk and enlarges it', async () => {
    const { exercise } = bench()
    ;({ domain } = await exercise.ok(domainLookupByName, { name: ourName }))
    const before = await exercise.ok(devices.domainGetBlockInfo, { domain, path: disk, flags: 0 })
    assert.equal(before.capacityBytes, BigInt(diskBytes))
    const size = diskBytes + mebibyte
    await exercise.ok(devices.domainBlockResize, { domain, disk, size, flags: blockResizeFlag.bytes })
    const after = await exercise.ok(devices.domainGetBlockInfo, { domain, path: disk, flags: 0 })
    assert.equal(after.capacityBytes, BigInt(size))
  })

  it('copies the disk and gives the copy up', async () => {
    const { exercise, recorder } = bench()
    const destinationXml = `<disk type='file'><source file='${directory}/mirror.qcow2'/><driver type='qcow2'/></disk>`
    const none = { domain, path: disk, flags: 0 }
    assert.equal((await exercise.ok(devices.domainGetBlockJobInfo, none)).found, false)
    await exercise.ok(devices.domainBlockCopy, {
      domain,
      path: disk,
      destinationXml,
      parameters: [{ field: 'bandwidth', type: 'ullong', value: 100 * mebibyte }],
      flags: blockCopyFlag.transientJob
    })
    await recorder.seen(domainEvents.blockJob2, ended(blockJobType.copy, blockJobStatus.ready))
    const job = await exercise.ok(devices.domainGetBlockJobInfo, none)
    assert.deepEqual([job.found, job.type, job.current === job.end], [true, blockJobType.copy, true])
    await exercise.ok(devices.domainBlockJobSetSpeed, { ...none, bandwidth: 10 })
    await exercise.ok(devices.domainBlockJobAbort, none)
    await recorder.seen(domainEvents.blockJob, ended(blockJobType.copy, blockJobStatus.canceled))
  })

  it('puts an overlay on the disk and merges it down again', async () => {
    const { exercise, recorder } = bench()
    await virsh(
      'snapshot-create-as',
      ourName,
      '--disk-only',
      '--no-metadata',
      '--diskspec',
      `${disk},file=${directory}/over.qcow2`
    )
    const flags = blockCommitFlag.active
    await exercise.ok(devices.domainBlockCommit, { domain, disk, base: null, top: null, bandwidth: 0, flags })
    await recorder.seen(domainEvents.blockJob2, ended(blockJobType.activeCommit, blockJobStatus.ready))
    const pivot = { domain, path: disk, flags: blockJobAbortFlag.pivot }
    await exercise.ok(devices.domainBlockJobAbort, pivot)
    await recorder.seen(domainEvents.blockJob2, ended(blockJobType.activeCommit, blockJobStatus.completed))
    assertIncludes(await virsh('domblklist', ourName), `${directory}/disk.qcow2`)
  })

  it('flattens overlays, whole and in part', async () => {
    const { exercise, recorder } = bench()
    for (const name of ['one', 'two']) {
      const file = `${disk},file=${directory}/${name}.qcow2`
      await virsh('snapshot-create-as', ourName, '--disk-only', '--no-metadata', '--diskspec', file)
    }
    const path = { domain, path: disk, bandwidth: 0, flags: 0 }
    await exercise.ok(devices.domainBlockRebase, { ...path, base: `${directory}/disk.qcow2` })
    await recorder.seen(domainEvents.blockJob2, ended(blockJobType.pull, blockJobStatus.completed))
    // The data that the pull brings is what passes the threshold.
    await exercise.ok(devices.domainSetBlockThreshold, {
      domain,
      device: disk,
      thresholdBytes: 1024,
      flags: 0
    })
    await exercise.ok(devices.domainBlockPull, path)
    await recorder.several(domainEvents.blockJob2, ended(blockJobType.pull, blockJobStatus.completed), 2)
    assert.ok(!(await virsh('dumpxml', ourName)).includes(`${directory}/one.qcow2`))
    const event = await recorder.seen(
      domainEvents.blockThreshold,
      (one) => isOurs(one) && one.device === disk
    )
    assert.deepEqual([event.path, event.thresholdBytes], [`${directory}/two.qcow2`, 1024n])
    assert.ok(event.excessBytes > 0n)
  })
}

export function backupTests(bench: () => Bench): void {
  let domain: Domain
  const socket = `${directory}/backup.sock`
  const backupXml = `<domainbackup mode='pull'><server transport='unix' socket='${socket}'/>
    <disks><disk name='${disk}' backup='yes' type='file'><scratch file='${directory}/scratch.qcow2'/></disk></disks>
    </domainbackup>`
  const checkpointXml = `<domaincheckpoint><name>first</name></domaincheckpoint>`

  it('backs up and makes a checkpoint at once', async () => {
    const { exercise } = bench()
    ;({ domain } = await exercise.ok(domainLookupByName, { name: ourName }))
    await exercise.refused(backups.domainBackupGetXmlDesc, { domain, flags: 0 }, errorCode.noDomainBackup)
    await exercise.ok(backups.domainBackupBegin, { domain, backupXml, checkpointXml, flags: 0 })
    const { xml } = await exercise.ok(backups.domainBackupGetXmlDesc, { domain, flags: 0 })
    assertIncludes(xml, socket, `${directory}/scratch.qcow2`)
  })

  it('follows the job and ends it', async () => {
    const { exercise, recorder } = bench()
    const info = await exercise.ok(jobs.domainGetJobInfo, { domain })
    assert.equal(info.type, jobType.unbounded)
    const running = await exercise.ok(jobs.domainGetJobStats, { domain, flags: 0 })
    assert.equal(named(running.parameters)[jobParameter.operation], jobOperation.backup)
    await exercise.ok(jobs.domainAbortJob, { domain })
    const event = await recorder.seen(domainEvents.jobCompleted, isOurs)
    assert.equal(named(event.parameters)[jobParameter.operation], jobOperation.backup)
    const completed = { domain, flags: jobStatisticsFlag.completed }
    const last = await exercise.ok(jobs.domainGetJobStats, completed)
    assert.ok(([jobType.completed, jobType.cancelled] as number[]).includes(last.type), `type ${last.type}`)
    await exercise.refused(jobs.domainAbortJobFlags, { domain, flags: 0 }, errorCode.operationInvalid)
  })

  it('makes a checkpoint on the first and finds both', async () => {
    const { exercise } = bench()
    const xml = '<domaincheckpoint><name>second</name></domaincheckpoint>'
    const { checkpoint: second } = await exercise.ok(checkpoints.domainCheckpointCreateXml, {
      domain,
      xml,
      flags: 0
    })
    const byName = { domain, name: 'first', flags: 0 }
    const { checkpoint: first } = await exercise.ok(checkpoints.domainCheckpointLookupByName, byName)
    const { parent } = await exercise.ok(checkpoints.domainCheckpointGetParent, {
      checkpoint: second,
      flags: 0
    })
    assert.deepEqual(parent, first)
    const all = { domain, needResults: true, flags: checkpointListFlag.topological }
    const listed = await exercise.ok(checkpoints.domainListAllCheckpoints, all)
    assert.deepEqual(listed, { checkpoints: [first, second], count: 2 })
    const below = { checkpoint: first, needResults: true, flags: 0 }
    const children = await exercise.ok(checkpoints.domainCheckpointListAllChildren, below)
    assert.deepEqual(children.checkpoints, [second])
    const described = { checkpoint: second, flags: checkpointXmlFlag.noDomain | checkpointXmlFlag.size }
    const description = await exercise.ok(checkpoints.domainCheckpointGetXmlDesc, described)
    assertIncludes(description.xml, '<name>first</name>', 'size=')
  })

  it('deletes them', async () => {
    const { exercise } = bench()
    const { checkpoint } = await exercise.ok(checkpoints.domainCheckpointLookupByName, {
      domain,
      name: 'first',
      flags: 0
    })
    await exercise.ok(checkpoints.domainCheckpointDelete, {
      checkpoint,
      flags: checkpointDeleteFlag.children
    })
    const byName = { domain, name: 'second', flags: 0 }
    await exercise.refused(checkpoints.domainCheckpointLookupByName, byName, errorCode.noDomainCheckpoint)
  })
}

export function snapshotTests(bench: () => Bench): void {
  let domain: Domain

  it('finds snapshots that others made', async () => {
    const { exercise } = bench()
    ;({ domain } = await exercise.ok(domainLookupByName, { name: ourName }))
    assert.deepEqual(await exercise.ok(snapshots.domainHasCurrentSnapshot, { domain, flags: 0 }), {
      current: false
    })
    await virsh('snapshot-create-as', ourName, 'older')
    await virsh('snapshot-create-as', ourName, 'newer')
    const all = { domain, needResults: true, flags: snapshotListFlag.topological }
    const { snapshots: listed, count } = await exercise.ok(snapshots.domainListAllSnapshots, all)
    assert.deepEqual([count, ...listed.map(({ name }) => name)], [2, 'older', 'newer'])
    assert.deepEqual(await exercise.ok(snapshots.domainSnapshotNum, { domain, flags: 0 }), { count: 2 })
    assert.deepEqual(await exercise.ok(snapshots.domainHasCurrentSnapshot, { domain, flags: 0 }), {
      current: true
    })
  })

  it('describes them and deletes their metadata', async () => {
    const { exercise } = bench()
    const { snapshot: newer } = await exercise.ok(snapshots.domainSnapshotCurrent, { domain, flags: 0 })
    const older = await exercise.ok(snapshots.domainSnapshotLookupByName, { domain, name: 'older', flags: 0 })
    assert.deepEqual(
      await exercise.ok(snapshots.domainSnapshotGetParent, { snapshot: newer, flags: 0 }),
      older
    )
    const { xml } = await exercise.ok(snapshots.domainSnapshotGetXmlDesc, { ...older, flags: 0 })
    assertIncludes(xml, '<name>older</name>')
    await exercise.ok(snapshots.domainSnapshotDelete, {
      snapshot: newer,
      flags: snapshotDeleteFlag.metadataOnly
    })
    await exercise.ok(snapshots.domainSnapshotDelete, { ...older, flags: 0 })
    assert.deepEqual(await exercise.ok(snapshots.domainSnapshotNum, { domain, flags: 0 }), { count: 0 })
    assert.equal((await exercise.ok(domainGetState, { domain, flags: 0 })).state, 1)
  })
}
