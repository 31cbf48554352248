// Cancelling: what waits never begins, what runs is undone where its verb allows it, and the wish outlives the agent.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { describe, it } from 'node:test'
import { restDeadlineMs } from '../../../src/agent/operations/engine.ts'
import { settle } from '../../support/fake-clock.ts'
import { Fixture, gate } from './fixture.ts'

/** One step that lasts until it is aborted, and one before it. */
function holdUp(fixture: Fixture): void {
  fixture.host.steps = [
    {
      name: 'one',
      apply: async () => fixture.host.note('one'),
      undo: async () => fixture.host.note('undo one')
    },
    {
      name: 'long',
      apply: async ({ signal }) => {
        fixture.host.note('long')
        const { promise, reject } = Promise.withResolvers<undefined>()
        signal.addEventListener('abort', () => reject(signal.reason), { once: true })
        return promise
      },
      undo: async () => fixture.host.note('undo long')
    }
  ]
}

function transferOf(fixture: Fixture) {
  const { subject: _none, ...claims } = fixture.claims({ verb: 'test.transfer' })
  return claims
}

describe('cancelling an operation', () => {
  it('that runs aborts it, undoes what it began, and tells so in its own result', async () => {
    await using fixture = await Fixture.create()
    holdUp(fixture)
    const claims = transferOf(fixture)
    await fixture.receive(claims)
    assert.deepEqual(fixture.host.done, ['one', 'long'])
    assert.equal(await fixture.cancel(claims.id), 'cancelling')
    assert.deepEqual(fixture.host.done, ['one', 'long', 'undo long', 'undo one'])
    assert.equal(fixture.resultOf(claims.id)?.error?.code, 'E_CANCELLED')
    assert.deepEqual(fixture.journal.unfinished(), [])
    assert.equal(await fixture.cancel(claims.id), 'failed')
  })

  it('is on disk before it is answered', async () => {
    await using fixture = await Fixture.create()
    holdUp(fixture)
    const claims = transferOf(fixture)
    await fixture.receive(claims)
    const seen: unknown[] = []
    const { push } = fixture.sent
    fixture.sent.push = (message) => {
      if (message.type === 'result' && message.result.command !== claims.id)
        seen.push(fixture.journal.find(claims.id)?.cancelled)
      return push.call(fixture.sent, message)
    }
    await fixture.cancel(claims.id)
    assert.deepEqual(seen, [true])
  })

  it('needs no libvirt, and waits behind nothing that is urgent', async () => {
    await using fixture = await Fixture.create()
    const open = gate()
    fixture.host.steps = [{ name: 'one', apply: () => open.promise }]
    const stops = ['a', 'b', 'c', 'd', 'e'].map((vm) => stopOf(fixture, vm))
    for (const stop of stops) await fixture.receive(stop)
    const away = { isReady: () => false, untilReady: () => new Promise<void>(() => undefined) }
    Object.assign(fixture.readiness, away)
    assert.equal(await fixture.cancel(stops.at(-1)?.id ?? ''), 'cancelling')
    open.open()
    await settle()
  })

  it('whose verb cannot be cut short is refused, and it goes on', async () => {
    await using fixture = await Fixture.create()
    const open = gate()
    fixture.host.steps = [{ name: 'one', apply: () => open.promise }]
    const claims = fixture.claims()
    await fixture.receive(claims)
    assert.equal(await fixture.cancel(claims.id), 'E_UNSUPPORTED')
    open.open()
    await settle()
    assert.equal(fixture.resultOf(claims.id)?.outcome, 'done')
  })

  it('that waits ends it at once, whatever its verb, and nothing of it happens', async () => {
    await using fixture = await Fixture.create()
    const open = gate()
    fixture.host.steps = [
      { name: 'one', apply: () => open.promise, undo: async () => fixture.host.note('undo') }
    ]
    const first = fixture.claims()
    const second = fixture.claims({ subject: { ...first.subject, vm: 'web-1', generation: 2 } as never })
    await fixture.receive(first)
    await fixture.receive(second)
    assert.equal(fixture.dispatcher.waiting, 1)
    assert.equal(await fixture.cancel(second.id), 'cancelling')
    assert.equal(fixture.resultOf(second.id)?.error?.code, 'E_CANCELLED')
    assert.equal(fixture.dispatcher.waiting, 0)
    open.open()
    await settle()
    assert.equal(fixture.resultOf(first.id)?.outcome, 'done')
    assert.deepEqual(fixture.host.done, [])
  })

  it('that has ended says how, and one that is unknown that it is', async () => {
    await using fixture = await Fixture.create()
    const claims = fixture.claims()
    await fixture.receive(claims)
    assert.equal(await fixture.cancel(claims.id), 'done')
    assert.equal(await fixture.cancel(randomUUID()), 'E_NOT_FOUND')
    assert.equal(fixture.resultOf(claims.id)?.outcome, 'done')
  })

  it('that only looks is refused', async () => {
    await using fixture = await Fixture.create()
    const { subject: _none, ...claims } = fixture.claims({ verb: 'test.look' })
    await fixture.receive(claims)
    assert.equal(await fixture.cancel(claims.id), 'E_UNSUPPORTED')
  })
})

