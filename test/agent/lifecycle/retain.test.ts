// Torn down and kept until a day on the hypervisor in memory: off, had back, or erased by the agent itself when the time is over.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ErasureRecords, keepErasure } from '../../../src/agent/lifecycle/erasure-records.ts'
import { eraseVerb, Retention, retryMs } from '../../../src/agent/lifecycle/retention.ts'
import { Journal } from '../../../src/agent/operations/journal.ts'
import type { LocalOperation, LocalRequest } from '../../../src/agent/operations/local.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import type { CommandResult } from '../../../src/protocol/command.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { type BackupBench, source, vm, wait } from '../backups/bench.ts'
import { begin, carry, succeed } from '../verbs/bench.ts'
import { interposed } from '../verbs/interposed.ts'
import { certified, keepKeys, makeLifeBench, recordOf, restarted, wrappedKeys } from './bench.ts'

const dayMs = 86_400_000
/** Valid by the clock of the tests too. */
const certificate = { from: 0, to: Date.parse('2040-01-01') }

async function code(
  host: BackupBench,
  verb: string,
  args: Record<string, unknown>
): Promise<string | undefined> {
  const outcome = await carry(host.host, verb, args)
  return outcome.outcome === 'failed' ? outcome.error.code : undefined
}

describe('a VM that is torn down and kept', () => {
  it('is off, has everything still, and is told apart from others', async () => {
    const clock = new FakeClock()
    await using host = await makeLifeBench({ clock, certificate })
    await keepKeys(host)
    const before = await recordOf(host)
    const value = await succeed(host.host, 'vm.teardown', { vm, retainDays: 7 })
    assert.equal(value.retainedUntil, clock.now() + 7 * dayMs)
    assert.equal(value.certificate, undefined)
    const after = await recordOf(host)
    assert.deepEqual(after.placement, before.placement)
    assert.deepEqual([after.state, after.wanted], ['stopped', 'stopped'])
    assert.equal(wrappedKeys(host).length, 2)
    const [listed] = await host.host.vms.list(wait())
    assert.equal(listed?.retainedUntil, value.retainedUntil)
  })

  it('cannot be started, changed or backed up, also by what was accepted before, and its name stays taken', async () => {
    await using host = await makeLifeBench()
    await succeed(host.host, 'vm.teardown', { vm, retainDays: 1 })
    for (const verb of ['vm.start', 'vm.stop', 'vm.reboot'])
      assert.equal(await code(host, verb, { vm }), 'E_CONFLICT', verb)
    assert.equal(await code(host, 'vm.reimage', { vm, image: host.bench.image }), 'E_CONFLICT')
    assert.equal(await code(host, 'vm.backup', { vm, target: 'main' }), 'E_CONFLICT')
    await assert.rejects(host.bench.hypervisor.start(vm, wait()), { code: 'E_CONFLICT' })
    const specification = host.bench.specification({ uuid: '11111111-6b53-4a3e-9d1c-0123456789ab' })
    const taken = await carry(host.host, 'vm.provision', { specification })
    assert.match(taken.outcome === 'failed' ? taken.error.message : '', /vm undelete web-1/)
  })

  it('comes back as it was: running where it ran, off where it was off', async () => {
    await using host = await makeLifeBench()
    const before = await recordOf(host)
    await succeed(host.host, 'vm.teardown', { vm, retainDays: 1 })
    await succeed(host.host, 'vm.undelete', { vm })
    const { run: _other, generation: _newer, ...after } = await recordOf(host)
    const { run: _run, generation: _older, ...was } = before
    assert.deepEqual(after, was)
    await succeed(host.host, 'vm.stop', { vm, force: true })
    await succeed(host.host, 'vm.teardown', { vm, retainDays: 1 })
    await succeed(host.host, 'vm.undelete', { vm })
    const off = await recordOf(host)
    assert.deepEqual([off.state, off.wanted, off.retained], ['stopped', 'stopped', undefined])
  })

  it('keeps what it was wanted to be when it is torn down twice, with the days of the last time', async () => {
    const clock = new FakeClock()
    await using host = await makeLifeBench({ clock, certificate })
    await succeed(host.host, 'vm.teardown', { vm, retainDays: 1 })
    const value = await succeed(host.host, 'vm.teardown', { vm, retainDays: 30 })
    assert.equal(value.retainedUntil, clock.now() + 30 * dayMs)
    await succeed(host.host, 'vm.undelete', { vm })
    assert.equal((await recordOf(host)).wanted, 'running')
  })

  it('is erased at once when it is torn down without days', async () => {
    await using host = await makeLifeBench()
    await keepKeys(host)
    await succeed(host.host, 'vm.teardown', { vm, retainDays: 30 })
    const claims = certified(host, await succeed(host.host, 'vm.teardown', { vm }))
    assert.equal(claims.keys.length, 2)
    assert.deepEqual(await host.bench.leftovers(), [])
    assert.equal(await code(host, 'vm.undelete', { vm }), 'E_NOT_FOUND')
  })

  it('is not had back when nobody tore it down, when its time is over, or by a stale command', async () => {
    const clock = new FakeClock()
    await using host = await makeLifeBench({ clock, certificate })
    assert.equal(await code(host, 'vm.undelete', { vm }), 'E_CONFLICT')
    await succeed(host.host, 'vm.teardown', { vm, retainDays: 1 })
    const { generation } = await recordOf(host)
    const stale = await carry(host.host, 'vm.undelete', { vm }, { subject: { vm, uuid: source, generation } })
    assert.equal(stale.outcome === 'failed' && stale.error.code, 'E_STALE')
    assert.equal(await code(host, eraseVerb, { vm }), 'E_CONFLICT')
    await clock.advance(dayMs)
    assert.equal(await code(host, 'vm.undelete', { vm }), 'E_NOT_FOUND')
    certified(host, await succeed(host.host, eraseVerb, { vm }))
    assert.deepEqual(await host.bench.leftovers(), [])
  })

  it('takes nothing to keep that is not there', async () => {
    await using host = await makeLifeBench()
    await succeed(host.host, 'vm.teardown', { vm })
    assert.equal(await code(host, 'vm.teardown', { vm, retainDays: 1 }), 'E_NOT_FOUND')
  })
})

