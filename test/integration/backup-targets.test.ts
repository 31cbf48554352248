// Repositories that fail in the middle: an S3 service that dies or stands still, a file system that is full, an operator who cancels. The
// backup ends, the guest goes on, and the next one works.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import type { BackupListResult, BackupVerifyResult } from '../../src/protocol/backup.ts'
import { wait } from '../contract/hypervisor.contract.ts'
import { type Radosgw, radosgwMissing, startRadosgw } from '../support/radosgw.ts'
import { BackupAgent } from './backup-agent.ts'
import { askGuest, cannotProvision } from './provision-host.ts'

const run = promisify(execFile)
const bucket = 'hl-t-targets'
const mebibyte = 1024 ** 2

describe('repositories that fail', {
  skip: (await cannotProvision()) || radosgwMissing,
  timeout: 600_000
}, () => {
  let agent: BackupAgent
  let service: Radosgw
  let guest: { vm: string; uuid: string; address: string }

  before(async () => {
    service = await startRadosgw()
    await makeBucket(service)
    agent = await BackupAgent.open()
    for (const name of ['small', 'slow']) mkdirSync(path(name), { mode: 0o700 })
    const credentials = join(agent.directory, 'policy', 's3.json')
    writeFileSync(credentials, JSON.stringify(service.credentials), { mode: 0o600 })
    const { endpoint } = service
    const remote = { url: `s3://${bucket}/fleet`, endpoint, pathStyle: true, region: 'us-east-1' }
    agent.writePolicy({
      repositories: {
        remote: { ...remote, credentials: { file: credentials } },
        small: { url: pathToFileURL(path('small')).href },
        slow: { url: pathToFileURL(path('slow')).href }
      }
    })
    await agent.spawn()
    guest = await agent.addGuest('web', { dataDiskBytes: 16 * mebibyte })
    await askGuest(guest.address)
  })
  after(async () => {
    await run('umount', ['-l', path('small')]).catch(() => undefined)
    await agent?.[Symbol.asyncDispose]()
    await service?.[Symbol.asyncDispose]()
  })

  it('S3: holds backups, goes on after its service was away, and gives a VM back', async () => {
    assert.equal((await agent.backUp(guest.vm, { target: 'remote' })).kind, 'full')
    const sum = await write('a')
    const command = await agent.sign('vm.backup', { vm: guest.vm, target: 'remote' })
    await agent.holdIn(command)
    await service.kill()
    agent.goOn()
    await agent.said('storage retry')
    await service.restart()
    const { outcome, error } = await agent.awaitResult(command)
    assert.equal(outcome, 'done', JSON.stringify(error))
    const vm = { vm: `${agent.fixture.prefix}-back`, uuid: randomUUID() }
    const args = { target: 'remote', source: guest.uuid, snapshot: 'latest', ...vm }
    const { address } = await agent.do('vm.restore', args, vm)
    await askGuest(String(address))
    const answer = await fetch(`http://${address}/cgi-bin/sum?file=a`)
    assert.equal((await answer.text()).trim(), sum)
    await agent.do('vm.teardown', { vm: vm.vm }, vm)
  })

  it('S3: a backup fails whose service stays away, and the next one goes on from the last good one', async () => {
    const before = await listed('remote')
    const command = await agent.sign('vm.backup', { vm: guest.vm, target: 'remote' })
    await agent.holdIn(command)
    await service.kill()
    agent.goOn()
    await write('b')
    // Back as soon as the backup was given up: its last words to the repository need not be waited for.
    await agent.said('undoing operation')
    await service.restart()
    const { error } = await agent.awaitResult(command)
    assert.equal(error?.code, 'E_UNAVAILABLE')
    await idle(1)
    assert.deepEqual(await listed('remote'), before)
    assert.equal((await agent.backUp(guest.vm, { target: 'remote' })).kind, 'incremental')
    await verified('remote')
  })

  it('a restore is cancelled whose repository stands still, and nothing of its VM is left', async () => {
    const vm = { vm: `${agent.fixture.prefix}-never`, uuid: randomUUID() }
    const args = { target: 'remote', source: guest.uuid, snapshot: 'latest', ...vm }
    const command = await agent.sign('vm.restore', args, vm)
    agent.send(command)
    const restoring = agent.scheduler.until(() => agent.progressOf(command, 'restore the disks'))
    await Promise.race([restoring, agent.awaitResult(command)])
    service.freeze()
    try {
      await agent.do('operation.cancel', { operation: command.id })
      const { error } = await agent.awaitResult(command)
      assert.equal(error?.code, 'E_CANCELLED')
    } finally {
      service.goOn()
    }
    assert.equal(await agent.fixture.hypervisor.findVm(vm.vm, wait()), undefined)
    const volumes = await agent.fixture.hypervisor.listVolumes(wait())
    assert.deepEqual(
      volumes.filter(({ name }) => name.includes('never')),
      []
    )
    const { network } = agent.fixture
    assert.equal((await agent.fixture.hypervisor.listReservations(network.name, wait())).length, 1)
  })

  it('a full file system fails the backup and not the guest', async () => {
    await run('mount', ['-t', 'tmpfs', '-o', 'size=4m,mode=700', 'tmpfs', path('small')])
    await write('c', 6)
    const command = await agent.sign('vm.backup', { vm: guest.vm, target: 'small' })
    await agent.holdIn(command)
    const writing = write('d', 2)
    agent.goOn()
    await writing
    const { error } = await agent.awaitResult(command)
    assert.equal(error?.code, 'E_CAPACITY', JSON.stringify(error))
    await idle(1)
    assert.deepEqual(await listed('small'), [])
    assert.deepEqual(await readdir(join(path('small'), '~partial')), [])
    await run('mount', ['-o', 'remount,size=64m', path('small')])
    assert.equal((await agent.backUp(guest.vm, { target: 'small' })).kind, 'full')
    await verified('small')
  })

  it('a backup is cancelled in the middle, and the next one goes on from the last good one', async () => {
    await agent.backUp(guest.vm, { target: 'slow' })
    const before = await listed('slow')
    await write('e')
    const limits = { bytesPerSecond: 65_536 }
    const command = await agent.sign('vm.backup', { vm: guest.vm, target: 'slow', limits })
    await agent.holdIn(command)
    agent.goOn()
    await agent.do('operation.cancel', { operation: command.id })
    const { error } = await agent.awaitResult(command)
    assert.equal(error?.code, 'E_CANCELLED')
    await idle(3)
    assert.deepEqual(await listed('slow'), before)
    assert.equal((await agent.backUp(guest.vm, { target: 'slow' })).kind, 'incremental')
    await verified('slow')
  })

  function path(name: string): string {
    return join(agent.directory, name)
  }

  async function write(file: string, mib = 1): Promise<string> {
    const answer = await fetch(`http://${guest.address}/cgi-bin/write?mib=${mib}&file=${file}`)
    const text = (await answer.text()).trim()
    assert.match(text, /^[0-9a-f]{64}$/)
    return text
  }

  async function listed(target: string): Promise<string[]> {
    const value = (await agent.do('backup.list', {
      target,
      source: guest.uuid
    })) as unknown as BackupListResult
    assert.deepEqual(value.damaged, [])
    return value.snapshots.map(({ snapshot }) => snapshot)
  }

  async function verified(target: string): Promise<void> {
    const args = { target, source: guest.uuid, snapshot: 'latest' }
    const value = (await agent.do('backup.verify', args)) as unknown as BackupVerifyResult
    assert.deepEqual([value.verification.outcome, value.faults], ['good', []])
  }

  /** The guest runs, and nothing of a job is there but the checkpoints of good backups: one a repository. */
  async function idle(checkpoints: number): Promise<void> {
    const { hypervisor, virsh } = agent.fixture
    assert.equal((await virsh('domstate', guest.vm)).trim(), 'running')
    await assert.rejects(virsh('backup-dumpxml', guest.vm))
    const scratch = (await hypervisor.listVolumes(wait())).filter(({ name }) => name.includes('scratch'))
    assert.deepEqual(scratch, [])
    assert.equal((await hypervisor.listCheckpoints(guest.vm, wait())).length, checkpoints)
    await askGuest(guest.address)
  }
})

async function makeBucket({ endpoint, credentials }: Radosgw): Promise<void> {
  const { S3Client, CreateBucketCommand } = await import('@aws-sdk/client-s3')
  // A copy: the library adds to what it is given.
  const client = new S3Client({
    endpoint,
    credentials: { ...credentials },
    region: 'us-east-1',
    forcePathStyle: true
  })
  await client.send(new CreateBucketCommand({ Bucket: bucket }))
  client.destroy()
}
