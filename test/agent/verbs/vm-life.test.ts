// vm.start, vm.stop, vm.reboot, vm.teardown, vm.state and vm.list on the hypervisor in memory.

import assert from 'node:assert/strict'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import type { Outcome } from '../../../src/agent/operations/verb.ts'
import type { ErrorCode } from '../../../src/errors.ts'
import { HostletError } from '../../../src/errors.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { type Bench, begin, carry, makeBench, succeed } from './bench.ts'

const vm = 'web-1'
const uuid = '0b54e6f2-6b53-4a3e-9d1c-0123456789ab'
const otherUuid = '11111111-6b53-4a3e-9d1c-0123456789ab'
const wait = () => ({ signal: AbortSignal.timeout(30_000) })

describe('vm.stop', () => {
  it('asks the guest, and says that nothing was forced', async () => {
    await using bench = await provisioned()
    const value = await succeed(bench.host, 'vm.stop', { vm })
    assert.equal(value.forced, false)
    const record = await bench.hypervisor.findVm(vm, wait())
    assert.equal(record?.state, 'stopped')
    assert.equal(record?.reason, 'shutdown')
    assert.equal(record?.wanted, 'stopped')
    assert.ok(!bench.hypervisor.calls.includes(`cutPower ${vm}`))
  })

  it('presses again while the guest does not listen, then cuts the power and says so', async () => {
    const clock = new FakeClock()
    await using bench = await provisioned({ clock })
    bench.hypervisor.guests.obeysPowerButton = false
    const outcome = await whileTimePasses(clock, carry(bench.host, 'vm.stop', { vm, graceMs: 21_000 }))
    assert.equal(outcome.outcome === 'done' && outcome.value.forced, true)
    const presses = bench.hypervisor.calls.filter((call) => call === `pressPowerButton ${vm}`).length
    assert.ok(presses >= 3 && presses <= 6, `${presses} presses`)
    assert.equal((await bench.hypervisor.findVm(vm, wait()))?.reason, 'destroyed')
  })

  it('is done when QEMU dies under the power button, and fails when libvirt goes on failing', async () => {
    const clock = new FakeClock()
    await using bench = await provisioned({ clock })
    const fault = () => new HostletError('E_LIBVIRT', 'Unable to read from monitor: Connection reset by peer')
    for (const _ of [1, 2]) bench.hypervisor.failNext('pressPowerButton', fault())
    const failed = await whileTimePasses(clock, carry(bench.host, 'vm.stop', { vm }))
    assert.equal(failed.outcome === 'failed' && failed.error.code, 'E_LIBVIRT')
    bench.hypervisor.failNext('pressPowerButton', fault())
    const stopping = carry(bench.host, 'vm.stop', { vm })
    setImmediate(() => bench.hypervisor.shutDownGuest(vm))
    const outcome = await whileTimePasses(clock, stopping)
    assert.equal(outcome.outcome === 'done' && outcome.value.forced, false)
  })

  it('cuts the power at once when forced, without asking', async () => {
    await using bench = await provisioned()
    const value = await succeed(bench.host, 'vm.stop', { vm, force: true })
    assert.equal(value.forced, true)
    assert.ok(!bench.hypervisor.calls.includes(`pressPowerButton ${vm}`))
  })

  it('writes that it stays off after the cut, when forced', async () => {
    await using bench = await provisioned()
    const before = bench.hypervisor.calls.length
    await succeed(bench.host, 'vm.stop', { vm, force: true })
    assert.deepEqual(changesSince(bench, before), [`cutPower ${vm}`, `annotate ${vm}`])
    assert.equal((await bench.hypervisor.findVm(vm, wait()))?.wanted, 'stopped')
  })

  it('waits out the grace of a machine that stands still, cuts its power, and writes that it stays off then', async () => {
    const clock = new FakeClock()
    await using bench = await provisioned({ clock })
    for (const call of ['annotate', 'pressPowerButton'] as const)
      bench.hypervisor.failNext(call, new HostletError('E_TIMEOUT', 'no answer within 10000 ms'))
    bench.hypervisor.guests.obeysPowerButton = false
    const before = bench.hypervisor.calls.length
    const outcome = await whileTimePasses(clock, carry(bench.host, 'vm.stop', { vm, graceMs: 21_000 }))
    assert.equal(outcome.outcome === 'done' && outcome.value.forced, true)
    const changes = changesSince(bench, before)
    const expected = ['annotate', 'pressPowerButton', 'cutPower', 'annotate'].map((call) => `${call} ${vm}`)
    assert.deepEqual(changes, expected)
    const record = await bench.hypervisor.findVm(vm, wait())
    assert.deepEqual([record?.state, record?.wanted], ['stopped', 'stopped'])
  })

  it('has no effect on a VM that is off', async () => {
    await using bench = await provisioned()
    await succeed(bench.host, 'vm.stop', { vm })
    const value = await succeed(bench.host, 'vm.stop', { vm, force: true })
    assert.equal(value.forced, false)
  })
})