/** A few calls, others each time, unless all are asked for. */
const stride = process.env.HOSTLET_CRASH_POINTS === 'all' ? 1 : 5
const firstOf = (calls: number) => 1 + Math.floor(Math.random() * Math.min(stride, calls))

for (const verb of ['vm.teardown', 'vm.undelete'] as const)
  it(`${verb} of a VM that is kept ends after a crash at any call to the hypervisor as if there had been none`, async () => {
    const calls = await killed(verb, Number.POSITIVE_INFINITY, 'before')
    for (let at = firstOf(calls); at <= calls; at += stride)
      for (const when of ['before', 'after'] as const) await killed(verb, at, when)
  })

async function killed(
  verb: 'vm.teardown' | 'vm.undelete',
  at: number,
  when: 'before' | 'after'
): Promise<number> {
  await using host = await makeLifeBench()
  if (verb === 'vm.undelete') await succeed(host.host, 'vm.teardown', { vm, retainDays: 1 })
  const args = verb === 'vm.undelete' ? { vm } : { vm, retainDays: 1 }
  let calls = 0
  let counting = false
  const dead = Promise.withResolvers<void>()
  const hypervisor = interposed(host.bench.hypervisor, async (call) => {
    if (!counting || ++calls < at) return await call()
    if (calls === at && when === 'after') await call()
    dead.resolve()
    return await new Promise(() => undefined)
  })
  const agent = await restarted(host, hypervisor)
  counting = true
  const run = begin(agent, verb, args)
  await Promise.race([dead.promise, run.outcome])
  if (run.journal.entry.attempts === 0) return calls
  const about = `${verb} killed ${when} call ${at}`
  const again = async () => await begin(await restarted(host), verb, args, { from: run.journal }).outcome
  const end = at === Number.POSITIVE_INFINITY ? await run.outcome : await again()
  assert.equal(end.outcome, 'done', `${about}: ${JSON.stringify(end)}`)
  const { state, wanted, retained } = await recordOf(host)
  if (verb === 'vm.undelete')
    assert.deepEqual([state, wanted, retained], ['running', 'running', undefined], about)
  else assert.deepEqual([state, wanted, retained?.wanted], ['stopped', 'stopped', 'running'], about)
  return calls
}

