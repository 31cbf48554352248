// Backups, restores and trials of booting, killed at any call to the hypervisor: the next start ends them once, and nothing leaks.

import assert from 'node:assert/strict'
import { it } from 'node:test'
import { checkpointName } from '../../../src/agent/backups/checkpoints.ts'
import type { BackupVerifyResult, VmBackupResult } from '../../../src/protocol/backup.ts'
import { begin, succeed } from '../verbs/bench.ts'
import { interposed } from '../verbs/interposed.ts'
import { type BackupBench, backUp, checkpoints, makeBackupBench, source, target, vm, wait } from './bench.ts'

interface Scenario {
  readonly verb: string
  readonly arguments: Record<string, unknown>
  prepare(host: BackupBench): Promise<void>
  /** Holds after a run that nothing interrupted, and after one that was killed and resumed. */
  check(host: BackupBench, value: Record<string, unknown>, about: string): Promise<void>
}

const name = 'web-1-restored'
const snapshot = 'latest'
const inPlace = { target, source, snapshot, vm, uuid: source, replace: true }
const asNew = { target, source, snapshot, vm: name, uuid: '11111111-6b53-4a3e-9d1c-0123456789ab' }

async function changedSinceBackup(host: BackupBench): Promise<void> {
  await backUp(host)
  host.write([5], 0x44)
}

async function stateOf({ bench }: BackupBench, of = vm): Promise<string | undefined> {
  return (await bench.hypervisor.findVm(of, wait()))?.state
}

/** A VM with two disks and an address, and nothing else. */
async function checkLeftovers({ bench }: BackupBench, vms: readonly string[], about: string): Promise<void> {
  const left = await bench.leftovers()
  const kinds = left.map((line) => line.split(' ')[0]).sort()
  const whole = vms.flatMap(() => ['reservation', 'vm', 'volume', 'volume']).sort()
  assert.deepEqual(kinds, whole, `${about}: ${left.join(', ')}`)
  for (const each of vms) assert.ok(left.includes(`vm ${each}`), about)
}

async function checkBackup(
  host: BackupBench,
  { value, state, about }: { value: Record<string, unknown>; state: string; about: string }
): Promise<void> {
  const { record } = value as unknown as VmBackupResult
  assert.deepEqual([record.kind, record.sequence], ['incremental', 2], `${about}: ${record.reason}`)
  assert.equal(host.bench.hypervisor.backups.hasJob(vm), false, about)
  assert.deepEqual(await checkpoints(host), [checkpointName(target, record.snapshot)], about)
  const manifests = [...host.fleet.objects.keys()].filter((each) => each.includes('/snapshots/'))
  assert.equal(manifests.length, 2, about)
  assert.equal(await stateOf(host), state, about)
  await checkLeftovers(host, [vm], about)
}

const scenarios: Readonly<Record<string, Scenario>> = {
  'a backup of a VM that runs': {
    verb: 'vm.backup',
    arguments: { vm, target },
    prepare: changedSinceBackup,
    check: (host, value, about) => checkBackup(host, { value, state: 'running', about })
  },
  'a backup of a VM that is off': {
    verb: 'vm.backup',
    arguments: { vm, target },
    prepare: async (host) => {
      await changedSinceBackup(host)
      const subject = { vm, uuid: source, generation: 1_000 }
      await succeed(host.host, 'vm.stop', { vm, force: true }, { subject })
    },
    check: (host, value, about) => checkBackup(host, { value, state: 'stopped', about })
  },
  'a restore to a new VM': {
    verb: 'vm.restore',
    arguments: asNew,
    prepare: async (host) => void (await backUp(host)),
    check: async (host, _value, about) => {
      assert.ok(host.content('root', name).equals(host.content()), about)
      assert.ok(host.content('data', name).equals(host.content('data')), about)
      assert.equal(await stateOf(host, name), 'running', about)
      await checkLeftovers(host, [vm, name], about)
    }
  },
  'a restore in place': {
    verb: 'vm.restore',
    arguments: inPlace,
    prepare: changedSinceBackup,
    check: async (host, _value, about) => {
      assert.equal(host.content()[5 * 65_536], 0, about)
      assert.equal(host.content()[0], 0x11, about)
      assert.equal(await stateOf(host), 'running', about)
      await checkLeftovers(host, [vm], about)
    }
  },
  'a trial whether a backup boots': {
    verb: 'backup.verify',
    arguments: { target, source, snapshot, boot: true },
    prepare: async (host) => void (await backUp(host)),
    check: async (host, value, about) => {
      assert.equal((value as unknown as BackupVerifyResult).verification.booted, true, about)
      await checkLeftovers(host, [vm], about)
    }
  }
}

const moments = ['before', 'after'] as const
/** Each run starts threads: without HOSTLET_CRASH_POINTS=all a few calls are chosen, others each time. */
const stride = process.env.HOSTLET_CRASH_POINTS === 'all' ? 1 : 6

for (const [title, scenario] of Object.entries(scenarios))
  it(`${title} ends, after a crash at a call to the hypervisor, as if there had been none`, async (t) => {
    const calls = await countCalls(scenario)
    assert.ok(calls >= 8, `${calls} calls`)
    const first = 1 + Math.floor(Math.random() * Math.min(stride, calls))
    t.diagnostic(`${calls} calls, killed at every ${stride} from ${first}`)
    for (let at = first; at <= calls; at += stride)
      for (const when of stride === 1 ? moments : moments.slice(at % 2, (at % 2) + 1))
        await crashAndResume(scenario, { at, when })
  })

async function countCalls({ verb, arguments: args, prepare, check }: Scenario): Promise<number> {
  await using host = await makeBackupBench()
  await prepare(host)
  let calls = 0
  const counted = interposed(host.bench.hypervisor, (call) => {
    calls++
    return call()
  })
  const value = await succeed(host.bench.restarted(counted), verb, args)
  await check(host, value, 'without a crash')
  return calls
}

async function crashAndResume(
  { verb, arguments: args, prepare, check }: Scenario,
  { at, when }: { at: number; when: 'before' | 'after' }
): Promise<void> {
  await using host = await makeBackupBench()
  await prepare(host)
  const killed = Promise.withResolvers<void>()
  const never = () => new Promise(() => undefined)
  let calls = 0
  // A start asks its gates, which call too.
  let isWithin = false
  const hypervisor = interposed(host.bench.hypervisor, async (call) => {
    if (isWithin || ++calls < at) return await call()
    if (calls === at && when === 'after') {
      isWithin = true
      await call()
      isWithin = false
    }
    host.store.before = async () => void (await never())
    killed.resolve()
    return await never()
  })
  const { journal, outcome } = begin(host.bench.restarted(hypervisor), verb, args)
  await Promise.race([killed.promise, outcome])
  delete host.store.before
  // The lease of a killed agent ends by itself; that is the lock's own test.
  for (const each of [...host.fleet.objects.keys()])
    if (each.includes('/locks/')) host.fleet.objects.delete(each)
  if (journal.entry.attempts === 0) return
  const about = `killed ${when} call ${at}`
  const resumed = await begin(host.bench.restarted(), verb, args, { from: journal }).outcome
  if (resumed.outcome !== 'done') throw new Error(`${about}: ${resumed.error.code} ${resumed.error.message}`)
  await check(host, resumed.value, about)
}