describe('vm.teardown of a machine that stands still', () => {
  it('cuts its power although its metadata cannot be written', async () => {
    await using bench = await provisioned()
    bench.hypervisor.failNext('annotate', new HostletError('E_TIMEOUT', 'no answer within 10000 ms'))
    const before = bench.hypervisor.calls.length
    await succeed(bench.host, 'vm.teardown', { vm })
    const expected = ['annotate', 'cutPower', 'annotate'].map((call) => `${call} ${vm}`)
    assert.deepEqual(changesSince(bench, before), expected)
    assert.deepEqual(await bench.leftovers(), [])
  })

  it('is kept, off, where it is to be kept', async () => {
    await using bench = await provisioned()
    bench.hypervisor.failNext('annotate', new HostletError('E_TIMEOUT', 'no answer within 10000 ms'))
    await succeed(bench.host, 'vm.teardown', { vm, retainDays: 2 })
    const record = await bench.hypervisor.findVm(vm, wait())
    assert.deepEqual([record?.state, record?.wanted], ['stopped', 'stopped'])
    assert.ok(record?.retained !== undefined, 'it is not told to be kept')
  })
})

describe('vm.start', () => {
  it('starts what is off with its reservation, and has it run after a host boot', async () => {
    await using bench = await provisioned()
    await succeed(bench.host, 'vm.stop', { vm })
    const record = await bench.hypervisor.findVm(vm, wait())
    await bench.hypervisor.removeReservation('hl-net', record?.placement.macAddress ?? '', wait())
    const value = await succeed(bench.host, 'vm.start', { vm })
    assert.equal(value.address, record?.placement.address)
    assert.equal((await bench.hypervisor.findVm(vm, wait()))?.wanted, 'running')
    assert.equal((await bench.hypervisor.listReservations('hl-net', wait())).length, 1)
  })

  it('does not have a VM run later that could not be started now', async () => {
    await using bench = await provisioned()
    await succeed(bench.host, 'vm.stop', { vm })
    bench.hypervisor.failNext('start', new HostletError('E_CAPACITY', 'no memory'))
    expectError('E_CAPACITY', await carry(bench.host, 'vm.start', { vm }))
    assert.equal((await bench.hypervisor.findVm(vm, wait()))?.wanted, 'stopped')
  })
})

describe('vm.start on a host without memory', () => {
  it('is refused, and has no effect on a VM that runs', async () => {
    let availableBytes = 1024 ** 3
    await using bench = await provisioned({ availableMemoryBytes: () => availableBytes })
    availableBytes = 0
    await succeed(bench.host, 'vm.start', { vm })
    await succeed(bench.host, 'vm.stop', { vm })
    expectError('E_CAPACITY', await carry(bench.host, 'vm.start', { vm }))
    assert.equal((await bench.hypervisor.findVm(vm, wait()))?.state, 'stopped')
  })
})

describe('vm.reboot', () => {
  it('asks the guest and waits until it did', async () => {
    await using bench = await provisioned()
    assert.equal((await succeed(bench.host, 'vm.reboot', { vm })).forced, false)
    assert.ok(bench.hypervisor.calls.includes(`requestReboot ${vm}`))
  })

  it('says when the guest does not listen, and resets it when forced', async () => {
    const clock = new FakeClock()
    await using bench = await provisioned({ clock })
    bench.hypervisor.guests.obeysReboot = false
    expectError('E_TIMEOUT', await whileTimePasses(clock, carry(bench.host, 'vm.reboot', { vm })))
    assert.equal((await succeed(bench.host, 'vm.reboot', { vm, force: true })).forced, true)
  })

  it('refuses a VM that is off', async () => {
    await using bench = await provisioned()
    await succeed(bench.host, 'vm.stop', { vm })
    expectError('E_CONFLICT', await carry(bench.host, 'vm.reboot', { vm }))
  })

  it('is not run a second time after a crash', async () => {
    await using bench = await provisioned()
    const run = begin(bench.host, 'vm.reboot', { vm })
    await run.outcome
    const asked = bench.hypervisor.calls.filter((call) => call.startsWith('requestReboot')).length
    expectError('E_INTERRUPTED', await begin(bench.host, 'vm.reboot', { vm }, { from: run.journal }).outcome)
    assert.equal(bench.hypervisor.calls.filter((call) => call.startsWith('requestReboot')).length, asked)
  })
})

