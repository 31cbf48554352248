// vm.backup and vm.restore, killed at any call to the hypervisor or the repository: the next start ends them, and nothing leaks.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { checkpointName } from '../../../src/agent/backups/checkpoints.ts'
import type { VmBackupResult } from '../../../src/protocol/backup.ts'
import { begin, type RunOptions } from '../verbs/bench.ts'
import { type BackupBench, backUp, checkpoints, makeBackupBench, source, target, vm, wait } from './bench.ts'

const restoredUuid = '11111111-6b53-4a3e-9d1c-0123456789ab'
const restored = 'web-1-restored'
const restoreArguments = { target, source, snapshot: 'latest', vm: restored, uuid: restoredUuid }

/** An agent that never comes back from its nth write to the repository, before or after its effect. */
async function killedAt(
  host: BackupBench,
  { at, when }: { at: number; when: 'before' | 'after' },
  verb: string,
  args: Record<string, unknown>
) {
  const killed = Promise.withResolvers<void>()
  let calls = 0
  const never = async (_call: string, name: string) => {
    // The lease of a killed agent dies by itself; to wait for that is the lock's own test.
    if (name.includes('/locks/') || ++calls < at) return
    killed.resolve()
    await new Promise(() => undefined)
  }
  host.store[when] = never
  const run = begin(host.host, verb, args)
  await Promise.race([killed.promise, run.outcome])
  delete host.store[when]
  for (const name of [...host.fleet.objects.keys()])
    if (name.includes('/locks/')) host.fleet.objects.delete(name)
  return { from: run.journal } satisfies RunOptions
}

describe('an agent that was killed during', () => {
  for (const when of ['before', 'after'] as const)
    it(`vm.backup ends it when it is back (${when} the effect of a call to the repository)`, async () => {
      for (let at = 1; at <= 8; at++) {
        await using host = await makeBackupBench()
        await backUp(host)
        host.write([5], 0x44)
        const content = host.content()
        const options = await killedAt(host, { at, when }, 'vm.backup', { vm, target })
        const next = host.bench.restarted()
        const outcome = await begin(next, 'vm.backup', { vm, target }, options).outcome
        assert.equal(outcome.outcome, 'done', `${when} ${at}: ${JSON.stringify(outcome)}`)
        if (outcome.outcome !== 'done') return
        const { record } = outcome.value as unknown as VmBackupResult
        assert.equal(record.kind, 'incremental', `${when} ${at}: ${record.reason}`)
        assert.equal(record.sequence, 2)
        assert.equal(host.bench.hypervisor.backups.hasJob(vm), false)
        assert.deepEqual(await checkpoints(host), [checkpointName(target, record.snapshot)])
        const snapshots = [...host.fleet.objects.keys()].filter((name) => name.includes('/snapshots/'))
        assert.equal(snapshots.length, 2, `${when} ${at}`)
        const again = await begin(next, 'vm.restore', { ...restoreArguments, start: false }).outcome
        assert.equal(again.outcome, 'done', JSON.stringify(again))
        assert.ok(host.content('root', restored).equals(content))
      }
    })

  it('vm.restore ends with the VM running, or with nothing of it', async () => {
    for (let at = 1; at <= 8; at += 2) {
      await using host = await makeBackupBench()
      await backUp(host)
      const content = host.content()
      const options = await killedAt(host, { at, when: 'before' }, 'vm.restore', restoreArguments)
      const outcome = await begin(host.bench.restarted(), 'vm.restore', restoreArguments, options).outcome
      assert.equal(outcome.outcome, 'done', `${at}: ${JSON.stringify(outcome)}`)
      assert.ok(host.content('root', restored).equals(content), `${at}`)
      assert.equal((await host.bench.hypervisor.findVm(restored, wait()))?.state, 'running')
    }
  })
})
