// Trouble from outside: full file systems and clocks that are set. Commands are refused or wait, nothing acknowledged is lost, and all goes on without a restart.

import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import { runProcess } from '../../../src/lib/run-process.ts'

const child = join(import.meta.dirname, 'trouble-child.ts')
const startChild = join(import.meta.dirname, 'full-start-child.ts')
const minuteMs = 60_000
const notPermitted = /unshare.*(not permitted|denied)|mount:.*denied/

interface Ended {
  readonly outcome: 'done' | 'failed'
  readonly error?: { readonly code: string; readonly message: string }
  readonly results?: number
}

/** In a mount namespace of its own, where the folder of the agent is a small file system. Undefined where that is not allowed. */
async function inTrouble(
  context: TestContext,
  trouble: string,
  small?: string
): Promise<Record<string, Ended>> {
  const directory = mkdtempSync(join(tmpdir(), 'hostlet-trouble-'))
  try {
    const place = join(directory, 'agents', 'one', small ?? 'state')
    mkdirSync(place, { recursive: true, mode: 0o700 })
    const mount = small === undefined ? '' : `mount -t tmpfs -o size=1m,mode=711 tmpfs '${place}' &&`
    const args = [
      '--mount',
      'sh',
      '-c',
      `${mount} exec "$0" "$@"`,
      process.execPath,
      child,
      directory,
      trouble
    ]
    const { signal } = new AbortController()
    const { stdout, stderr } = await runProcess('unshare', args, { signal, deadlineMs: 2 * minuteMs })
    if (notPermitted.test(stderr)) context.skip('mounting is not permitted here')
    assert.notEqual(stdout, '', stderr)
    return JSON.parse(stdout)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

describe('a file system that is full', { timeout: 5 * minuteMs }, () => {
  it('of the state directory: refuses what is new, and tells the end of what it had taken once there is room', async (context) => {
    const { made, refused, looked, first, stopped, started } = await inTrouble(
      context,
      'state is full',
      'state'
    )
    assert.equal(made?.outcome, 'done', JSON.stringify(made))
    assert.equal(refused?.error?.code, 'E_CAPACITY', JSON.stringify(refused))
    assert.match(refused.error.message, /state directory is full: free some/)
    assert.equal(looked?.outcome, 'done', 'looking needs no room')
    assert.equal(first, 'waits')
    assert.ok(stopped?.outcome === 'done' || stopped?.error?.code === 'E_CAPACITY', JSON.stringify(stopped))
    assert.equal(started?.outcome, 'done', JSON.stringify(started))
  })

  it('of the state directory when the agent starts: it starts, tells of it, takes nothing, and goes on once there is room', async (context) => {
    const { signal } = new AbortController()
    const args = ['--mount', process.execPath, startChild]
    const { stdout, stderr } = await runProcess('unshare', args, { signal, deadlineMs: 2 * minuteMs })
    if (notPermitted.test(stderr)) return context.skip('mounting is not permitted here')
    assert.notEqual(stdout, '', stderr)
    const { full, refused, done, well } = JSON.parse(stdout)
    assert.ok(full.includes('audit-trail'), full.join())
    assert.equal(refused.state, 'waiting')
    assert.match(refused.next, /E_CAPACITY: the disk of the audit trail .* is full/)
    assert.equal(done, 'done')
    assert.ok(!well.includes('audit-trail'), well.join())
  })

  it('of the runtime directory: undoes what needs room there, and goes on once there is some', async (context) => {
    const { refused, left, made } = await inTrouble(context, 'run is full', 'run')
    assert.equal(refused?.error?.code, 'E_CAPACITY', JSON.stringify(refused))
    assert.match(refused.error.message, /free some/)
    assert.equal(left, 0)
    assert.equal(made?.outcome, 'done', JSON.stringify(made))
  })
})

describe('a clock that is set by an hour', { timeout: 5 * minuteMs }, () => {
  for (const [trouble, code, text] of [
    ['clock goes forward', 'E_STALE', /expired .* s ago/],
    ['clock goes back', 'E_BAD_REQUEST', /clock/]
  ] as const)
    it(`(${trouble}) refuses commands beyond the stated skew, ends what is under way, and takes commands again when it is right`, async (context) => {
      const { made, refused, stopped, started } = await inTrouble(context, trouble)
      assert.equal(made?.outcome, 'done', JSON.stringify(made))
      assert.equal(refused?.error?.code, code, JSON.stringify(refused))
      assert.match(refused.error.message, text)
      assert.equal(stopped?.outcome, 'done', JSON.stringify(stopped))
      assert.equal(started?.outcome, 'done', JSON.stringify(started))
    })
})