describe('vm.teardown', () => {
  it('removes everything, says what, and succeeds again', async () => {
    await using bench = await provisioned()
    const { certificateFault, ...value } = await succeed(bench.host, 'vm.teardown', { vm })
    assert.match(String(certificateFault), /not enrolled/)
    assert.deepEqual(value, {
      vm,
      uuid,
      existed: true,
      removed: ['address 10.90.0.2', 'web-1.0b54e6f2.root.qcow2', 'definition web-1'],
      remaining: []
    })
    assert.deepEqual(await bench.leftovers(), [])
    const again = await succeed(bench.host, 'vm.teardown', { vm })
    assert.deepEqual([again.existed, again.removed], [false, []])
  })

  it('succeeds for a VM that never was, on a host that never had one', async () => {
    await using bench = await makeBench()
    assert.equal((await succeed(bench.host, 'vm.teardown', { vm })).existed, false)
  })

  it('removes what is left of a VM whose definition is gone', async () => {
    await using bench = await provisioned()
    await bench.hypervisor.cutPower(vm, wait())
    await bench.hypervisor.undefine(vm, wait())
    const console = join(bench.directory, 'run', 'console')
    await mkdir(console, { recursive: true })
    for (const name of [`${uuid}.log`, `${uuid}.log.0`]) await writeFile(join(console, name), 'secret')
    await writeFile(join(console, `${otherUuid}.log`), 'of another VM')
    const value = await succeed(bench.host, 'vm.teardown', { vm })
    assert.deepEqual(value.removed, ['address 10.90.0.2', 'web-1.0b54e6f2.root.qcow2'])
    assert.deepEqual(await bench.leftovers(), [])
    assert.deepEqual(await readdir(console), [`${otherUuid}.log`])
  })

  it("removes QEMU's logs of the VM, and of no other", async () => {
    await using bench = await provisioned()
    const logs = join(bench.directory, 'logs')
    await mkdir(logs)
    const others = ['web-1-b.log', 'web-10.log', 'web-1.log.old', 'web-1.logs']
    const own = ['web-1.log', 'web-1.log.0', 'web-1.log.1.gz']
    for (const name of [...own, ...others]) await writeFile(join(logs, name), 'passphrase')
    await succeed(bench.host, 'vm.teardown', { vm })
    assert.deepEqual((await readdir(logs)).toSorted(), others.toSorted())
  })

  it('removes nothing of another VM with the name, of a name that begins alike, or of somebody else', async () => {
    await using bench = await provisioned()
    const before = await bench.leftovers()
    const subject = { vm, uuid: otherUuid, generation: 1_000_000 }
    expectError('E_CONFLICT', await carry(bench.host, 'vm.teardown', { vm }, { subject }))
    const alike = (of: string) => ({ subject: { vm: 'web', uuid: of, generation: 1 } })
    expectError('E_CONFLICT', await carry(bench.host, 'vm.teardown', { vm: 'web' }, alike(uuid)))
    await succeed(bench.host, 'vm.teardown', { vm: 'web' }, alike(otherUuid))
    bench.hypervisor.foreign.push({ name: 'theirs', uuid: otherUuid, state: 'running' })
    const theirs = { subject: { vm: 'theirs', uuid: otherUuid, generation: 1 } }
    expectError('E_CONFLICT', await carry(bench.host, 'vm.teardown', { vm: 'theirs' }, theirs))
    assert.deepEqual((await bench.leftovers()).slice(0, 2), before.slice(0, 2))
    assert.equal((await bench.hypervisor.findVm(vm, wait()))?.state, 'running')
    assert.equal(bench.hypervisor.foreign.length, 1)
  })

  it('removes the rest when a volume cannot be removed, says so, and removes it the next time', async () => {
    await using bench = await provisioned()
    bench.hypervisor.failNext('removeVolume', new HostletError('E_LIBVIRT', 'busy'))
    const value = await succeed(bench.host, 'vm.teardown', { vm })
    assert.deepEqual(value.remaining, ['web-1.0b54e6f2.root.qcow2'])
    assert.deepEqual(await bench.leftovers(), ['volume web-1.0b54e6f2.root.qcow2'])
    const again = await succeed(bench.host, 'vm.teardown', { vm })
    assert.deepEqual([again.removed, again.remaining], [['web-1.0b54e6f2.root.qcow2'], []])
    assert.deepEqual(await bench.leftovers(), [])
  })
})

