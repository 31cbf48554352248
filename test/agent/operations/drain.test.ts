// A host that is emptied of work: what it takes, what it refuses, what it remembers.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { describe, it } from 'node:test'
import { drainRetryAfterMs } from '../../../src/agent/operations/drain.ts'
import { settle } from '../../support/fake-clock.ts'
import { Fixture, gate } from './fixture.ts'

const command = (fixture: Fixture, verb: string, args: Record<string, unknown> = {}) => {
  const { subject: _none, ...claims } = fixture.claims({ verb, arguments: args })
  return claims
}
const change = (fixture: Fixture, vm: string, verb = 'test.change') =>
  fixture.claims({ verb, subject: { vm, uuid: randomUUID(), generation: 1 }, arguments: { vm } })
const lastNote = (fixture: Fixture) =>
  fixture.sentOf('progress').findLast(({ note }) => note !== undefined)?.note

describe('a host that is drained', () => {
  it('finishes what it has taken, what waits included, tells how much that is, and ends when nothing is left', async () => {
    await using fixture = await Fixture.create()
    const hold = gate()
    fixture.host.steps = [{ name: 'hold', apply: () => hold.promise }]
    const taken = ['web-1', 'web-2', 'web-3'].map((vm) => change(fixture, vm))
    for (const claims of taken) await fixture.receive(claims)
    const drain = command(fixture, 'host.drain')
    await fixture.receive(drain)
    assert.equal(fixture.dispatcher.drainingSince, fixture.clock.now())
    assert.equal(lastNote(fixture), 'waiting for 3 operations')
    assert.equal(fixture.resultOf(drain.id), undefined)
    hold.open()
    await settle()
    await settle()
    for (const { id } of taken) assert.equal(fixture.resultOf(id)?.outcome, 'done')
    assert.deepEqual(fixture.resultOf(drain.id)?.value, { since: fixture.clock.now(), idle: true })
  })

  it('refuses new work with when to come again, its own included; what stops, looks or cancels is taken', async () => {
    await using fixture = await Fixture.create()
    await fixture.receive(command(fixture, 'host.drain'))
    for (const claims of [change(fixture, 'web-1'), command(fixture, 'test.backup', { vm: 'web-1' })]) {
      await fixture.receive(claims)
      const { code, details, message } = fixture.sentOf('refusal').at(-1)?.error ?? {}
      assert.equal(code, 'E_UNAVAILABLE')
      assert.deepEqual([details?.reason, details?.retryAfterMs], ['draining', drainRetryAfterMs])
      assert.match(message ?? '', /VMs run on.*host resume/)
      assert.equal(fixture.journal.find(claims.id), undefined)
    }
    const subject = { vm: 'web-1', uuid: randomUUID(), generation: 1 }
    const own = { verb: 'test.backup', subject, arguments: { vm: 'web-1' } }
    await assert.rejects(fixture.dispatcher.begin(own), { code: 'E_UNAVAILABLE' })
    const stop = change(fixture, 'web-1', 'test.stop')
    const look = command(fixture, 'test.look', { vm: 'web-1' })
    for (const claims of [stop, look]) await fixture.receive(claims)
    for (const { id } of [stop, look]) assert.equal(fixture.resultOf(id)?.outcome, 'done')
    assert.equal(await fixture.cancel(randomUUID()), 'E_NOT_FOUND')
  })

  it('stays so over a restart, resumes what ran, and goes on waiting for it', async () => {
    await using fixture = await Fixture.create()
    const hold = gate()
    fixture.host.steps = [{ name: 'hold', apply: () => hold.promise }]
    const running = change(fixture, 'web-1')
    const drain = command(fixture, 'host.drain')
    for (const claims of [running, drain]) await fixture.receive(claims)
    const since = fixture.dispatcher.drainingSince
    const stopped = fixture.dispatcher.stop(1_000)
    await fixture.clock.advance(60_000)
    await stopped
    fixture.restart()
    assert.equal(fixture.dispatcher.drainingSince, since)
    fixture.dispatcher.resume()
    await settle()
    await fixture.receive(change(fixture, 'web-2'))
    assert.equal(fixture.refusalCode(), 'E_UNAVAILABLE')
    assert.equal(fixture.resultOf(drain.id), undefined)
    hold.open()
    await settle()
    await settle()
    assert.equal(fixture.resultOf(running.id)?.outcome, 'done')
    assert.deepEqual(fixture.resultOf(drain.id)?.value, { since, idle: true })
  })

  it('takes work again when it is told to, and the drain that still waits ends', async () => {
    await using fixture = await Fixture.create()
    const hold = gate()
    fixture.host.steps = [{ name: 'hold', apply: () => hold.promise }]
    await fixture.receive(change(fixture, 'web-1'))
    const drain = command(fixture, 'host.drain')
    await fixture.receive(drain)
    for (const resumed of [true, false]) {
      const resume = command(fixture, 'host.resume')
      await fixture.receive(resume)
      assert.deepEqual(fixture.resultOf(resume.id)?.value, { resumed })
    }
    assert.equal(fixture.resultOf(drain.id)?.value?.idle, false)
    assert.equal(fixture.dispatcher.drainingSince, undefined)
    const next = change(fixture, 'web-2')
    await fixture.receive(next)
    assert.ok(fixture.journal.find(next.id))
    fixture.restart()
    assert.equal(fixture.dispatcher.drainingSince, undefined)
    hold.open()
    await settle()
  })

  it('goes on being so when the waiting is cancelled or takes too long', async () => {
    await using fixture = await Fixture.create()
    const hold = gate()
    fixture.host.steps = [{ name: 'hold', apply: () => hold.promise }]
    await fixture.receive(change(fixture, 'web-1'))
    const first = command(fixture, 'host.drain')
    await fixture.receive(first)
    assert.equal(await fixture.cancel(first.id), 'cancelling')
    await settle()
    assert.equal(fixture.resultOf(first.id)?.error?.code, 'E_CANCELLED')
    const second = command(fixture, 'host.drain', { waitMs: 5_000 })
    await fixture.receive(second)
    await fixture.clock.advance(5_000)
    assert.equal(fixture.resultOf(second.id)?.error?.code, 'E_TIMEOUT')
    assert.notEqual(fixture.dispatcher.drainingSince, undefined)
    hold.open()
    await settle()
  })

  it('sees a command that was being looked at when it began', async () => {
    await using fixture = await Fixture.create()
    const [checking, hold] = [gate(), gate()]
    fixture.host.check = () => {
      checking.open()
      return hold.promise
    }
    const claims = change(fixture, 'web-1')
    const received = fixture.receive(claims)
    await checking.promise
    const drain = command(fixture, 'host.drain')
    await fixture.receive(drain)
    assert.equal(fixture.resultOf(drain.id), undefined)
    hold.open()
    await received
    await settle()
    assert.equal(fixture.resultOf(claims.id)?.outcome, 'done')
    assert.equal(fixture.resultOf(drain.id)?.value?.idle, true)
  })
})
