// Programs: no shell, bounded output, killed when unwanted.

import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { setImmediate, setTimeout } from 'node:timers/promises'
import { mustRun, runProcess } from '../../src/lib/run-process.ts'
import { FakeClock, settle } from '../support/fake-clock.ts'

const { signal } = new AbortController()
const node = process.execPath

describe('runProcess', () => {
  it('passes arguments as they are, without a shell', async () => {
    const result = await runProcess('printf', ['%s|', '$HOME; `id`', '*'], { signal, deadlineMs: 10_000 })
    assert.deepEqual(result, { exitCode: 0, stdout: '$HOME; `id`|*|', stderr: '' })
  })

  it('passes input and returns the exit code', async () => {
    const result = await runProcess('sh', ['-c', 'cat >&2; exit 3'], {
      signal,
      deadlineMs: 10_000,
      input: 'in'
    })
    assert.deepEqual(result, { exitCode: 3, stdout: '', stderr: 'in' })
  })

  it('does not hand down the environment', async () => {
    process.env.HOSTLET_TEST_SECRET = 'hidden'
    const { stdout } = await runProcess('env', [], { signal, deadlineMs: 10_000 })
    assert.ok(!stdout.includes('hidden'))
    delete process.env.HOSTLET_TEST_SECRET
  })

  it('says that a program is not installed', async () => {
    await assert.rejects(runProcess('hostlet-no-such-program', [], { signal, deadlineMs: 10_000 }), {
      code: 'E_UNAVAILABLE',
      message: /hostlet-no-such-program is not installed/
    })
  })

  it('kills what writes too much', async () => {
    const endless = runProcess('yes', [], { signal, deadlineMs: 10_000, outputBytesMax: 10_000 })
    await assert.rejects(endless, { code: 'E_INTERNAL', message: /more than 10000 bytes/ })
  })

  it('kills at the deadline', async () => {
    const clock = new FakeClock()
    const sleeping = runProcess(node, ['-e', 'setInterval(() => {}, 1000)'], {
      signal,
      deadlineMs: 500,
      clock
    })
    const ended = assert.rejects(sleeping, { code: 'E_TIMEOUT' })
    await settle()
    await clock.advance(500)
    await ended
  })

  it('leaves what does not end when it is killed', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'hostlet-run-'))
    const clock = new FakeClock()
    const path = join(directory, 'pid')
    // Its child, which outlives it, keeps the pipes open: as a program that waits for storage does itself.
    const script = 'sleep 600 & echo $! > "$0.new"; mv "$0.new" "$0"; wait'
    const waiting = runProcess('sh', ['-c', script, path], { signal, deadlineMs: 500, clock })
    let over = false
    const ended = assert.rejects(waiting, { code: 'E_TIMEOUT' }).finally(() => {
      over = true
    })
    while (!existsSync(path)) await setImmediate()
    await clock.advance(500)
    await setTimeout(100)
    assert.equal(over, false)
    await clock.advance(5_000)
    await ended
    process.kill(Number(readFileSync(path, 'utf8')))
    await rm(directory, { recursive: true })
  })

  it('kills when aborted, with the reason of the abort', async () => {
    const controller = new AbortController()
    const sleeping = runProcess('sleep', ['600'], { signal: controller.signal, deadlineMs: 600_000 })
    controller.abort(new Error('no longer wanted'))
    await assert.rejects(sleeping, { message: 'no longer wanted' })
  })
})

describe('mustRun', () => {
  it('turns a failure into an error with what the program said', async () => {
    await assert.rejects(mustRun('sh', ['-c', 'echo broken >&2; exit 2'], { signal, deadlineMs: 10_000 }), {
      code: 'E_INTERNAL',
      message: /sh ended with 2: broken/
    })
  })
})
