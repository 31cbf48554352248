// The journal on a real file: what is in it after it was closed, killed, damaged or made by somebody else.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { commandLifeMsMax, Journal, notesCharactersMax } from '../../../src/agent/operations/journal.ts'
import { runProcess } from '../../../src/lib/run-process.ts'
import { clockSkewMsMax } from '../../../src/protocol/command.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { claimsOf, vmUuid } from '../../support/signed-commands.ts'

describe('the journal', () => {
  let directory: string
  let path: string
  let clock: FakeClock
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'hostlet-journal-'))
    path = join(directory, 'agent.db')
    clock = new FakeClock()
  })
  afterEach(() => rmSync(directory, { recursive: true }))

  const open = () => new Journal(path, { clock })
  const claims = (generation = 1, changes = {}) =>
    claimsOf(clock.now(), { subject: { vm: 'web-1', uuid: vmUuid, generation }, ...changes })
  const finish = (journal: Journal, id: string) =>
    journal.finish({
      command: id,
      outcome: 'done',
      value: {},
      startedAt: clock.now(),
      finishedAt: clock.now()
    })

  it('is a file for its owner only, and one agent at a time', () => {
    using _first = open()
    assert.equal(statSync(path).mode & 0o777, 0o600)
    assert.throws(open, { code: 'E_BUSY', message: /second agent/ })
  })

  it('keeps all of an operation over a restart', () => {
    const command = claims()
    {
      using journal = open()
      journal.accept(command, 'digest')
      journal.begin(command.id)
      journal.checkpoint(command.id, 2, { address: '10.0.0.2' })
    }
    using journal = open()
    const [entry] = journal.unfinished()
    assert.deepEqual(
      {
        state: entry?.state,
        step: entry?.step,
        notes: entry?.notes,
        attempts: entry?.attempts,
        claims: entry?.claims
      },
      { state: 'running', step: 2, notes: { address: '10.0.0.2' }, attempts: 1, claims: command }
    )
    assert.equal(journal.generationOf(vmUuid), 1)
  })

  it('records a generation with its command, both or neither', () => {
    using journal = open()
    const command = claims(3)
    journal.accept(command, 'digest')
    assert.throws(() => journal.accept(claims(3), 'other'), { code: 'E_STALE' })
    assert.throws(() => journal.accept({ ...claims(9), id: command.id }, 'other'), { code: 'E_CONFLICT' })
    assert.equal(journal.generationOf(vmUuid), 3, 'the refused command must not have raised it')
    assert.equal(journal.unfinished().length, 1)
  })

  it('forgets arguments when an operation has ended, on disk too', () => {
    using journal = open()
    const secret = 'correct-horse-battery-staple'
    const command = claims(1, { arguments: { vm: 'web-1', userData: secret } })
    journal.accept(command, 'digest')
    finish(journal, command.id)
    journal[Symbol.dispose]()
    const bytes = [path].map((file) => readFileSync(file).toString('latin1')).join()
    assert.ok(!bytes.includes(secret))
  })

  it('keeps results until they are acknowledged, and prunes them after the command cannot come again', () => {
    using journal = open()
    const [first, second] = [claims(1), claims(2)]
    for (const command of [first, second]) {
      journal.accept(command, 'digest')
      finish(journal, command.id)
    }
    journal.acknowledge(first.id)
    assert.deepEqual(
      journal.unacknowledged().map(({ command }) => command),
      [second.id]
    )
    journal.prune(new Set([vmUuid]))
    assert.ok(journal.find(first.id), 'it may still be asked for')
    clock.jump(commandLifeMsMax + 86_400_000)
    journal.prune(new Set([vmUuid]))
    assert.equal(journal.find(first.id), undefined)
    assert.ok(journal.find(second.id), 'nobody has acknowledged it')
  })

  it('keeps the generation of a VM that lives, and forgets that of one long gone', () => {
    using journal = open()
    journal.accept(claims(4), 'digest')
    clock.jump(commandLifeMsMax + 86_400_000)
    journal.prune(new Set([vmUuid]))
    assert.equal(journal.generationOf(vmUuid), 4)
    journal.prune(new Set())
    assert.equal(journal.generationOf(vmUuid), undefined)
  })

  it('bounds what a step may note', () => {
    using journal = open()
    const command = claims()
    journal.accept(command, 'digest')
    const big = { big: 'x'.repeat(notesCharactersMax) }
    assert.throws(() => journal.checkpoint(command.id, 1, big), { code: 'E_INTERNAL' })
  })

  it('takes nothing a second time that it forgot within its life, also after a restart', () => {
    const commands: ReturnType<typeof claims>[] = []
    const done = (journal: Journal, command: ReturnType<typeof claims>) => {
      journal.accept(command, 'digest')
      finish(journal, command.id)
      journal.acknowledge(command.id)
      commands.push(command)
      clock.jump(1_000)
    }
    const bare = () => {
      const { subject: _none, ...command } = claims()
      return command
    }
    const waiting = bare()
    clock.jump(1_000)
    {
      using journal = new Journal(path, { clock, keepMax: 2 })
      journal.prune(new Set())
      journal.accept(waiting, 'digest')
      done(journal, bare())
      for (const generation of [1, 2]) done(journal, claims(generation))
      done(journal, bare())
      journal.prune(new Set())
    }
    using journal = new Journal(path, { clock, keepMax: 2 })
    journal.prune(new Set())
    assert.deepEqual(
      commands.map(({ id }) => journal.find(id) !== undefined),
      [false, false, true, true]
    )
    for (const command of commands.slice(0, 2))
      assert.throws(() => journal.accept(command, 'digest'), { code: 'E_STALE' })
    assert.equal(journal.unfinished().length, 1)
    // What is younger than they are is taken, and so is an older one of a VM, whose generation says that it is new.
    done(journal, bare())
    journal.accept({ ...claims(3), issuedAt: waiting.issuedAt }, 'digest')
  })

  it('keeps the generation of a VM as long as a command can come again, by clocks that differ', () => {
    using journal = open()
    const early = claims(1, { issuedAt: clock.now() + clockSkewMsMax })
    journal.accept(early, 'digest')
    clock.jump(commandLifeMsMax + 2 * clockSkewMsMax)
    journal.prune(new Set())
    assert.throws(() => journal.accept(claims(1), 'digest'), { code: 'E_STALE' })
  })

  it('keeps the newest acknowledged results beyond its bound', () => {
    using journal = new Journal(path, { clock, keepMax: 2 })
    const commands = [1, 2, 3, 4].map((generation) => claims(generation))
    for (const command of commands) {
      journal.accept(command, 'digest')
      finish(journal, command.id)
      journal.acknowledge(command.id)
    }
    journal.prune(new Set())
    assert.deepEqual(
      commands.map(({ id }) => journal.find(id) !== undefined),
      [false, false, true, true]
    )
  })

  it('says that the disk is full, and then has what it acknowledged and nothing else', async (test) => {
    const mount = `mount -t tmpfs -o size=400k tmpfs "$1" && exec "$2" "$3" "$1/agent.db"`
    const script = fileURLToPath(new URL('./journal-full-child.ts', import.meta.url))
    const { signal } = new AbortController()
    const args = ['--mount', 'sh', '-c', mount, 'sh', directory, process.execPath, script]
    const { exitCode, stdout, stderr } = await runProcess('unshare', args, { signal, deadlineMs: 60_000 })
    if (/not permitted|denied/.test(stderr)) return test.skip('mounting is not permitted here')
    assert.equal(exitCode, 0, stderr)
    const told = JSON.parse(stdout)
    assert.equal(told.code, 'E_CAPACITY')
    assert.match(told.message, /free some/)
    assert.ok(told.acknowledged > 0)
    assert.deepEqual([told.recorded, told.generation], [told.acknowledged, told.acknowledged])
  })

  it('says that its file is damaged, and what to do', () => {
    writeFileSync(path, 'this is not a database, though it is long enough to look like one '.repeat(100))
    assert.throws(open, { code: 'E_CORRUPT', message: /VMs are not touched/ })
  })

  it('says that its file was made by a newer agent', () => {
    open()[Symbol.dispose]()
    const database = new DatabaseSync(path)
    database.exec('PRAGMA user_version = 999')
    database.close()
    assert.throws(open, { code: 'E_UNSUPPORTED', message: /newer agent/ })
  })

  for (const [call, when] of [
    // Of libuv's pool: the fifth group of commits.
    ['fdatasync', 5],
    // Of SQLite, on the spot: the head of a new log.
    ['fsync', 1]
  ] as const)
    it(`acknowledges nothing after ${call} has failed, and the next start has what was acknowledged`, async (test) => {
      const script = fileURLToPath(new URL('./journal-child.ts', import.meta.url))
      open()[Symbol.dispose]()
      const traced = [
        '-f',
        '-qq',
        '-E',
        'UV_THREADPOOL_SIZE=1',
        '-o',
        '/dev/null',
        '-P',
        `${path}-wal`,
        '-e',
        `trace=${call}`
      ]
      const inject = ['-e', `inject=${call}:error=EIO:when=${when}+`]
      const { signal } = new AbortController()
      const child = await runProcess('strace', [...traced, ...inject, process.execPath, script, path], {
        signal,
        deadlineMs: 60_000
      }).catch((error) => error)
      if (child.cause?.code === 'ENOENT') return test.skip('strace is not installed')
      assert.match(child.stderr, /^E_UNAVAILABLE/m)
      const acknowledged = child.stdout.split('\n').slice(0, -1)
      using journal = open()
      const found = new Set(journal.unfinished().map(({ id }) => id))
      for (const id of acknowledged) assert.ok(found.has(id), 'an acknowledged command is lost')
      assert.equal(acknowledged.length, when - 1)
    })

  it('has every command that it acknowledged, after its process was killed in the middle of its work', async () => {
    const child = spawn(
      process.execPath,
      [fileURLToPath(new URL('./journal-child.ts', import.meta.url)), path],
      {
        stdio: ['ignore', 'pipe', 'inherit']
      }
    )
    const ended = new Promise((resolve) => child.once('exit', resolve))
    let text = ''
    for await (const chunk of child.stdout) {
      text += chunk
      if (text.split('\n').length > 40) child.kill('SIGKILL')
    }
    await ended
    const acknowledged = text.split('\n').slice(0, -1)
    using journal = open()
    const found = journal.unfinished()
    for (const [index, id] of acknowledged.entries()) {
      const entry = found.find((each) => each.id === id)
      assert.ok(entry, `command ${index} was acknowledged and is lost`)
      assert.equal(entry.step, 1)
    }
    assert.ok(acknowledged.length >= 40)
    assert.ok((journal.generationOf(vmUuid) ?? 0) >= acknowledged.length)
  })
})
