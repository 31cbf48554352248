// Waiting for something that will hold, with an end.

import assert from 'node:assert/strict'
import { systemClock } from '../../../src/lib/clock.ts'

const pollMs = 50
const patienceMs = 60_000

export async function eventually(
  holds: () => boolean | Promise<boolean>,
  what: string | (() => string),
  withinMs = patienceMs
): Promise<void> {
  const signal = AbortSignal.timeout(withinMs)
  while (!(await holds())) {
    assert.ok(!signal.aborted, `waited in vain for ${typeof what === 'string' ? what : what()}`)
    await systemClock.sleep(pollMs, new AbortController().signal)
  }
}
