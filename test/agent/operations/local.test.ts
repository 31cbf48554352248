// What the agent does by itself: journaled and resumed like a command, told to nobody but who asked for it.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { agentStops } from '../../../src/agent/operations/engine.ts'
import { HostletError } from '../../../src/errors.ts'
import { settle } from '../../support/fake-clock.ts'
import { vmUuid } from '../../support/signed-commands.ts'
import { Fixture, gate } from './fixture.ts'

const subject = { vm: 'web-1', uuid: vmUuid, generation: 3 }
const request = { verb: 'test.transfer', subject, arguments: { vm: 'web-1' } }

describe('an operation of the agent itself', () => {
  it('runs its steps and gives its recorded end to who began it, and nothing to the scheduler', async () => {
    await using fixture = await Fixture.create()
    const { id, ended } = await fixture.dispatcher.begin(request)
    assert.equal(fixture.journal.find(id)?.origin, 'schedule')
    const result = await ended
    assert.deepEqual(result.value, { ok: true })
    assert.deepEqual(fixture.host.done, ['one', 'two'])
    assert.deepEqual(fixture.sent, [])
    assert.deepEqual(fixture.dispatcher.unacknowledged(), [])
    assert.deepEqual(fixture.dispatcher.localOperations(), [])
    assert.deepEqual(
      fixture.ends.map(({ entry, result: { command } }) => [entry.origin, command]),
      [['schedule', id]]
    )
  })

  it('overtakes no command: the next one of the VM is taken with the generation that it would have had', async () => {
    await using fixture = await Fixture.create()
    fixture.generations.set(vmUuid, 3)
    await (await fixture.dispatcher.begin(request)).ended
    assert.equal(fixture.journal.generationOf(vmUuid), undefined)
    const claims = fixture.claims({ subject: { ...subject, generation: 4 } })
    await fixture.receive(claims)
    assert.equal(fixture.resultOf(claims.id)?.outcome, 'done')
  })

  it('waits for the lock that a command of the VM has', async () => {
    await using fixture = await Fixture.create()
    const open = gate()
    fixture.host.steps = [{ name: 'one', apply: () => open.promise }]
    await fixture.receive(fixture.claims())
    const { id } = await fixture.dispatcher.begin(request)
    assert.equal(fixture.journal.find(id)?.state, 'accepted')
    open.open()
    await settle()
    assert.equal(fixture.journal.find(id)?.state, 'done')
  })

  it('is resumed by the next start, and can be awaited there', async () => {
    await using fixture = await Fixture.create()
    const open = gate()
    const [one] = fixture.host.steps
    fixture.host.steps = [...(one ? [one] : []), { name: 'two', apply: () => open.promise }]
    const { id, ended } = await fixture.dispatcher.begin(request)
    await settle()
    const left = assert.rejects(ended, { code: agentStops.code })
    await Promise.all([fixture.dispatcher.stop(0), fixture.clock.advance(20_000), left])
    fixture.restart()
    fixture.dispatcher.resume()
    const resumed = fixture.dispatcher.localOperations()
    assert.deepEqual(
      resumed.map((operation) => [operation.id, operation.verb, operation.subject, operation.arguments]),
      [[id, 'test.transfer', subject, request.arguments]]
    )
    open.open()
    assert.equal((await resumed[0]?.ended)?.outcome, 'done')
    assert.deepEqual(fixture.host.done, ['one'])
    assert.deepEqual(fixture.sent, [])
  })

  it('that its verb refuses is not recorded', async () => {
    await using fixture = await Fixture.create()
    fixture.host.check = async () => {
      throw new HostletError('E_NOT_FOUND', 'no such repository')
    }
    await assert.rejects(fixture.dispatcher.begin(request), { code: 'E_NOT_FOUND' })
    assert.deepEqual(fixture.journal.unfinished(), [])
    await assert.rejects(fixture.dispatcher.begin({ ...request, verb: 'vm.migrate' }), {
      code: 'E_UNSUPPORTED'
    })
  })

  it('cannot be begun by a command under its id', async () => {
    await using fixture = await Fixture.create()
    const { id, ended } = await fixture.dispatcher.begin(request)
    await ended
    await fixture.receive(fixture.claims({ id }))
    assert.equal(fixture.refusalCode(), 'E_CONFLICT')
  })

  it('can be cancelled', async () => {
    await using fixture = await Fixture.create()
    fixture.host.steps = [
      {
        name: 'long',
        apply: ({ signal }) =>
          new Promise<undefined>((_resolve, reject) =>
            signal.addEventListener('abort', () => reject(signal.reason))
          )
      }
    ]
    const { id, ended } = await fixture.dispatcher.begin(request)
    await settle()
    assert.equal(await fixture.cancel(id), 'cancelling')
    assert.equal((await ended).error?.code, 'E_CANCELLED')
  })
})

describe('what is written with the end of an operation', () => {
  it('is on disk with it, or neither is: the end is tried again', async () => {
    await using fixture = await Fixture.create()
    let failures = 1
    fixture.restart({
      onEnd: ({ id }) => {
        fixture.journal.database.run('INSERT INTO generations VALUES (?, ?, 1, 1)', id, 'x')
        if (failures-- > 0) throw new HostletError('E_CAPACITY', 'the disk is full')
      }
    })
    const claims = fixture.claims()
    await fixture.receive(claims)
    assert.equal(fixture.journal.find(claims.id)?.state, 'running')
    assert.equal(fixture.journal.generationOf(claims.id), undefined)
    await fixture.clock.advance(60_000)
    assert.equal(fixture.journal.find(claims.id)?.state, 'done')
    assert.equal(fixture.journal.generationOf(claims.id), 1)
  })
})
