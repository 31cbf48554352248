// The lock of a vault: one holder, whatever contenders, crashes and clocks do.

import assert from 'node:assert/strict'
import { type ChildProcess, fork, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import {
  holdMs,
  isGone,
  leaseLifetimeMs,
  ownProcess,
  renewEveryMs
} from '../../../src/backup/repository/lease.ts'
import { acquireLock, type LockOptions } from '../../../src/backup/repository/lock.ts'
import { HostletError } from '../../../src/errors.ts'
import { FakeClock, settle } from '../../support/fake-clock.ts'
import { MemoryStore } from '../../support/memory-store.ts'
import { hasCode, names } from './store.contract.ts'

const name = 'vms/1/locks'
/** Of another host: nothing can be known of it. */
const elsewhere = { ...ownProcess(), bootId: 'another boot' }
const minuteMs = 60_000

function options(clock: FakeClock, host: string, more: Partial<LockOptions> = {}): LockOptions {
  const { signal } = new AbortController()
  return { name, holder: { host }, clock, signal, waitMs: 0, process: elsewhere, random: () => 0.5, ...more }
}

/** Lets time pass in steps, with what follows from each, until the promise has settled. */
async function settled<Value>(clock: FakeClock, promise: Promise<Value>, stepMs = 500): Promise<Value> {
  let over = false
  const done = () => {
    over = true
  }
  promise.then(done, done)
  for (let steps = 0; !over && steps < 5_000; steps++) {
    await settle()
    await settle()
    if (!over) await clock.advance(stepMs)
  }
  return await promise
}

describe('lock', () => {
  for (const conditionalWrites of [true, false])
    it(`has one holder and says who (${conditionalWrites ? 'with' : 'without'} conditional writes)`, async () => {
      const clock = new FakeClock()
      const store = new MemoryStore({ conditionalWrites })
      const lock = await acquireLock(store, options(clock, 'kvm-1'))
      await assert.rejects(acquireLock(store, options(clock, 'kvm-2')), (error: HostletError) => {
        assert.equal(error.code, 'E_BUSY')
        assert.match(error.message, /held by host kvm-1 since 2030-01-02T03:04:05/)
        assert.equal(error.details.host, 'kvm-1')
        return true
      })
      await lock.confirm()
      await lock.release()
      assert.deepEqual(await names(store), [])
      const next = await acquireLock(store, options(clock, 'kvm-2'))
      await next.release()
    })

  it('passes on when it is released, to who waits', async () => {
    const clock = new FakeClock()
    const store = new MemoryStore()
    const first = await acquireLock(store, options(clock, 'kvm-1'))
    const waiting = acquireLock(store, options(clock, 'kvm-2', { waitMs: minuteMs }))
    await clock.advance(10_000)
    await first.release()
    const second = await settled(clock, waiting)
    assert.equal(second.signal.aborted, false)
    await second.release()
  })

  it('is kept for as long as it is renewed', async () => {
    const clock = new FakeClock()
    const store = new MemoryStore()
    const lock = await acquireLock(store, options(clock, 'kvm-1'))
    await assert.rejects(
      settled(clock, acquireLock(store, options(clock, 'kvm-2', { waitMs: 10 * leaseLifetimeMs })), 1_000),
      hasCode('E_BUSY')
    )
    assert.equal(lock.signal.aborted, false)
    await lock.release()
    assert.equal(clock.pending, 0)
  })

  it('is taken from a dead holder only after its whole lifetime was seen to pass', async () => {
    const clock = new FakeClock()
    const objects = new MemoryStore().objects
    let dead = false
    const first = new MemoryStore(
      {
        before: () => {
          if (dead) throw new HostletError('E_UNAVAILABLE', 'dead')
        }
      },
      objects
    )
    const lock = await acquireLock(first, options(clock, 'kvm-1'))
    dead = true
    const diedAt = clock.monotonic()
    let lostAt: number | undefined
    lock.signal.addEventListener('abort', () => {
      lostAt = clock.monotonic()
    })
    // Whatever the contender's wall clock says.
    clock.jump(365 * 86_400_000)
    const waiting = acquireLock(
      new MemoryStore({}, objects),
      options(clock, 'kvm-2', { waitMs: 10 * minuteMs })
    )
    const second = await settled(clock, waiting)
    const tookAt = clock.monotonic()
    assert.ok(tookAt - diedAt >= leaseLifetimeMs, `taken after ${tookAt - diedAt} ms`)
    assert.ok(lostAt !== undefined && lostAt <= diedAt + holdMs && lostAt < tookAt)
    assert.equal(lock.signal.reason.code, 'E_CONFLICT')
    await assert.rejects(lock.confirm(), hasCode('E_CONFLICT'))
    await lock.release()
    await second.release()
  })

  it('is taken at once from a process of the same host that is provably gone', async () => {
    const clock = new FakeClock()
    const store = new MemoryStore()
    const own = ownProcess()
    await acquireLock(store, options(clock, 'kvm-1', { process: { ...own, startTicks: '1' } }))
    const lock = await acquireLock(store, options(clock, 'kvm-1', { process: own }))
    assert.equal((await names(store)).length, 1)
    await lock.release()
  })

  it('knows which processes are gone, and does not guess', async () => {
    const own = ownProcess()
    const child = spawn('true', { stdio: 'ignore' })
    const { pid = 0 } = child
    await new Promise((resolve) => child.once('exit', resolve))
    assert.equal(isGone(own, own), false)
    assert.equal(isGone({ ...own, pid }, own), true)
    assert.equal(isGone({ ...own, pid, bootId: 'other' }, own), false)
    assert.equal(isGone({ ...own, pid, pidNamespace: 'other' }, own), false)
    assert.equal(isGone({ ...own, startTicks: '' }, own), false)
  })

  it('is lost when it was taken all the same, as after the host was asleep', async () => {
    const clock = new FakeClock()
    const store = new MemoryStore()
    const lock = await acquireLock(store, options(clock, 'kvm-1'))
    // Asleep: its clock stands, while another one's has gone on and it has taken over.
    store.objects.clear()
    const otherClock = new FakeClock()
    const other = await acquireLock(store, options(otherClock, 'kvm-2'))
    await assert.rejects(lock.confirm(), hasCode('E_CONFLICT'))
    await clock.advance(renewEveryMs)
    assert.equal(lock.signal.reason.code, 'E_CONFLICT')
    await lock.release()
    await other.confirm()
    await other.release()
  })

  it('survives a store that fails for less than the time to renew', async () => {
    const clock = new FakeClock()
    let failing = false
    const store = new MemoryStore({
      before: () => {
        if (failing) throw new HostletError('E_UNAVAILABLE', 'down')
      }
    })
    const lock = await acquireLock(store, options(clock, 'kvm-1'))
    failing = true
    await clock.advance(holdMs - 5_000)
    failing = false
    await clock.advance(holdMs)
    assert.equal(lock.signal.aborted, false)
    await lock.confirm()
    await lock.release()
  })

  it('is not renewed by a write that came too late', async () => {
    const clock = new FakeClock()
    let hold: Promise<void> | undefined
    const store = new MemoryStore({ after: (call) => (call === 'put' ? hold : undefined) })
    const lock = await acquireLock(store, options(clock, 'kvm-1'))
    const { promise, resolve } = Promise.withResolvers<void>()
    hold = promise
    await clock.advance(holdMs + 1)
    assert.equal(lock.signal.aborted, true)
    resolve()
    await settle()
    assert.equal(lock.signal.aborted, true)
    await lock.release()
  })

  it('has never two holders among many contenders that crash, at any interleaving', async () => {
    for (let seed = 1; seed <= 12; seed++) await contend(seed)
  })

  it('works between processes, and is free at once when one is killed', { timeout: 60_000 }, async () => {
    const directory = await mkdtemp(join(tmpdir(), 'hl-t-lock-'))
    const children: ChildProcess[] = []
    const start = () => {
      const child = fork(join(import.meta.dirname, 'lock-contender.ts'), [directory], { execArgv: [] })
      children.push(child)
      return child
    }
    try {
      const first = start()
      assert.equal(await told(first), 'held')
      const others = [start(), start()]
      assert.deepEqual(await Promise.all(others.map(told)), ['E_BUSY', 'E_BUSY'])
      const next = Promise.race(others.map(told))
      first.kill('SIGKILL')
      assert.equal(await next, 'held')
    } finally {
      await Promise.all(children.map(killed))
      await rm(directory, { recursive: true, force: true })
    }
  })
})

/** Contenders with a seeded store that answers in any order; each holds for a while, is released, or crashes. */
async function contend(seed: number): Promise<void> {
  const clock = new FakeClock()
  const random = randomFrom(seed)
  const objects = new MemoryStore().objects
  let holders = 0
  let held = 0
  const contenders = Array.from({ length: 6 }, async (_, index) => {
    let crashed = false
    const store = new MemoryStore(
      {
        conditionalWrites: false,
        before: async () => {
          await clock.sleep(random() * 300)
          if (crashed) throw new HostletError('E_UNAVAILABLE', 'crashed')
        },
        after: () => clock.sleep(random() * 300)
      },
      objects
    )
    await using lock = await acquireLock(store, options(clock, `kvm-${index}`, { waitMs: 3_600_000, random }))
    held++
    holders++
    assert.equal(holders, 1, `seed ${seed}: two holders`)
    if (random() < 0.3) {
      crashed = true
      // A crashed holder holds until its own time is over, though it does not know.
      await new Promise<void>((resolve) => lock.signal.addEventListener('abort', () => resolve()))
    } else await clock.sleep(random() * 2 * leaseLifetimeMs)
    holders--
  })
  await settled(clock, Promise.all(contenders), 250)
  assert.equal(held, 6, `seed ${seed}`)
}

function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    // A linear congruential generator with the constants of Numerical Recipes.
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}

function told(child: ChildProcess): Promise<unknown> {
  return new Promise((resolve, reject) => {
    child.once('message', resolve)
    child.once('exit', (code) => code === null || reject(new Error(`a contender ended with ${code}`)))
  })
}

async function killed(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await ended
}
