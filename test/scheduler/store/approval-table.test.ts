// Commands that wait for approvals: kept from being sent in a loop, sent with what came, and in nobody's way.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { approvalsMax } from '../../../src/protocol/approval.ts'
import type { CommandRecord } from '../../../src/scheduler/store/store.ts'
import { TestStore } from '../support/test-store.ts'

const refusal = { code: 'E_AUTH', message: 'one missing', details: { reason: 'approval' } } as const
const courier = { host: 'kvm-1', instance: 'agent', now: 1_500, unansweredBefore: 0, unansweredMax: 10 }
const approval = (approver: string, jws = `${approver}.a.b`) => ({
  ...{ approver, jws, receivedAt: 1_500, receivedFrom: 'key' }
})

describe('commands that wait for approvals', () => {
  async function held(files: TestStore): Promise<CommandRecord> {
    await files.host('kvm-1')
    const command = await files.command('kvm-1')
    const { commands } = files.store
    await commands.sent(command.id, { connection: 'first', now: 1_500 })
    assert.ok(await commands.held(command, refusal, 'first'))
    return command
  }
  const next = async (files: TestStore, connection = 'first') =>
    (await files.store.commands.undelivered({ ...courier, connection }))?.id

  it('are not sent again over the connection that refused them, but over another one', async () => {
    await using files = new TestStore()
    const { id } = await held(files)
    assert.equal(await next(files), undefined)
    assert.equal((await files.store.commands.find(id))?.refusal?.message, 'one missing')
    assert.equal(await next(files, 'second'), id)
    files.openAgain()
    assert.equal(await next(files), undefined)
  })

  it('are sent again when an approval comes, once', async () => {
    await using files = new TestStore()
    const command = await held(files)
    assert.ok(await files.store.approvals.add(command.id, approval('alice')))
    assert.equal(await next(files), command.id)
    await files.store.commands.sent(command.id, { connection: 'first', now: 1_500 })
    await files.store.commands.held(command, refusal, 'first')
    assert.equal(await next(files), undefined)
  })

  it('are sent again at once where an approval came while the host refused', async () => {
    await using files = new TestStore()
    await files.host('kvm-1')
    const command = await files.command('kvm-1')
    await files.store.commands.sent(command.id, { connection: 'first', now: 1_500 })
    await files.store.approvals.add(command.id, approval('alice'))
    await files.store.commands.held(command, refusal, 'first')
    assert.equal(await next(files), command.id)
  })

  it('keep the newest of each approver, so many in all, and none once they have ended', async () => {
    await using files = new TestStore()
    const command = await held(files)
    const { approvals, commands } = files.store
    await approvals.add(command.id, approval('alice', 'old.a.b'))
    await approvals.add(command.id, approval('alice', 'new.a.b'))
    assert.deepEqual(
      (await approvals.of(command.id)).map(({ jws }) => jws),
      ['new.a.b']
    )
    for (let index = 1; index < approvalsMax; index++)
      await approvals.add(command.id, approval(`person-${index}`))
    await assert.rejects(approvals.add(command.id, approval('late')), { code: 'E_CONFLICT' })
    assert.ok(await approvals.add(command.id, approval('alice')))
    const seen = await commands.find(command.id)
    assert.ok(seen && (await commands.failed(seen, refusal, 1_600, 'none')))
    assert.equal(await approvals.add(command.id, approval('alice')), false)
    assert.equal((await approvals.of(command.id)).length, approvalsMax)
  })

  it('go with their command when that is forgotten', async () => {
    await using files = new TestStore({ commands: { keepMs: 1, rowsMax: 1_000 } })
    const command = await held(files)
    await files.store.approvals.add(command.id, approval('alice'))
    const seen = await files.store.commands.find(command.id)
    assert.ok(seen && (await files.store.commands.failed(seen, refusal, 1_600, 'none')))
    await files.store.prune(1_000_000)
    assert.deepEqual(await files.store.approvals.of(command.id), [])
  })
})