/** The part of the dispatcher that begins operations, carrying them out on a bench. */
class Operations {
  readonly begun: LocalRequest[] = []
  readonly ended: Promise<CommandResult>[] = []
  readonly #host: BackupBench

  constructor(host: BackupBench) {
    this.#host = host
  }

  async begin(request: LocalRequest): Promise<LocalOperation> {
    this.begun.push(request)
    const { verb, subject } = request
    const ended = carry(this.#host.host, verb, request.arguments, { subject }).then(
      (outcome) => ({ command: 'x', startedAt: 0, finishedAt: 0, ...outcome }) as CommandResult
    )
    this.ended.push(ended)
    return { id: 'x', verb, subject, arguments: request.arguments, ended }
  }

  localOperations(): readonly LocalOperation[] {
    return []
  }
}

describe('the agent by itself', () => {
  it('erases a VM when its time is over and not before, also after a restart in between, and tries again', async () => {
    const clock = new FakeClock()
    await using host = await makeLifeBench({ clock, certificate })
    await keepKeys(host)
    await succeed(host.host, 'vm.teardown', { vm, retainDays: 2 })
    const operations = new Operations(host)
    const options = {
      vms: (signal: { signal: AbortSignal }) => host.bench.hypervisor.listVms(signal),
      readiness: { isReady: () => true },
      operations,
      clock,
      log: silentLogger
    }
    {
      await using first = new Retention(options)
      first.begin()
      await clock.advance(dayMs)
      assert.deepEqual(operations.begun, [])
    }
    await using second = new Retention(options)
    host.bench.hypervisor.failNext('cutPower', new Error('not now'))
    second.begin()
    await clock.advance(dayMs)
    await passUntil(clock, () => operations.begun.length === 1)
    assert.equal((await operations.ended[0])?.outcome, 'failed')
    await clock.advance(retryMs)
    await passUntil(clock, () => operations.begun.length === 2)
    const result = await operations.ended[1]
    assert.ok(result)
    const claims = certified(host, result.value ?? {})
    assert.deepEqual(
      claims.keys.map(({ outcome }) => outcome),
      ['destroyed', 'destroyed']
    )
    assert.deepEqual(await host.bench.leftovers(), [])
  })

  it('keeps the certificate until the scheduler has it, once, and over a restart', async () => {
    await using host = await makeLifeBench()
    const value = await succeed(host.host, 'vm.teardown', { vm })
    const path = `${host.bench.directory}/agent.db`
    const entry = { origin: 'schedule', claims: { verb: eraseVerb } } as Parameters<typeof keepErasure>[1]
    const result = { command: 'x', outcome: 'done', value, startedAt: 0, finishedAt: 0 } as CommandResult
    {
      using journal = new Journal(path, { clock: new FakeClock() })
      const records = new ErasureRecords(journal)
      assert.equal(keepErasure(records, { ...entry, origin: 'command' }, result), false)
      assert.ok(keepErasure(records, entry, result) && keepErasure(records, entry, result))
    }
    using journal = new Journal(path, { clock: new FakeClock() })
    const records = new ErasureRecords(journal)
    const [notice, ...more] = records.unacknowledged()
    assert.deepEqual([notice?.certificate, more], [value.certificate, []])
    records.acknowledge([notice?.id ?? ''])
    assert.deepEqual(records.unacknowledged(), [])
  })
})

async function passUntil(clock: FakeClock, holds: () => boolean): Promise<void> {
  for (let tries = 0; tries < 1_000 && !holds(); tries++) await clock.advance(1_000)
  assert.ok(holds())
}
