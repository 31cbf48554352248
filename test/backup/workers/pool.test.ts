// Threads that answer, fail, die, hang and are stopped.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { WorkerPool } from '../../../src/backup/workers/pool.ts'
import { HostletError } from '../../../src/errors.ts'
import type { EchoReply, EchoRequest } from './echo-worker.ts'

const script = new URL('./echo-worker.ts', import.meta.url)
const never = new AbortController().signal

function open(
  options: { workers?: number; signal?: AbortSignal; waitingMax?: number; tasksPerWorker?: number } = {}
) {
  return new WorkerPool<EchoRequest, EchoReply>({
    script,
    workers: 2,
    data: { key: 5 },
    signal: never,
    ...options
  })
}

test('gives tasks to all of its threads and each answer to its own caller', async () => {
  await using pool = open()
  const replies = await Promise.all(
    Array.from({ length: 40 }, (_, index) => pool.run({ say: `task ${index}` }))
  )
  assert.deepEqual(
    replies.map(({ say }) => say),
    Array.from({ length: 40 }, (_, index) => `task ${index}`)
  )
  assert.equal(new Set(replies.map(({ thread }) => thread)).size, 2)
  assert.deepEqual(replies[0]?.data, { key: 5 })
  assert.equal(pool.running, 0)
})

test('moves buffers there and back instead of copying them', async () => {
  await using pool = open({ workers: 1 })
  const buffer = Uint8Array.of(1, 2, 3).buffer
  const reply = pool.run({ buffer }, [buffer])
  assert.equal(buffer.detached, true)
  assert.deepEqual(new Uint8Array((await reply).buffer ?? new ArrayBuffer()), Uint8Array.of(3, 2, 1))
})

test('asks every thread once', async () => {
  await using pool = open({ workers: 3 })
  const replies = await pool.runOnEach((worker) => ({ say: String(worker) }))
  assert.deepEqual(
    replies.map(({ say }) => say),
    ['0', '1', '2']
  )
  assert.equal(new Set(replies.map(({ thread }) => thread)).size, 3)
})

test('fails the task that threw, with its code and details, and no other', async () => {
  await using pool = open({ workers: 1 })
  const [failed, fine] = await Promise.allSettled([
    pool.run({ fail: 'block 7 is bad' }),
    pool.run({ say: 'on' })
  ])
  assert.ok(failed.status === 'rejected' && failed.reason instanceof HostletError)
  assert.deepEqual(
    [failed.reason.code, failed.reason.message, failed.reason.details],
    ['E_CORRUPT', 'block 7 is bad', { entry: 7 }]
  )
  assert.equal(fine.status === 'fulfilled' && fine.value.say, 'on')
})

for (const end of ['exit', 'throw later'] as const)
  test(`a thread that dies (${end}) fails all tasks, waiting ones too, and every later one`, async () => {
    await using pool = open({ workers: 2 })
    const spinning = [
      pool.run({ spin: true }),
      pool.run({ end }),
      pool.run({ spin: true }),
      pool.run({ spin: true })
    ]
    const outcomes = await Promise.allSettled([...spinning, pool.run({ say: 'waits' })])
    const codes = outcomes.map((outcome) => outcome.status === 'rejected' && outcome.reason.code)
    const answered = codes.filter((code) => code === false).length
    assert.ok(answered <= 1, 'at most the task that threw later was answered before')
    assert.equal(codes.filter((code) => code === 'E_INTERNAL').length, 5 - answered)
    await assert.rejects(pool.run({ say: 'late' }), { code: 'E_INTERNAL' })
  })

test('an abort stops threads that never answer and rejects with its reason', async () => {
  const controller = new AbortController()
  await using pool = open({ signal: controller.signal })
  const tasks = Promise.allSettled(Array.from({ length: 6 }, () => pool.run({ spin: true })))
  const reason = new HostletError('E_CANCELLED', 'enough')
  controller.abort(reason)
  for (const outcome of await tasks) assert.equal(outcome.status === 'rejected' && outcome.reason, reason)
  await pool.close()
})

test('has no more tasks than it may: others wait, and too many of those are refused', async () => {
  const controller = new AbortController()
  const pool = open({ workers: 2, tasksPerWorker: 1, waitingMax: 1, signal: controller.signal })
  const waiting = [pool.run({ spin: true }), pool.run({ spin: true }), pool.run({ spin: true })]
  assert.equal(pool.running, 2)
  await assert.rejects(pool.run({}), { code: 'E_BUSY' })
  controller.abort()
  for (const outcome of await Promise.allSettled(waiting)) assert.equal(outcome.status, 'rejected')
  await pool.close()
})

test('closing rejects what is not answered, and may be done twice', async () => {
  const pool = open({ workers: 1 })
  const task = assert.rejects(pool.run({ spin: true }), { code: 'E_CANCELLED' })
  await Promise.all([pool.close(), pool.close(), task])
  await assert.rejects(pool.run({}), { code: 'E_CANCELLED' })
})

test('a request that cannot be sent fails by itself and takes no room from those behind it', async () => {
  await using pool = open({ workers: 1, tasksPerWorker: 1 })
  const request = { say: (() => 'no') as unknown as string }
  const [, unsendable, behind] = await Promise.allSettled([
    pool.run({}),
    pool.run(request),
    pool.run({ say: 'yes' })
  ])
  assert.equal(unsendable.status === 'rejected' && unsendable.reason.name, 'DataCloneError')
  assert.equal(behind.status === 'fulfilled' && behind.value.say, 'yes')
})

test('refuses to start with no threads, with too many, or when aborted already', () => {
  assert.throws(() => open({ workers: 0 }), { code: 'E_BAD_REQUEST' })
  assert.throws(() => open({ workers: 65 }), { code: 'E_BAD_REQUEST' })
  assert.throws(() => open({ signal: AbortSignal.abort(new HostletError('E_CANCELLED', 'no')) }), {
    code: 'E_CANCELLED'
  })
})
