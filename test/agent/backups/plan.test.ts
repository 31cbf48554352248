// How a backup is planned: incremental where what changed is known, and otherwise a reason in words.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { checkpointName, isOfTarget } from '../../../src/agent/backups/checkpoints.ts'
import { type LastSnapshot, type PlanInput, planBackup } from '../../../src/agent/backups/plan.ts'
import { transferMeter } from '../../../src/agent/backups/transfer-meter.ts'
import { FakeClock } from '../../support/fake-clock.ts'

const snapshot = '0b54e6f2-6b53-4a3e-9d1c-000000000001'
const checkpoint = checkpointName('main', snapshot)
const last: LastSnapshot = { snapshot, host: 'host-1', roles: ['root', 'data'], checkpoint }
const good = { snapshot, sequence: 1, at: 0, checkpoint: { name: checkpoint, xml: '<domaincheckpoint/>' } }

function plan(changes: Partial<PlanInput>) {
  return planBackup({
    mode: 'auto',
    roles: ['root', 'data'],
    host: 'host-1',
    last,
    damaged: undefined,
    checkpoints: [checkpoint],
    good,
    ...changes
  })
}

describe('the plan of a backup', () => {
  it('goes on from the last snapshot where its checkpoint is there', () => {
    assert.deepEqual(plan({}), { kind: 'incremental', parent: true, since: checkpoint })
    assert.deepEqual(plan({ good: undefined, roles: ['root'] }).kind, 'incremental')
  })

  it('tells libvirt again of a checkpoint that it has lost', () => {
    const { kind, since, redefine } = plan({ checkpoints: [] })
    assert.deepEqual([kind, since, redefine], ['incremental', checkpoint, '<domaincheckpoint/>'])
  })

  it('is full, without a reason, when there is nothing to go on from or it was asked for', () => {
    for (const changes of [{ mode: 'full' as const }, { last: undefined }])
      assert.deepEqual(plan(changes), { kind: 'full', parent: false, since: null })
  })

  it('is full, with the reason, once a verification has found damage', () => {
    const { kind, parent, since, reason } = plan({ good: { ...good, damage: { snapshot, fault: 'pack x' } } })
    assert.deepEqual([kind, parent, since], ['full', false, null])
    assert.match(reason ?? '', /found stored data damaged, in snapshot 0b54.*pack x/)
  })

  const reasons: readonly (readonly [string, Partial<PlanInput>, RegExp])[] = [
    ['another host made the last snapshot', { host: 'host-2' }, /made by host host-1/],
    ['the last snapshot has no checkpoint', { last: { ...last, checkpoint: undefined } }, /no checkpoint/],
    ['libvirt and the host have lost the checkpoint', { checkpoints: [], good: undefined }, /does not know/],
    [
      'the host knows a checkpoint of another snapshot only',
      { checkpoints: [], good: { ...good, checkpoint: { name: 'hostlet.main.x', xml: '<x/>' } } },
      /does not know/
    ],
    [
      'only the name of the checkpoint was kept',
      { checkpoints: [], good: { ...good, checkpoint: { name: checkpoint, xml: '' } } },
      /does not know/
    ],
    ['a disk is new', { last: { ...last, roles: ['root'] } }, /does not hold the data disk/],
    [
      'the newest snapshot is damaged',
      { damaged: { snapshot: 'x', fault: 'cut off' } },
      /x cannot be read: cut off/
    ]
  ]
  for (const [when, changes, reason] of reasons)
    it(`compares with the last snapshot and says why when ${when}`, () => {
      const { kind, parent, since, reason: said } = plan(changes)
      assert.deepEqual([kind, parent, since], ['fallback', true, null])
      assert.match(said ?? '', reason)
    })

  it('is full, with a reason, when no earlier snapshot can be read', () => {
    const { kind, parent, reason } = plan({ last: undefined, damaged: { snapshot: 'x', fault: 'cut off' } })
    assert.deepEqual([kind, parent], ['full', false])
    assert.match(reason ?? '', /no earlier snapshot can be read/)
  })

  it("tells the checkpoints of one repository from another's, also of one whose name begins alike", () => {
    assert.ok(isOfTarget(checkpoint, 'main'))
    assert.ok(!isOfTarget(checkpointName('main-2', snapshot), 'main'))
    assert.ok(!isOfTarget('manual', 'main'))
  })
})

describe('the progress of a transfer', () => {
  it('has rate and remaining time, and follows a target that gets slower', async () => {
    const clock = new FakeClock()
    const meter = transferMeter(clock)
    const totalBytes = 1_000_000
    assert.deepEqual(meter({ doneBytes: 0, totalBytes }), { doneBytes: 0, totalBytes, bytesPerSecond: 0 })
    await clock.advance(1_000)
    const fast = meter({ doneBytes: 100_000, totalBytes })
    assert.deepEqual(fast, { doneBytes: 100_000, totalBytes, bytesPerSecond: 100_000, remainingMs: 9_000 })
    await clock.advance(30_000)
    const slow = meter({ doneBytes: 130_000, totalBytes })
    assert.ok(slow.bytesPerSecond < 10_000 && slow.bytesPerSecond >= 1_000, String(slow.bytesPerSecond))
  })

  it('never says that more is done than there is', () => {
    const { totalBytes } = transferMeter(new FakeClock())({ doneBytes: 7, totalBytes: 5 })
    assert.equal(totalBytes, 7)
  })
})
