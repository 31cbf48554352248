// An agent killed with SIGKILL before any of its effects on the world, in the middle of a backup or a restore: the next start puts all in order.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { promisify } from 'node:util'
import type { BackupListResult, BackupVerifyResult, VmBackupResult } from '../../src/protocol/backup.ts'
import type { CommandResult } from '../../src/protocol/command.ts'
import { wait } from '../contract/hypervisor.contract.ts'
import { BackupAgent, target } from './backup-agent.ts'
import { askGuest, cannotProvision } from './provision-host.ts'

const run = promisify(execFile)
/** Each operation has some thirty effects. A run kills before every so-many-th of them, and begins at another one each time. */
const stride = Number(process.env.HOSTLET_TEST_KILL_STRIDE ?? 9)
const first = Number(process.env.HOSTLET_TEST_KILL_FIRST ?? 1 + Math.floor(Math.random() * stride))
/** More than any of them has. */
const effectsMax = 400

describe('an agent killed before any of its effects', {
  skip: await cannotProvision(),
  timeout: 600_000
}, () => {
  let agent: BackupAgent
  let guest: { vm: string; uuid: string; address: string }
  const restored = { vm: '', uuid: randomUUID() }

  before(async () => {
    agent = await BackupAgent.open()
    await agent.spawn()
    guest = await agent.addGuest('web', { dataDiskBytes: 8 * 1024 ** 2 })
    restored.vm = `${agent.fixture.prefix}-back`
    await askGuest(guest.address)
    await agent.backUp(guest.vm)
  })
  after(async () => {
    await agent?.[Symbol.asyncDispose]()
  })

  it('in vm.backup takes it all the same, and the guest notices nothing', async (context) => {
    const pid = await pidOf(guest.vm)
    const killed = await killEverywhere(async (kill) => {
      const before = await snapshots()
      await write()
      const { outcome, value, error } = await kill('vm.backup', { vm: guest.vm, target })
      assert.equal(outcome, 'done', JSON.stringify(error))
      const { record } = value as unknown as VmBackupResult
      assert.deepEqual([record.kind, record.reason], ['incremental', undefined])
      assert.deepEqual(await snapshots(), [...before, record.snapshot])
      await nothingIsLeft(guest.vm, record.snapshot)
      assert.deepEqual([await stateOf(guest.vm), await pidOf(guest.vm)], ['running', pid])
    })
    context.diagnostic(`killed before effects ${killed.join(', ')}`)
    await verifyAll()
  })

  it('or a QEMU killed in the middle of a backup, which fails, and the next one says what it could not know', async () => {
    const before = await snapshots()
    const command = await agent.sign('vm.backup', { vm: guest.vm, target })
    await agent.holdIn(command)
    process.kill(Number(await pidOf(guest.vm)), 'SIGKILL')
    agent.goOn()
    const { error } = await agent.awaitResult(command)
    assert.equal(error?.code, 'E_UNAVAILABLE', JSON.stringify(error))
    assert.deepEqual(await snapshots(), before)
    // A machine that should run and whose QEMU died is started anew.
    await agent.until(async () => (await stateOf(guest.vm)) === 'running', 'the VM to run again')
    await askGuest(guest.address)
    const next = await agent.backUp(guest.vm)
    assert.equal(next.kind, 'fallback')
    assert.match(next.reason ?? '', /checkpoint/)
    await nothingIsLeft(guest.vm, next.snapshot)
    assert.equal((await agent.backUp(guest.vm)).kind, 'incremental')
  })

  it('in vm.backup of a VM that is off leaves it off', async (context) => {
    await agent.do('vm.stop', { vm: guest.vm, force: true }, guest)
    const killed = await killEverywhere(async (kill) => {
      const { outcome, value, error } = await kill('vm.backup', { vm: guest.vm, target })
      assert.equal(outcome, 'done', JSON.stringify(error))
      const { record } = value as unknown as VmBackupResult
      assert.equal(record.consistency, 'stopped')
      assert.equal(await stateOf(guest.vm), 'stopped')
      await nothingIsLeft(guest.vm, record.snapshot)
    })
    context.diagnostic(`killed before effects ${killed.join(', ')}`)
    await verifyAll()
  })

  it('in vm.restore ends with a VM whose disks are whole', async (context) => {
    const killed = await killEverywhere(async (kill) => {
      const args = { target, source: guest.uuid, snapshot: 'latest', ...restored, start: false }
      const { outcome, error } = await kill('vm.restore', args, restored)
      assert.equal(outcome, 'done', JSON.stringify(error))
      await sameDisks(guest.vm, restored.vm)
      await nothingIsLeft(restored.vm)
      await agent.do('vm.teardown', { vm: restored.vm }, restored)
    })
    context.diagnostic(`killed before effects ${killed.join(', ')}`)
    const volumes = await volumesOf('back')
    assert.deepEqual(volumes, [])
  })

  it('in vm.restore that replaces the disks of a VM ends with all of them replaced', async (context) => {
    const args = { target, source: guest.uuid, snapshot: 'latest', ...restored, start: false }
    await agent.do('vm.restore', args, restored)
    const killed = await killEverywhere(async (kill) => {
      await overwrite(restored.vm)
      const { outcome, error } = await kill('vm.restore', { ...args, replace: true }, restored)
      assert.equal(outcome, 'done', JSON.stringify(error))
      await sameDisks(guest.vm, restored.vm)
      assert.deepEqual((await volumesOf('back')).length, 2)
      assert.equal(await stateOf(restored.vm), 'stopped')
    })
    context.diagnostic(`killed before effects ${killed.join(', ')}`)
    await agent.do('vm.teardown', { vm: restored.vm }, restored)
  })

  type Kill = (
    verb: string,
    args: Record<string, unknown>,
    about?: { vm: string; uuid: string }
  ) => Promise<CommandResult>

  /** Has the operation killed before one effect after the other, until it has no more. Returns which. */
  async function killEverywhere(work: (kill: Kill) => Promise<void>): Promise<number[]> {
    const killed: number[] = []
    for (let effect = first; effect < effectsMax; effect += stride) {
      let wasKilled = false
      await work(async (verb, args, about) => {
        const command = await agent.sign(verb, args, about)
        agent.killBefore(effect)
        agent.send(command)
        await killedOrDone(command)
        wasKilled = !agent.letLive()
        if (wasKilled) {
          await agent.ended()
          await agent.spawn()
          // As a scheduler that saw no acknowledgement.
          agent.send(command)
        }
        return await agent.awaitResult(command)
      }).catch((error) => {
        throw new Error(`killed before effect ${effect}: ${error.message}${agent.lastWords()}`, {
          cause: error
        })
      })
      if (!wasKilled) return killed
      killed.push(effect)
    }
    throw new Error('the operation has more effects than it can have')
  }

  async function killedOrDone(command: { id: string }): Promise<void> {
    const over = new AbortController()
    const done = async () => {
      while (agent.resultOf(command) === undefined && !over.signal.aborted)
        await new Promise((resolve) => setTimeout(resolve, 20))
    }
    await Promise.race([done(), agent.ended()])
    over.abort()
  }

  async function write(): Promise<void> {
    const answer = await fetch(`http://${guest.address}/cgi-bin/write?mib=1&file=a`)
    assert.match(await answer.text(), /^[0-9a-f]{64}\s*$/)
  }

  /** What the restore has to take back. */
  async function overwrite(vm: string): Promise<void> {
    for (const path of await diskPaths(vm))
      await run('qemu-io', ['-f', 'qcow2', '-c', 'write -P 0x5a 1M 64k', path])
  }

  async function snapshots(): Promise<string[]> {
    const args = { target, source: guest.uuid }
    const { snapshots, damaged } = (await agent.do('backup.list', args)) as unknown as BackupListResult
    assert.deepEqual(damaged, [])
    return snapshots.map(({ snapshot }) => snapshot)
  }

  async function verifyAll(): Promise<void> {
    for (const snapshot of await snapshots()) {
      const args = { target, source: guest.uuid, snapshot }
      const { verification, faults } = (await agent.do(
        'backup.verify',
        args
      )) as unknown as BackupVerifyResult
      assert.deepEqual([verification.outcome, faults], ['good', []])
    }
  }

  async function stateOf(vm: string): Promise<string | undefined> {
    return (await agent.fixture.hypervisor.findVm(vm, wait()))?.state
  }

  async function volumesOf(part: string): Promise<string[]> {
    const names = (await agent.fixture.hypervisor.listVolumes(wait())).map(({ name }) => name)
    return names.filter((name) => name.includes(part) || name.includes(restored.uuid))
  }

  async function diskPaths(vm: string): Promise<string[]> {
    const placement = (await agent.fixture.hypervisor.findVm(vm, wait()))?.placement
    assert.ok(placement?.dataVolume)
    return [placement.rootVolume, placement.dataVolume].map((name) => join(agent.fixture.pool.path, name))
  }

  async function sameDisks(one: string, other: string): Promise<void> {
    const [expected, found] = [await diskPaths(one), await diskPaths(other)]
    for (const [index, path] of expected.entries()) {
      const { stdout } = await run('qemu-img', ['compare', path, found[index] ?? ''])
      assert.match(stdout, /Images are identical/)
    }
  }

  /** Of a backup job: no job, scratch, socket, secret, stray checkpoint, and no half-made file in the repository. */
  async function nothingIsLeft(vm: string, newest?: string): Promise<void> {
    const { fixture, repository } = agent
    const { hypervisor, virsh } = fixture
    await assert.rejects(virsh('backup-dumpxml', vm))
    const scratch = (await hypervisor.listVolumes(wait())).filter(({ name }) => name.includes('scratch'))
    assert.deepEqual(scratch, [])
    const checkpoints = await hypervisor.listCheckpoints(vm, wait())
    assert.equal(checkpoints.length, newest === undefined ? 0 : 1, checkpoints.join())
    assert.ok(newest === undefined || checkpoints[0]?.endsWith(newest), checkpoints.join())
    assert.doesNotMatch(await virsh('secret-list'), new RegExp(guest.uuid))
    const domains = await readdir('/var/lib/libvirt/qemu')
    for (const directory of domains.filter((name) => name.includes(fixture.prefix.slice(0, 10)))) {
      const files = await readdir(join('/var/lib/libvirt/qemu', directory)).catch(() => [])
      assert.deepEqual(
        files.filter((name) => name.startsWith('hostlet-backup')),
        []
      )
    }
    assert.deepEqual(
      (await readdir(join(fixture.directory, 'run'))).filter((name) => name.startsWith('scratch')),
      []
    )
    assert.deepEqual(await readdir(join(repository, 'vms', guest.uuid, 'locks')).catch(() => []), [])
  }
})

async function pidOf(vm: string): Promise<string> {
  return (await readFile(`/run/libvirt/qemu/${vm}.pid`, 'utf8')).trim()
}