describe('verbs on one VM', () => {
  const verbs = ['vm.start', 'vm.stop', 'vm.reboot'] as const

  it('say that a VM is not there', async () => {
    await using bench = await makeBench()
    for (const verb of [...verbs, 'vm.state'])
      expectError('E_NOT_FOUND', await carry(bench.host, verb, { vm }), verb)
  })

  it('refuse a command that is not newer than what the VM has carried out, and change nothing', async () => {
    await using bench = await provisioned()
    const { generation = 0 } = (await bench.hypervisor.findVm(vm, wait())) ?? {}
    for (const verb of [...verbs, 'vm.teardown']) {
      const outcome = await carry(bench.host, verb, { vm }, { subject: { vm, uuid, generation } })
      expectError('E_STALE', outcome, verb)
    }
    assert.equal((await bench.hypervisor.findVm(vm, wait()))?.state, 'running')
  })

  it('refuse a command about another VM of the same name', async () => {
    await using bench = await provisioned()
    for (const verb of verbs) {
      const subject = { vm, uuid: otherUuid, generation: 1_000_000 }
      expectError('E_CONFLICT', await carry(bench.host, verb, { vm }, { subject }), verb)
    }
  })

  it('refuse names that are not plain', async () => {
    await using bench = await makeBench()
    for (const name of ['<vm>', '../x', 'a&b', ''])
      for (const verb of [...verbs, 'vm.state', 'vm.teardown'])
        expectError('E_BAD_REQUEST', await carry(bench.host, verb, { vm: name }), `${verb} ${name}`)
  })

  it('say that libvirt is away', async () => {
    await using bench = await provisioned()
    bench.hypervisor.setStatus('away')
    for (const verb of [...verbs, 'vm.teardown', 'vm.state'])
      expectError('E_UNAVAILABLE', await carry(bench.host, verb, { vm }), verb)
    expectError('E_UNAVAILABLE', await carry(bench.host, 'vm.list', {}))
  })
})

describe('vm.list', () => {
  it('tells ours and foreign apart', async () => {
    await using bench = await provisioned()
    const foreign = { name: 'Their <VM>', uuid: otherUuid, state: 'running' } as const
    bench.hypervisor.foreign.push(foreign)
    const value = await succeed(bench.host, 'vm.list', {})
    assert.deepEqual(value.foreign, [foreign])
    assert.deepEqual(
      (value.vms as { name: string; state: string }[]).map(({ name, state }) => [name, state]),
      [[vm, 'running']]
    )
  })
})

describe('image.prefetch', () => {
  it('stores an image once', async () => {
    await using bench = await makeBench()
    const first = await succeed(bench.host, 'image.prefetch', { image: bench.image })
    assert.equal(first.cached, false)
    assert.equal(first.sizeBytes, 64 * 1024)
    const second = await succeed(bench.host, 'image.prefetch', { image: bench.image })
    assert.deepEqual(second, { ...first, cached: true })
    assert.equal(bench.hypervisor.calls.filter((call) => call.startsWith('uploadBase')).length, 1)
  })
})

describe('host.facts', () => {
  it('tells what the host is', async () => {
    await using bench = await makeBench()
    const { facts } = (await succeed(bench.host, 'host.facts', {})) as { facts: Record<string, unknown> }
    assert.equal(facts.hostId, 'host-1')
    assert.equal(facts.accelerator, 'tcg')
    assert.ok(Number(facts.memoryBytes) > 1024 ** 2)
    assert.match(String(facts.kernel), /^[0-9]+\./)
  })
})

/** What was done to the VM since so many calls, looks left out. */
function changesSince({ hypervisor }: Bench, before: number): string[] {
  const kinds = ['annotate', 'cutPower', 'pressPowerButton']
  return hypervisor.calls.slice(before).filter((call) => kinds.includes(call.split(' ')[0] ?? ''))
}

async function provisioned(options: Parameters<typeof makeBench>[0] = {}): Promise<Bench> {
  const bench = await makeBench(options)
  await succeed(bench.host, 'vm.provision', { specification: bench.specification() })
  return bench
}

/** Moves the clock on until the outcome is there. */
async function whileTimePasses(clock: FakeClock, outcome: Promise<Outcome>): Promise<Outcome> {
  let over = false
  void outcome.finally(() => {
    over = true
  })
  for (let steps = 0; !over && steps < 10_000; steps++) await clock.advance(250)
  return await outcome
}

function expectError(code: ErrorCode, outcome: Outcome, about = ''): void {
  assert.equal(outcome.outcome, 'failed', about)
  if (outcome.outcome === 'failed')
    assert.equal(outcome.error.code, code, `${about}: ${outcome.error.message}`)
}
