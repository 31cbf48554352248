// The limit of bytes per second, on a clock of its own.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Bandwidth } from '../../../src/backup/write/bandwidth.ts'

/** Time goes on only while someone sleeps. */
function sleepingClock() {
  let now = 0
  return {
    monotonic: () => now,
    sleep: async (ms: number) => {
      now += ms
    },
    idle: (ms: number) => {
      now += ms
    }
  }
}

const { signal } = new AbortController()

test('takes as long as the bytes cost', async () => {
  const clock = sleepingClock()
  const bandwidth = new Bandwidth(clock, 1_000_000)
  for (let piece = 0; piece < 100; piece++) await bandwidth.take(100_000, signal)
  assert.ok(clock.monotonic() >= 9_700 && clock.monotonic() <= 10_000, String(clock.monotonic()))
})

test('saves up no more than a quarter of a second', async () => {
  const clock = sleepingClock()
  const bandwidth = new Bandwidth(clock, 1_000_000)
  clock.idle(3_600_000)
  const start = clock.monotonic()
  await bandwidth.take(1_000_000, signal)
  assert.equal(clock.monotonic() - start, 750)
})

test('never sleeps without a limit', async () => {
  const clock = sleepingClock()
  await new Bandwidth(clock, undefined).take(Number.MAX_SAFE_INTEGER, signal)
  assert.equal(clock.monotonic(), 0)
})