describe('an agent that is killed', () => {
  it('after the cancellation undoes the operation when it is back, instead of going on', async () => {
    await using fixture = await Fixture.create()
    holdUp(fixture)
    const undoing = gate()
    fixture.host.steps = fixture.host.steps.map((step) => ({ ...step, undo: () => undoing.promise }))
    const claims = transferOf(fixture)
    await fixture.receive(claims)
    assert.equal(await fixture.cancel(claims.id), 'cancelling')
    assert.equal(fixture.resultOf(claims.id), undefined)
    holdUp(fixture)
    fixture.host.done.length = 0
    fixture.restart()
    fixture.dispatcher.resume()
    await settle()
    assert.deepEqual(fixture.host.done, ['undo long', 'undo one'])
    assert.equal(fixture.resultOf(claims.id)?.error?.code, 'E_CANCELLED')
  })

  it('between the wish and its effect still does what was wished, whether it was begun or not', async () => {
    await using fixture = await Fixture.create()
    const begun = { ...transferOf(fixture), arguments: { vm: 'web-1' } }
    const untouched = { ...transferOf(fixture), arguments: { vm: 'web-2' } }
    for (const claims of [begun, untouched]) fixture.journal.accept(claims, claims.id)
    fixture.journal.begin(begun.id)
    fixture.journal.checkpoint(begun.id, 1, {})
    for (const { id } of [begun, untouched]) fixture.journal.cancel(id)
    fixture.restart()
    fixture.dispatcher.resume()
    await settle()
    assert.deepEqual(fixture.host.done, ['undo two', 'undo one'])
    for (const { id } of [begun, untouched]) assert.equal(fixture.resultOf(id)?.error?.code, 'E_CANCELLED')
  })

  it('tells of the cancellation, not of the interruption, where both had it undone', async () => {
    await using fixture = await Fixture.create()
    const claims = fixture.claims({ verb: 'test.rollback' })
    fixture.journal.accept(claims, claims.id)
    fixture.journal.begin(claims.id)
    fixture.journal.cancel(claims.id)
    fixture.restart()
    fixture.dispatcher.resume()
    await settle()
    assert.deepEqual(fixture.host.done, ['undo one'])
    assert.equal(fixture.resultOf(claims.id)?.error?.code, 'E_CANCELLED')
  })

  it('lets an operation that is resumed be cancelled', async () => {
    await using fixture = await Fixture.create()
    holdUp(fixture)
    const claims = transferOf(fixture)
    await fixture.receive(claims)
    fixture.restart()
    fixture.dispatcher.resume()
    await settle()
    assert.equal(await fixture.cancel(claims.id), 'cancelling')
    assert.equal(fixture.resultOf(claims.id)?.error?.code, 'E_CANCELLED')
    assert.ok(fixture.host.done.includes('undo long'))
  })
})

