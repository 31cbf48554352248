// Many backups of one VM that writes all the time: each gives back, to the byte, what the disks held at its instant, also after others were
// removed, on another host, and without any host.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { cp, mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import type { BackupRecord, BackupVerifyResult, PruneResult } from '../../src/protocol/backup.ts'
import { hostlet } from '../cli/program.ts'
import { wait } from '../contract/hypervisor.contract.ts'
import { BackupAgent, target } from './backup-agent.ts'
import { askGuest, cannotProvision } from './provision-host.ts'

const run = promisify(execFile)
const roles = ['root', 'data'] as const
const mebibyte = 1024 ** 2

describe('backups of many moments', { skip: await cannotProvision(), timeout: 600_000 }, () => {
  let agent: BackupAgent
  let guest: { vm: string; uuid: string; address: string }
  let taken: BackupRecord[] = []
  /** Of the file that the guest has, as it was at the last backup. */
  let sum = ''

  before(async () => {
    agent = await BackupAgent.open()
    await agent.spawn()
    await mkdir(join(agent.directory, 'references'))
    guest = await agent.addGuest('web', { dataDiskBytes: 16 * mebibyte })
    await askGuest(guest.address)
  })
  after(async () => {
    await agent?.[Symbol.asyncDispose]()
  })

  it('are taken of a guest that writes meanwhile, with and without a checkpoint, and of one that is off', async () => {
    const kinds = []
    for (const lost of [undefined, undefined, 'known', 'whole', undefined] as const) {
      if (lost) await loseCheckpoint(lost)
      kinds.push((await takeWhileWriting()).kind)
    }
    assert.deepEqual(kinds, ['full', 'incremental', 'incremental', 'fallback', 'incremental'])
    assert.match(taken[3]?.reason ?? '', /checkpoint/)
    await cp(agent.repository, older(), { recursive: true })
    await agent.do('vm.stop', { vm: guest.vm, force: true }, guest)
    const off = await agent.backUp(guest.vm)
    await keep(off)
    assert.deepEqual([off.kind, off.consistency], ['incremental', 'stopped'])
    await agent.do('vm.start', { vm: guest.vm }, guest)
    await askGuest(guest.address)
    assert.equal((await takeWhileWriting()).kind, 'incremental')
    assert.deepEqual(
      taken.map(({ sequence }) => sequence),
      [1, 2, 3, 4, 5, 6, 7]
    )
  })

  it('give back what the disks held at their instant, by the recovery key alone', async () => {
    await compareAll()
  })

  it('stay whole when older ones and one in the middle are removed', async () => {
    const pruned = await prune(4)
    assert.deepEqual(pruned.removed.toSorted(), ids(taken.slice(0, 3)).toSorted())
    const [first, middle, ...rest] = taken.slice(3)
    assert.ok(first && middle)
    await rm(join(agent.repository, 'vms', guest.uuid, 'snapshots', `${middle.snapshot}.json`))
    const swept = await prune(4)
    assert.deepEqual(swept.kept.toSorted(), ids([first, ...rest]).toSorted())
    assert.ok(swept.freedBytes > mebibyte, `${pruned.freedBytes} ${swept.freedBytes}`)
    taken = [first, ...rest]
    await compareAll()
    assert.equal((await takeWhileWriting()).kind, 'incremental')
    await compareAll(taken.slice(-1))
  })

  it('that were put back to an older state are told by whoever knows better', async () => {
    const source = guest.uuid
    const repositories = { [target]: { url: pathToFileURL(older()).href } }
    agent.writePolicy({ repositories })
    const latest = await agent.failure('backup.verify', { target, source, snapshot: 'latest' })
    assert.equal(latest.code, 'E_CORRUPT')
    assert.match(latest.message, /put back to an older state/)
    const [first] = taken
    const named = { target, source, snapshot: first?.snapshot }
    const value = (await agent.do('backup.verify', named)) as unknown as BackupVerifyResult
    assert.deepEqual([value.verification.freshness, value.faults], ['rolled-back', []])
    const vm = { vm: `${agent.fixture.prefix}-old`, uuid: randomUUID() }
    const restore = { target, source, snapshot: 'latest', ...vm }
    assert.equal((await agent.failure('vm.restore', restore, vm)).code, 'E_CORRUPT')
    const next = await agent.backUp(guest.vm)
    assert.equal(next.kind, 'fallback', 'its checkpoint is of a snapshot that is not there')
    assert.ok(next.sequence > (taken.at(-1)?.sequence ?? 0), 'no number is given twice')
    agent.writePolicy()
  })

  it('make the VM anew on another host that has only the repository and the recovery key', async () => {
    const { authority, recovery, repository } = agent
    await agent.kill()
    await using other = await BackupAgent.open({ hostId: 'host-2', authority, recovery, repository })
    other.writePolicy({ unlockKeys: [{ file: other.recoveryPath }] })
    await other.spawn()
    const vm = { vm: `${other.fixture.prefix}-anew`, uuid: randomUUID() }
    const args = { target, source: guest.uuid, snapshot: 'latest', ...vm }
    const stale = await other.failure('vm.restore', { ...args, expected: randomUUID() }, vm)
    assert.equal(stale.code, 'E_CORRUPT')
    const value = await other.do('vm.restore', args, vm)
    assert.equal(value.freshness, 'unverifiable')
    await askGuest(String(value.address))
    const answer = await fetch(`http://${value.address}/cgi-bin/sum?file=a`)
    assert.equal((await answer.text()).trim(), sum)
    await other.do('vm.teardown', { vm: vm.vm }, vm)
    other.writePolicy()
    const locked = await other.failure('vm.restore', args, vm)
    assert.equal(locked.code, 'E_AUTH', 'without the key it opens nothing')
  })

  /** The reference is copied of the guest that stands still; then it writes on, between the beginning of the job and the reading. */
  async function takeWhileWriting(): Promise<BackupRecord> {
    const { virsh } = agent.fixture
    sum = await write()
    await virsh('suspend', guest.vm)
    const paths = await reference('next')
    const command = await agent.sign('vm.backup', { vm: guest.vm, target })
    await agent.holdIn(command)
    await virsh('resume', guest.vm)
    assert.notEqual(await write(), sum)
    agent.goOn()
    const { outcome, value, error } = await agent.awaitResult(command)
    assert.equal(outcome, 'done', JSON.stringify(error))
    const { record } = value as unknown as { record: BackupRecord }
    for (const role of roles) await run('mv', [paths[role], referencePath(record.snapshot, role)])
    taken.push(record)
    return record
  }

  async function keep(record: BackupRecord): Promise<void> {
    await reference(record.snapshot)
    taken.push(record)
  }

  async function reference(name: string): Promise<Record<(typeof roles)[number], string>> {
    const placement = (await agent.fixture.hypervisor.findVm(guest.vm, wait()))?.placement
    assert.ok(placement?.dataVolume)
    const volumes = { root: placement.rootVolume, data: placement.dataVolume }
    for (const role of roles) {
      const path = join(agent.fixture.pool.path, volumes[role])
      await run('qemu-img', ['convert', '-U', '-O', 'qcow2', path, referencePath(name, role)])
    }
    return { root: referencePath(name, 'root'), data: referencePath(name, 'data') }
  }

  async function write(): Promise<string> {
    const answer = await fetch(`http://${guest.address}/cgi-bin/write?mib=2&file=a`)
    const text = (await answer.text()).trim()
    assert.match(text, /^[0-9a-f]{64}$/)
    return text
  }

  /** libvirt forgets it, with its bitmaps or without. */
  async function loseCheckpoint(part: 'known' | 'whole'): Promise<void> {
    const { virsh, hypervisor } = agent.fixture
    const [name] = await hypervisor.listCheckpoints(guest.vm, wait())
    const only = part === 'known' ? ['--metadata'] : []
    await virsh('checkpoint-delete', guest.vm, `hostlet-${name}`, ...only)
  }

  async function prune(last: number): Promise<PruneResult> {
    const value = await agent.do('backup.prune', { target, source: guest.uuid, keep: { last } })
    return value as unknown as PruneResult
  }

  /** By a program that knows neither agent nor scheduler. */
  async function compareAll(records: readonly BackupRecord[] = taken): Promise<void> {
    for (const { snapshot } of records) await Promise.all(roles.map((role) => compare(snapshot, role)))
  }

  async function compare(snapshot: string, role: string): Promise<void> {
    const path = join(agent.directory, `${snapshot}.${role}.qcow2`)
    const repository = ['--repository', pathToFileURL(agent.repository).href, '--key', agent.recoveryPath]
    const words = ['backup', 'export', snapshot, '--disk', role, '--to', path, '--ca', agent.caPath]
    const { status, stderr } = await hostlet([...words, ...repository])
    assert.equal(status, 0, stderr)
    const { stdout } = await run('qemu-img', ['compare', referencePath(snapshot, role), path])
    assert.match(stdout, /Images are identical/)
    await rm(path)
  }

  function referencePath(name: string, role: string): string {
    return join(agent.directory, 'references', `${name}.${role}.qcow2`)
  }

  /** The repository as it was after the fifth backup. */
  function older(): string {
    return join(agent.directory, 'older')
  }
})

function ids(records: readonly BackupRecord[]): string[] {
  return records.map(({ snapshot }) => snapshot)
}
