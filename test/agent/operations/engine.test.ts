// Steps forward, steps back, and on from where a crash, a stop or libvirt's absence left them.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { agentStops, attemptsMax, stepTriesMax } from '../../../src/agent/operations/engine.ts'
import type { Operation, Step } from '../../../src/agent/operations/verb.ts'
import { HostletError } from '../../../src/errors.ts'
import { settle } from '../../support/fake-clock.ts'
import { vmUuid } from '../../support/signed-commands.ts'
import { type FakeHost, Fixture, gate } from './fixture.ts'

const broken = (code: HostletError['code'] = 'E_CONFLICT') => new HostletError(code, 'broken')
/** A step that never ends by itself, as where an agent is killed; its signal is all that ends it. */
const stuck = (name: string): Step => ({
  name,
  apply: ({ signal }: Operation) =>
    new Promise<undefined>((_resolve, reject) =>
      signal.addEventListener('abort', () => reject(signal.reason))
    )
})
const recorded = (host: FakeHost, name: string, apply?: () => Promise<unknown>): Step => ({
  name,
  apply: async () => {
    host.note(name)
    await apply?.()
  },
  undo: async () => host.note(`undo ${name}`)
})
const resultOf = (fixture: Fixture) => fixture.sentOf('result').at(-1)?.result

describe('an operation that fails', () => {
  it('is undone from the step that failed back to the first, and says why it failed', async () => {
    await using fixture = await Fixture.create()
    const { host } = fixture
    host.steps = [
      recorded(host, 'one'),
      recorded(host, 'two'),
      recorded(host, 'three', () => Promise.reject<undefined>(broken())),
      recorded(host, 'four')
    ]
    await fixture.receive(fixture.claims())
    assert.deepEqual(host.done, ['one', 'two', 'three', 'undo three', 'undo two', 'undo one'])
    assert.deepEqual(resultOf(fixture)?.error, { code: 'E_CONFLICT', message: 'broken' })
  })

  it('runs all its undos even if one fails, and tells what is left', async () => {
    await using fixture = await Fixture.create()
    const { host } = fixture
    host.steps = [
      recorded(host, 'one'),
      { ...recorded(host, 'two'), undo: () => Promise.reject<undefined>(broken('E_INTERNAL')) },
      recorded(host, 'three', () => Promise.reject<undefined>(broken()))
    ]
    await fixture.receive(fixture.claims())
    assert.deepEqual(host.done, ['one', 'two', 'three', 'undo three', 'undo one'])
    assert.equal(resultOf(fixture)?.error?.code, 'E_CONFLICT')
    assert.equal(resultOf(fixture)?.error?.details?.undoFailed, 'two')
    assert.equal(fixture.dispatcher.leftovers, 1)
  })

  it('is not one whose steps are done: a look at what came of them that gets no answer is taken again', async () => {
    await using fixture = await Fixture.create()
    const { host, clock } = fixture
    host.steps = [recorded(host, 'one')]
    const { value } = host
    let looks = 0
    Object.defineProperty(host, 'value', {
      get: () => {
        if (++looks < 3) throw broken('E_TIMEOUT')
        return value
      }
    })
    await fixture.receive(fixture.claims())
    for (let tries = 1; tries < 3; tries++) {
      await clock.advance(10_000)
      await settle()
    }
    assert.equal(resultOf(fixture)?.outcome, 'done')
    assert.deepEqual([host.done, looks], [['one'], 3])
  })

  it('tries an undo again while what it needs is away', async () => {
    await using fixture = await Fixture.create()
    const { host, clock } = fixture
    let tries = 0
    host.steps = [
      {
        name: 'one',
        apply: () => Promise.reject<undefined>(broken()),
        undo: async () => {
          if (++tries < 3) throw broken('E_UNAVAILABLE')
        }
      }
    ]
    await fixture.receive(fixture.claims())
    assert.equal(resultOf(fixture), undefined)
    await clock.advance(10_000)
    assert.equal(tries, 3)
    assert.equal(resultOf(fixture)?.error?.details, undefined)
  })

  it('is undone at its deadline, and says that it took too long', async () => {
    await using fixture = await Fixture.create()
    const { host } = fixture
    host.steps = [recorded(host, 'one'), stuck('two')]
    await fixture.receive(fixture.claims())
    await fixture.clock.advance(60_000)
    assert.deepEqual(host.done, ['one', 'undo one'])
    assert.equal(resultOf(fixture)?.error?.code, 'E_TIMEOUT')
  })

  it('waits for a step that was aborted to end before it undoes it', async () => {
    await using fixture = await Fixture.create()
    const { host, clock } = fixture
    const slow = gate()
    host.steps = [recorded(host, 'one', () => slow.promise)]
    await fixture.receive(fixture.claims())
    await clock.advance(60_000)
    assert.deepEqual(host.done, ['one'])
    slow.open()
    await settle()
    assert.deepEqual(host.done, ['one', 'undo one'])
  })

  it('frees its VM and its place for the next', async () => {
    await using fixture = await Fixture.create()
    const { host } = fixture
    host.steps = [recorded(host, 'one', () => Promise.reject<undefined>(broken()))]
    await fixture.receive(fixture.claims())
    host.steps = []
    await fixture.receive(fixture.claims({ subject: { vm: 'web-1', uuid: vmUuid, generation: 2 } }))
    assert.equal(resultOf(fixture)?.outcome, 'done')
    assert.deepEqual([fixture.dispatcher.running, fixture.dispatcher.waiting], [0, 0])
  })
})