describe('the lane of transfers', () => {
  it('has places of its own, so that long ones keep nobody waiting', async () => {
    await using fixture = await Fixture.create()
    holdUp(fixture)
    for (const vm of ['web-1', 'web-2', 'web-3'])
      await fixture.receive({ ...transferOf(fixture), arguments: { vm } })
    assert.equal(fixture.dispatcher.running, 2)
    assert.equal(fixture.dispatcher.waiting, 1)
    fixture.host.steps = []
    const claims = fixture.claims({
      subject: { vm: 'web-9', uuid: randomUUID(), generation: 1 },
      arguments: { vm: 'web-9' }
    })
    await fixture.receive(claims)
    assert.equal(fixture.resultOf(claims.id)?.outcome, 'done')
    await fixture.receive({ ...transferOf(fixture), arguments: { vm: 'web-4' } })
    assert.equal(fixture.refusalCode(), 'E_BUSY')
  })
})

/** A step from which there is no way back, which lasts until it is let go, and one after it. */
function decide(fixture: Fixture) {
  const [first, second] = [gate(), gate()]
  const { host } = fixture
  host.steps = [
    {
      name: 'decide',
      apply: async () => {
        host.note('decide')
        await first.promise
      },
      undo: async () => host.note('undo decide'),
      final: true
    },
    {
      name: 'tidy',
      apply: async ({ signal }) => {
        host.note('tidy')
        await second.promise
        signal.throwIfAborted()
      },
      undo: async () => host.note('undo tidy')
    }
  ]
  return { first, second }
}

describe('once there is no way back', () => {
  it('an operation that is cancelled ends as done, with what follows', async () => {
    await using fixture = await Fixture.create()
    const { first, second } = decide(fixture)
    const claims = transferOf(fixture)
    await fixture.receive(claims)
    first.open()
    await settle()
    assert.equal(await fixture.cancel(claims.id), 'cancelling')
    second.open()
    await settle()
    assert.deepEqual(fixture.host.done, ['decide', 'tidy'])
    assert.equal(fixture.resultOf(claims.id)?.outcome, 'done')
  })

  it('so does one that is cancelled while that step comes to its end', async () => {
    await using fixture = await Fixture.create()
    const { first, second } = decide(fixture)
    const claims = transferOf(fixture)
    await fixture.receive(claims)
    assert.equal(await fixture.cancel(claims.id), 'cancelling')
    first.open()
    second.open()
    await settle()
    assert.deepEqual(fixture.host.done, ['decide', 'tidy'])
    assert.equal(fixture.resultOf(claims.id)?.outcome, 'done')
  })

  it('its deadline ends it no more', async () => {
    await using fixture = await Fixture.create()
    const { first, second } = decide(fixture)
    const claims = transferOf(fixture)
    await fixture.receive(claims)
    first.open()
    await settle()
    await fixture.clock.advance(61_000)
    second.open()
    await settle()
    assert.equal(fixture.resultOf(claims.id)?.outcome, 'done')
  })

  it('it goes on after a crash, although it was cancelled meanwhile', async () => {
    await using fixture = await Fixture.create()
    const { first } = decide(fixture)
    const claims = transferOf(fixture)
    await fixture.receive(claims)
    first.open()
    await settle()
    await fixture.cancel(claims.id)
    fixture.restart()
    decide(fixture).second.open()
    fixture.dispatcher.resume()
    await settle()
    assert.equal(fixture.resultOf(claims.id)?.outcome, 'done')
    assert.ok(!fixture.host.done.some((what) => what.startsWith('undo')))
  })

  it('a failure of the rest says that what was asked for is done, and undoes nothing', async () => {
    await using fixture = await Fixture.create()
    const { first, second } = decide(fixture)
    const claims = transferOf(fixture)
    await fixture.receive(claims)
    first.open()
    await settle()
    await fixture.clock.advance(restDeadlineMs + 1_000)
    second.open()
    await settle()
    const error = fixture.resultOf(claims.id)?.error
    assert.equal(error?.code, 'E_TIMEOUT')
    assert.match(error?.message ?? '', /^What was asked for is done and stays/)
    assert.deepEqual(fixture.host.done, ['decide', 'tidy'])
  })
})

function stopOf(fixture: Fixture, vm: string) {
  const subject = { vm, uuid: randomUUID(), generation: 1 }
  return fixture.claims({ verb: 'test.stop', subject, arguments: { vm } })
}
