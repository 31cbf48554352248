// What does not wait behind what, and what a host that is busy says.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { describe, it } from 'node:test'
import { urgentMax } from '../../../src/agent/operations/lanes.ts'
import { settle } from '../../support/fake-clock.ts'
import { Fixture, gate } from './fixture.ts'

/** Operations that go on when told to; who runs is noted by VM. */
async function setUp({ waitingMax = 64 } = {}) {
  const fixture = await Fixture.create()
  fixture.restart({ concurrencyMax: 2, waitingMax })
  const holds = new Map<string, ReturnType<typeof gate>>()
  const begun: string[] = []
  fixture.host.steps = [
    {
      name: 'hold',
      apply: async ({ subject }) => {
        const vm = subject?.vm ?? ''
        begun.push(vm)
        await holds.get(vm)?.promise
      }
    }
  ]
  const uuids = new Map<string, string>()
  const send = async (verb: string, vm: string, generation = 1) => {
    const uuid = uuids.get(vm) ?? randomUUID()
    uuids.set(vm, uuid)
    const claims = fixture.claims({ verb, subject: { vm, uuid, generation }, arguments: { vm } })
    await fixture.receive(claims)
    return claims.id
  }
  const hold = (...vms: string[]) => {
    for (const vm of vms) holds.set(vm, gate())
  }
  const release = async (...vms: string[]) => {
    for (const vm of vms) holds.get(vm)?.open()
    await settle()
  }
  const names = (prefix: string, count: number) =>
    Array.from({ length: count }, (_, index) => `${prefix}-${index}`)
  return { fixture, begun, send, hold, release, names }
}

describe('what is urgent', () => {
  it('begins at once behind ten others that run or wait', async () => {
    const { fixture, begun, send, hold, release, names } = await setUp()
    await using _fixture = fixture
    const others = names('busy', 10)
    hold(...others)
    for (const vm of others) await send('test.change', vm)
    const stop = await send('test.stop', 'web-1')
    assert.deepEqual(begun, ['busy-0', 'busy-1', 'web-1'])
    assert.equal(fixture.resultOf(stop)?.outcome, 'done')
    await release(...others)
  })

  it('is taken when the places of everything else are full', async () => {
    const { fixture, send, hold, release, names } = await setUp({ waitingMax: 1 })
    await using _fixture = fixture
    const others = names('busy', 4)
    hold(...others)
    for (const vm of others) await send('test.change', vm)
    assert.equal(fixture.refusalCode(), 'E_BUSY')
    const stop = await send('test.stop', 'web-1')
    assert.equal(fixture.resultOf(stop)?.outcome, 'done')
    await release(...others)
  })

  it('waits for an operation on its own VM that was accepted before', async () => {
    const { fixture, begun, send, hold, release } = await setUp()
    await using _fixture = fixture
    hold('web-1')
    await send('test.change', 'web-1')
    const stop = await send('test.stop', 'web-1', 2)
    assert.deepEqual([begun, fixture.resultOf(stop)], [['web-1'], undefined])
    await release('web-1')
    assert.deepEqual([begun, fixture.resultOf(stop)?.outcome], [['web-1', 'web-1'], 'done'])
  })

  it('keeps nothing else waiting, however much of it there is', async () => {
    const { fixture, begun, send, hold, release, names } = await setUp()
    await using _fixture = fixture
    const stops = names('stop', 20)
    hold(...stops)
    for (const vm of stops) await send('test.stop', vm)
    assert.equal(begun.length, urgentMax)
    const change = await send('test.change', 'web-1')
    assert.equal(fixture.resultOf(change)?.outcome, 'done')
    await release(...stops)
    assert.equal(begun.length, 21)
  })

  it('has no more right than others where the agent does it by itself', async () => {
    const { fixture, send, hold, release, names } = await setUp()
    await using _fixture = fixture
    const own = names('own', 2)
    hold(...own)
    for (const vm of own)
      await fixture.dispatcher.begin({
        verb: 'test.stop',
        subject: { vm, uuid: randomUUID(), generation: 1 },
        arguments: { vm }
      })
    const change = await send('test.change', 'web-1')
    assert.equal(fixture.resultOf(change), undefined, 'they have the places of ordinary work')
    await release(...own)
    assert.equal(fixture.resultOf(change)?.outcome, 'done')
  })
})

describe('a host that is busy', () => {
  it('says when to come again, by what waits and how long work took of late', async () => {
    const { fixture, send, hold, release, names } = await setUp({ waitingMax: 2 })
    await using _fixture = fixture
    const [first, ...rest] = names('busy', 6)
    hold(...(first ? [first] : []), ...rest)
    await send('test.change', first ?? '')
    await fixture.clock.advance(20_000)
    await release(first ?? '')
    for (const vm of rest) await send('test.change', vm)
    const { code, details, message } = fixture.sentOf('refusal').at(-1)?.error ?? {}
    assert.equal(code, 'E_BUSY')
    // 20 s each, two at a time: half of the two that wait, and this one.
    assert.equal(details?.retryAfterMs, 20_000)
    assert.match(message ?? '', /in 20 s/)
    await release(...rest)
  })
})
