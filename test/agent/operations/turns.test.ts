// Where operations stand, for whoever looks: what each waits for, who has it, and how many come before it.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { localOperation, waitingOperations, waitOf } from '../../../src/agent/local/operations.ts'
import type { JournalEntry } from '../../../src/agent/operations/journal.ts'
import { Lanes } from '../../../src/agent/operations/lanes.ts'
import { Turns } from '../../../src/agent/operations/turns.ts'
import { LocalOperation } from '../../../src/protocol/local.ts'
import { compile } from '../../../src/protocol/validate.ts'
import { WaitingOperation } from '../../../src/protocol/waiting.ts'

const at = 1_700_000_000_000
const ids = ['a', 'b', 'c', 'd'].map((digit) => `${digit.repeat(8)}-0000-4000-8000-000000000000`)
const [first = '', second = '', third = '', fourth = ''] = ids
const { signal } = new AbortController()
const connected = { state: 'connected' } as const

function setUp() {
  let now = at
  const turns = new Turns({ now: () => now })
  const lanes = new Lanes({ concurrencyMax: 2, waitingMax: 8 })
  const waits = { queue: turns, hypervisor: () => connected }
  const enter = (id: string, vm: string, name = 'vm.start', lock: 'vm' | 'none' = 'vm') => {
    const verb = { name, lock }
    const subject = { vm, uuid: ids[0] ?? '', generation: 1 }
    const turn = turns.enter({ id, verb, claims: { id, subject }, params: {} })
    const ticket = lanes.enter({ lock }, { local: false })
    return { turn, ticket, taken: turns.take(turn, ticket, { signal }) }
  }
  const standing = (id: string) => {
    const found = turns.standings().find((each) => each.id === id)
    assert.ok(found)
    return found
  }
  return { turns, waits, enter, standing, pass: (ms: number) => (now += ms) }
}

describe('where an operation stands', () => {
  it('names the one that has its VM, and those that come before it', async () => {
    const { waits, enter, standing, pass } = setUp()
    const holder = enter(first, 'web-1', 'vm.stop')
    const held = await holder.taken
    pass(1_000)
    const next = enter(second, 'web-1')
    const last = enter(third, 'web-1')
    assert.equal(waitOf(standing(first), waits), undefined)
    const wait = { kind: 'lock', since: at + 1_000, what: 'VM web-1', holder: first, holderVerb: 'vm.stop' }
    assert.deepEqual(waitOf(standing(second), waits), { ...wait, ahead: 0 })
    assert.deepEqual(waitOf(standing(third), waits), { ...wait, ahead: 1 })
    for (const each of waitingOperations(waits)) compile(WaitingOperation, 'wait')(each)
    await held[Symbol.asyncDispose]()
    holder.ticket[Symbol.dispose]()
    holder.turn[Symbol.dispose]()
    await next.taken
    assert.equal(waitOf(standing(second), waits), undefined)
    const now = { holder: second, holderVerb: 'vm.start', ahead: 0 }
    assert.deepEqual(waitOf(standing(third), waits), { ...wait, ...now })
    last.taken.catch(() => undefined)
  })

  it('says that the agent itself has the VM, where no operation does', async () => {
    const { turns, waits, enter, standing } = setUp()
    await using _held = await turns.hold('web-1', signal)
    enter(first, 'web-1').taken.catch(() => undefined)
    const wait = waitOf(standing(first), waits)
    assert.equal(wait?.what, 'VM web-1')
    assert.equal(wait?.holder, undefined)
  })

  it('counts those before it where it waits for a place', async () => {
    const { waits, enter, standing } = setUp()
    await enter(first, 'web-1').taken
    await enter(second, 'web-2').taken
    enter(third, 'web-3').taken.catch(() => undefined)
    enter(fourth, 'web-4').taken.catch(() => undefined)
    // Their locks are theirs at once, a turn later.
    await Promise.resolve().then(() => new Promise(setImmediate))
    assert.deepEqual(waitOf(standing(fourth), waits), {
      kind: 'place',
      since: at,
      what: 'a place for operations ("operations.concurrencyMax")',
      ahead: 1
    })
  })

  it('waits for libvirt while that is away, unless it touches no VM', async () => {
    const { turns, enter, standing } = setUp()
    const waits = {
      queue: turns,
      hypervisor: () => ({ state: 'away', since: at + 5, reason: 'gone' }) as const
    }
    await enter(first, 'web-1').taken
    await enter(second, 'web-2', 'operation.cancel', 'none').taken
    assert.deepEqual(waitOf(standing(first), waits), {
      kind: 'libvirt',
      since: at + 5,
      what: 'libvirt to answer',
      ahead: 0
    })
    assert.equal(waitOf(standing(second), waits), undefined)
  })

  it('keeps its step, and what interrupted it until the next one', async () => {
    const { turns, waits, enter, standing } = setUp()
    await enter(first, 'web-1').taken
    turns.noteReport(first, { step: 'fetch', stepIndex: 0, steps: 2, ratio: 0.5 })
    turns.noteReport(first, { step: 'fetch', stepIndex: 0, steps: 2, note: 'slow' })
    turns.noteTrouble(first, { error: { code: 'E_INTERRUPTED', message: 'libvirt went' }, tries: 2 })
    const entry = { ...blank, id: first }
    const told = localOperation(entry, standing(first), waits)
    compile(LocalOperation, 'operation')(told)
    assert.deepEqual(
      { step: told.step, ratio: told.ratio, note: told.note, trouble: told.trouble },
      {
        step: 'fetch',
        ratio: 0.5,
        note: 'slow',
        trouble: { at, error: { code: 'E_INTERRUPTED', message: 'libvirt went' }, tries: 2 }
      }
    )
    assert.equal(told.state, 'running')
    turns.noteReport(first, { step: 'start', stepIndex: 1, steps: 2 })
    const next = localOperation(entry, standing(first), waits)
    assert.deepEqual([next.step, next.ratio, next.trouble], ['start', undefined, undefined])
  })
})

const blank: JournalEntry = {
  id: '',
  digest: '',
  claims: {
    id: first,
    verb: 'vm.start',
    audience: 'host-1',
    issuedAt: at,
    expiresAt: at + 1,
    arguments: {},
    subject: { vm: 'web-1', uuid: first, generation: 1 }
  },
  state: 'running',
  attempts: 1,
  step: 0,
  notes: {},
  failure: undefined,
  result: undefined,
  acceptedAt: at,
  startedAt: at,
  finishedAt: undefined,
  origin: 'command',
  cancelled: false
}
