// vm.console: what it opens, for how long, and what it refuses.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, describe, it } from 'node:test'
import { profileOf } from '../../../src/agent/profiles.ts'
import { consoleAttachMs } from '../../../src/protocol/console.ts'
import { runningVm } from '../../support/memory-vms.ts'
import { type Bench, carry, makeBench, succeed } from './bench.ts'

describe('vm.console', () => {
  let bench: Bench
  let named: { readonly vm: string; readonly uuid: string }
  const limits = { sessionsMax: 4, sessionsPerVmMax: 2, idleMs: 60_000, longestMs: 600_000 }
  const args = (changes: Record<string, unknown> = {}) => ({
    ...{ ...named, session: randomUUID(), mode: 'write', by: 'ada' },
    ...changes
  })

  before(async () => {
    bench = await makeBench({ config: { console: limits } })
    named = await runningVm(bench.hypervisor, 'web-1')
  })
  after(() => bench[Symbol.asyncDispose]())

  async function refusal(changes: Record<string, unknown>): Promise<string> {
    const outcome = await carry(bench.host, 'vm.console', args(changes))
    assert.ok(outcome.outcome === 'failed', 'it was opened')
    return `${outcome.error.code} ${outcome.error.message}`
  }

  it('opens a session and says what holds for it: the shorter of what is asked for and allowed', async () => {
    const asked = args({ idleMs: 5_000, longestMs: 6_000_000, mode: 'read' })
    const value = await succeed(bench.host, 'vm.console', asked)
    const { vm, session } = asked as unknown as { vm: string; session: string }
    assert.deepEqual(value, {
      ...{ vm, session, mode: 'read' },
      ...{ idleMs: 5_000, longestMs: 600_000, attachMs: consoleAttachMs }
    })
    assert.equal(bench.host.consoleSessions.size, 1)
    assert.equal(bench.hypervisor.consoles.isOpen('web-1'), true)
    // The same grant opens nothing a second time.
    assert.deepEqual(await succeed(bench.host, 'vm.console', asked), value)
    assert.equal(bench.host.consoleSessions.size, 1)
    await bench.host.consoleSessions[Symbol.asyncDispose]()
  })

  it('is of one VM: not of another of its name, and of none that is off or not there', async () => {
    const other = randomUUID()
    assert.match(await refusal({ uuid: other }), /^E_CONFLICT .* the command is about /)
    assert.match(await refusal({ vm: 'web-9' }), /^E_NOT_FOUND /)
    await bench.hypervisor.cutPower('web-1', { signal: AbortSignal.timeout(10_000) })
    assert.match(await refusal({}), /^E_CONFLICT VM web-1 is off: .*hostlet vm start web-1/)
    await bench.hypervisor.startPaused('web-1', { signal: AbortSignal.timeout(10_000) })
    assert.match(await refusal({}), /^E_CONFLICT VM web-1 is off, and its disks are being backed up/)
  })

  it('is refused where the profile of the VM has none', async () => {
    const network = { network: 'hl-net', bridge: 'hlnet', subnet: '10.90.0.0/24', encryption: false }
    const profiles = { starter: profileOf({ ...network, console: false }) }
    await using shut = await makeBench({ config: { profiles } })
    named = await runningVm(shut.hypervisor, 'web-1')
    const outcome = await carry(shut.host, 'vm.console', args())
    assert.ok(outcome.outcome === 'failed')
    assert.equal(outcome.error.code, 'E_AUTH')
    assert.match(outcome.error.message, /profiles\.starter\.console/)
    assert.equal(shut.hypervisor.consoles.isOpen('web-1'), false)
  })

  it('takes no times, modes or names that are none', async () => {
    for (const changes of [{ mode: 'both' }, { idleMs: 1 }, { longestMs: 1e12 }, { session: 'x' }, { x: 1 }])
      assert.match(await refusal(changes), /^E_BAD_REQUEST /)
  })
})