describe('steps', () => {
  it('see the notes of those before them, also after a crash', async () => {
    await using fixture = await Fixture.create()
    const { host } = fixture
    const seen: unknown[] = []
    host.steps = [
      { name: 'one', apply: async () => ({ address: '10.0.0.2' }) },
      { name: 'two', apply: async ({ notes }) => void seen.push(notes) },
      stuck('three')
    ]
    await fixture.receive(fixture.claims())
    fixture.restart()
    host.steps = [
      ...host.steps.slice(0, 2),
      { name: 'three', apply: async ({ notes }) => void seen.push(notes) }
    ]
    fixture.dispatcher.resume()
    await settle()
    assert.deepEqual(seen, [{ address: '10.0.0.2' }, { address: '10.0.0.2' }])
    assert.equal(resultOf(fixture)?.outcome, 'done')
  })

  it('are tried again when libvirt went away under them, and not for other reasons', async () => {
    await using fixture = await Fixture.create()
    const { host, clock } = fixture
    let tries = 0
    host.steps = [
      {
        name: 'one',
        apply: async () => {
          if (++tries < 3) throw broken('E_INTERRUPTED')
        }
      }
    ]
    await fixture.receive(fixture.claims())
    await clock.advance(20_000)
    assert.equal(resultOf(fixture)?.outcome, 'done')
    assert.equal(tries, 3)
    tries = -1_000
    host.steps = [
      {
        name: 'one',
        apply: async () => {
          tries++
          throw broken('E_UNAVAILABLE')
        }
      }
    ]
    await fixture.receive(fixture.claims({ subject: { vm: 'web-1', uuid: vmUuid, generation: 2 } }))
    assert.equal(tries, -999, 'libvirt is there: what is unavailable is something else')
    assert.equal(resultOf(fixture)?.error?.code, 'E_UNAVAILABLE')
  })

  it('are not tried for ever', async () => {
    await using fixture = await Fixture.create()
    const { host, clock } = fixture
    let tries = 0
    host.steps = [
      {
        name: 'one',
        apply: async () => {
          tries++
          throw broken('E_INTERRUPTED')
        }
      }
    ]
    await fixture.receive(fixture.claims())
    await clock.advance(50_000)
    assert.equal(tries, stepTriesMax)
    assert.equal(resultOf(fixture)?.outcome, 'failed')
  })

  it('tell their progress, but not more than once a second each', async () => {
    await using fixture = await Fixture.create()
    const { host, clock } = fixture
    const report = gate()
    host.steps = [
      {
        name: 'copy',
        apply: async ({ progress }) => {
          for (let part = 0; part < 100; part++) progress({ ratio: part / 100 })
          await clock.sleep(1_000)
          progress({ ratio: 2, note: 'x'.repeat(1_000) })
          report.open()
        }
      }
    ]
    await fixture.receive(fixture.claims())
    await clock.advance(1_000)
    await report.promise
    const progress = fixture.sentOf('progress')
    assert.equal(progress.length, 2)
    assert.equal(progress[1]?.ratio, 1)
    assert.equal(progress[1]?.note?.length, 256)
  })
})

