// What operators run when a host is not as it should be, against a real scheduler: leftovers, drift, two machines of one identity.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, before, describe, it } from 'node:test'
import type { DriftItem } from '../../src/protocol/drift.ts'
import type { OrphanItem } from '../../src/protocol/orphans.ts'
import { vmSummary } from '../scheduler/support/samples.ts'
import { TestAgent } from '../scheduler/support/test-agent.ts'
import { TestFleet } from './fleet.ts'

let fleet: TestFleet
before(async () => {
  fleet = await TestFleet.start()
  fleet.agent.sendInventory({ vms: [vmSummary()] })
  await fleet.agent.sync()
})
after(async () => {
  await fleet[Symbol.asyncDispose]()
})

describe('hostlet host clean', () => {
  const item = (name: string, changes: Partial<OrphanItem> = {}): OrphanItem => ({
    ...{ kind: 'volume', name, verdict: 'ours', why: 'VM gone (0199) was on this host' },
    ...changes
  })
  const gone = item('gone.0199.root.qcow2')
  const alien = item('alien.0200.root.qcow2', {
    verdict: 'maybe',
    why: 'nothing proves that hostlet made it'
  })

  it('says what would go and what stays, each with the reason, and sends what is known of the host', async () => {
    const { id } = fleet.agent
    const running = fleet.hostlet('host', 'clean', id, '--dry-run')
    const { claims } = await fleet.agent.nextCommand()
    assert.equal(claims.verb, 'host.clean')
    const { name, uuid } = vmSummary()
    assert.deepEqual(claims.arguments, { dryRun: true, keep: [{ name, uuid }] })
    fleet.agent.finish(claims.id, { dryRun: true, removed: [gone], kept: [alien], failed: [] })
    const { status, stdout, stderr } = await running
    assert.equal(status, 2, stderr)
    const [would = '', left = ''] = stdout.split('Left alone:')
    assert.match(would, /^Would go:\nKIND +NAME +WHY *\nvolume +gone\.0199\.root\.qcow2 +VM gone/)
    assert.match(left, /alien\.0200\.root\.qcow2 +nothing proves that hostlet made it/)
    assert.match(left, /1 would go, 1 would be left alone\n$/)
  })

  it('tells what could not be removed, also to programs', async () => {
    const running = fleet.hostlet('host', 'clean', fleet.agent.id, '-o', 'json')
    const { claims } = await fleet.agent.nextCommand()
    const failed = { ...gone, why: 'device is busy' }
    const result = { dryRun: false, removed: [], kept: [], failed: [failed] }
    fleet.agent.finish(claims.id, result)
    assert.deepEqual(JSON.parse((await running).stdout), result)
    const again = fleet.hostlet('host', 'clean', fleet.agent.id)
    const second = await fleet.agent.nextCommand()
    fleet.agent.finish(second.claims.id, result)
    assert.match(
      (await again).stdout,
      /^Could not be removed:\n.*device is busy.*0 removed, 1 could not be, 0 left alone\n$/s
    )
  })

  it('knows no host of another name', async () => {
    const { status, stdout, stderr } = await fleet.hostlet('host', 'clean', 'kvm-9')
    assert.deepEqual([status, stdout], [4, ''])
    assert.match(stderr, /^error E_NOT_FOUND: .*kvm-9/)
  })
})

describe('hostlet vm repair', () => {
  const item: DriftItem = {
    id: 'memory',
    title: 'memory as specified',
    recorded: '1 GiB',
    actual: '2 GiB',
    since: Date.parse('2030-01-02T03:04:05Z'),
    severity: 'warning',
    repair: 'ask',
    next: 'Run "hostlet vm repair".'
  }

  async function repaired(words: readonly string[], value: Record<string, unknown>): Promise<string> {
    const running = fleet.hostlet('vm', 'repair', 'web-1', ...words)
    const { claims } = await fleet.agent.nextCommand()
    assert.equal(claims.verb, 'vm.repair')
    assert.deepEqual(claims.arguments, { vm: 'web-1', dryRun: words.includes('--dry-run') })
    fleet.agent.finish(claims.id, { vm: 'web-1', repaired: [], remaining: [], ...value })
    const { status, stdout, stderr } = await running
    assert.equal(status, words.includes('--dry-run') ? 2 : 0, stderr)
    return stdout
  }

  it('says what is different, and what of it was or would be put right', async () => {
    const would = await repaired(['--dry-run'], { dryRun: true, repaired: [item] })
    assert.match(would, /^Would be put right:\n.*1 GiB.*2 GiB.*1 would be put right, 0 remain\n$/s)
    const disks = { ...item, id: 'disks', title: 'its disks and no others', repair: 'operator' }
    const did = await repaired([], { dryRun: false, repaired: [item], remaining: [disks] })
    assert.match(did, /^Put right:\n.*Different still:\n.*disks +1 GiB.*1 were put right, 1 remain\n$/s)
  })

  it('says of one that is well that it is', async () => {
    assert.equal(await repaired([], { dryRun: false }), 'VM web-1 is as its records say.\n')
  })

  it('knows no VM of another name', async () => {
    const { status, stderr } = await fleet.hostlet('vm', 'repair', 'web-9')
    assert.equal(status, 4)
    assert.match(stderr, /^error E_NOT_FOUND: .*web-9/)
  })
})

describe('hostlet host settle', () => {
  async function live(agent: TestAgent): Promise<void> {
    await agent.connect()
    agent.heartbeat()
    await agent.sync()
  }

  it('finds nothing to settle where no two machines were seen', async () => {
    const { status, stderr } = await fleet.hostlet('host', 'settle', fleet.agent.id)
    assert.equal(status, 5)
    assert.match(stderr, /^error E_CONFLICT: there is nothing to settle/)
  })

  it('lets a host connect again that two machines had claimed to be', async () => {
    const { agent, scheduler } = fleet
    const copy = new TestAgent({ reply: agent.reply, keyPem: agent.keyPem, address: () => scheduler.url })
    await live(agent)
    await live(copy)
    await agent.dial()
    const closed = Promise.all([agent.closed(), copy.closed()])
    agent.send(agent.hello())
    await closed
    assert.match((await fleet.hostlet('host', 'show', agent.id)).stdout, /hostlet host settle/)
    const { status, stdout } = await fleet.hostlet('host', 'settle', agent.id, '--yes')
    assert.deepEqual(
      [status, stdout],
      [0, `Host ${agent.id} may connect again; it does so within a minute.\n`]
    )
    await live(agent)
    assert.match((await fleet.hostlet('host', 'ls')).stdout, /connected/)
    const ended = once(agent.socket, 'close')
    agent.hangUp()
    await ended
  })
})
