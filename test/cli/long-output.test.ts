// What a command prints reaches a pipe whole, however much it is.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { it } from 'node:test'
import { Trail } from '../../src/agent/trail/trail.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { hostlet } from './program.ts'

/** More than half a megabyte: far more than a pipe or a socket holds. */
const records = 700
const text = 'x'.repeat(800)

it('the audit trail of a host is exported to its last entry', async () => {
  const stateDirectory = mkdtempSync(join(tmpdir(), 'hostlet-long-'))
  try {
    const identity = () => ({ hostId: 'host-1', commandKeys: [] })
    const trail = await Trail.open({ stateDirectory, identity, clock: systemClock, log: silentLogger })
    for (let number = 0; number < records; number++) trail.record('test', { number, text })
    await trail[Symbol.asyncDispose]()
    const { status, stdout } = await hostlet(['audit', 'export', '--state-directory', stateDirectory])
    assert.equal(status, 0)
    const entries = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { kind: string; number?: number })
    const numbers = entries.filter(({ kind }) => kind === 'test').map(({ number }) => number)
    assert.deepEqual(
      numbers,
      Array.from({ length: records }, (_, number) => number)
    )
  } finally {
    rmSync(stateDirectory, { recursive: true })
  }
})