describe('after a crash', () => {
  /** Receives a command, lets it stick in the named step, and starts anew as if the process had been killed. */
  async function crashIn(fixture: Fixture, verb: string): Promise<void> {
    const { host } = fixture
    host.steps = [recorded(host, 'one'), stuck('two'), recorded(host, 'three')]
    await fixture.receive(fixture.claims({ verb }))
    host.done.length = 0
    host.steps = ['one', 'two', 'three'].map((name) => recorded(host, name))
    fixture.restart()
    fixture.dispatcher.resume()
    await settle()
  }

  it('an operation that resumes goes on with the step that was under way', async () => {
    await using fixture = await Fixture.create()
    await crashIn(fixture, 'test.change')
    assert.deepEqual(fixture.host.done, ['two', 'three'])
    assert.equal(resultOf(fixture)?.outcome, 'done')
  })

  it('an operation that rolls back undoes what was begun', async () => {
    await using fixture = await Fixture.create()
    await crashIn(fixture, 'test.rollback')
    assert.deepEqual(fixture.host.done, ['undo two', 'undo one'])
    assert.equal(resultOf(fixture)?.error?.code, 'E_INTERRUPTED')
  })

  it('an operation that was accepted and not begun is carried out, whatever it does after a crash', async () => {
    await using fixture = await Fixture.create()
    const claims = fixture.claims({ verb: 'test.rollback' })
    fixture.journal.accept(claims, 'digest')
    fixture.restart()
    fixture.dispatcher.resume()
    await settle()
    assert.deepEqual(fixture.host.done, ['one', 'two'])
    assert.equal(resultOf(fixture)?.outcome, 'done')
  })

  it('an operation that was being undone is undone further, not done', async () => {
    await using fixture = await Fixture.create()
    const { host } = fixture
    const never = gate()
    host.steps = [
      recorded(host, 'one'),
      { ...recorded(host, 'two', () => Promise.reject<undefined>(broken())), undo: () => never.promise }
    ]
    await fixture.receive(fixture.claims())
    host.done.length = 0
    host.steps = ['one', 'two'].map((name) => recorded(host, name))
    fixture.restart()
    fixture.dispatcher.resume()
    await settle()
    assert.deepEqual(host.done, ['undo two', 'undo one'])
    assert.equal(resultOf(fixture)?.error?.code, 'E_CONFLICT')
    never.open()
  })

  it('an operation that stops the agent each time is undone in the end', async () => {
    await using fixture = await Fixture.create()
    const { host } = fixture
    host.steps = [stuck('one')]
    await fixture.receive(fixture.claims())
    for (let crash = 1; crash < attemptsMax; crash++) {
      fixture.restart()
      fixture.dispatcher.resume()
      await settle()
    }
    fixture.restart()
    host.steps = [recorded(host, 'one')]
    fixture.dispatcher.resume()
    await settle()
    assert.deepEqual(host.done, ['undo one'])
    assert.equal(resultOf(fixture)?.error?.code, 'E_INTERRUPTED')
  })

  it('operations wait for libvirt before they go on', async () => {
    await using fixture = await Fixture.create()
    const { host } = fixture
    host.steps = [recorded(host, 'one'), stuck('two')]
    await fixture.receive(fixture.claims())
    host.done.length = 0
    host.steps = ['one', 'two'].map((name) => recorded(host, name))
    const ready = gate()
    fixture.restart({ readiness: { isReady: () => false, untilReady: () => ready.promise } })
    fixture.dispatcher.resume()
    await settle()
    assert.deepEqual(host.done, [])
    ready.open()
    await settle()
    assert.deepEqual(host.done, ['two'])
  })

  it('an operation that this version no longer understands ends, and blocks nothing', async () => {
    await using fixture = await Fixture.create()
    const claims = fixture.claims({ verb: 'vm.forgotten' })
    fixture.journal.accept(claims, 'digest')
    fixture.dispatcher.resume()
    await settle()
    assert.equal(resultOf(fixture)?.error?.code, 'E_UNSUPPORTED')
    assert.deepEqual(fixture.journal.unfinished(), [])
  })
})

describe('when the agent stops', () => {
  it('an operation is left where it is, without a result, and goes on with the next start', async () => {
    await using fixture = await Fixture.create()
    const { host } = fixture
    let reason: unknown
    host.steps = [
      recorded(host, 'one'),
      {
        name: 'two',
        apply: ({ signal }) =>
          new Promise<undefined>((_resolve, reject) =>
            signal.addEventListener('abort', () => {
              reason = signal.reason
              reject(signal.reason)
            })
          ),
        undo: async () => host.note('undo two')
      }
    ]
    await fixture.receive(fixture.claims())
    await fixture.dispatcher.stop(1_000)
    assert.equal(reason, agentStops)
    assert.deepEqual(host.done, ['one'])
    assert.equal(resultOf(fixture), undefined)
    assert.equal(fixture.journal.unfinished()[0]?.state, 'running')
    host.steps = ['one', 'two'].map((name) => recorded(host, name))
    fixture.restart()
    fixture.dispatcher.resume()
    await settle()
    assert.deepEqual(host.done, ['one', 'two'])
    assert.equal(resultOf(fixture)?.outcome, 'done')
  })

  it('it does not wait for ever for a step that does not listen', async () => {
    await using fixture = await Fixture.create()
    const hold = gate()
    fixture.host.steps = [{ name: 'deaf', apply: () => hold.promise }]
    await fixture.receive(fixture.claims())
    const stopped = fixture.dispatcher.stop(5_000)
    await fixture.clock.advance(5_000)
    await stopped
    assert.equal(fixture.journal.unfinished().length, 1)
    hold.open()
  })
})
