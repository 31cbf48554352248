// What survives the loss of power: at each sync the state directory is copied as the disk has it then, and whatever is told or
// done afterwards has to be in the newest copy.

import assert from 'node:assert/strict'
import { copyFileSync, existsSync, mkdtempSync, rmSync, statSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { Journal, type JournalEntry } from '../../../src/agent/operations/journal.ts'
import {
  type CheckpointReply,
  WalCheckpoints,
  walPages,
  walPagesMax
} from '../../../src/agent/operations/wal-checkpoints.ts'
import { settle } from '../../support/fake-clock.ts'
import { claimsOf, vmUuid } from '../../support/signed-commands.ts'
import { Fixture, gate } from './fixture.ts'

/** The disk of a fixture's state directory, in the worst case: it has nothing but what was written before the last sync. */
class Disk implements Disposable {
  readonly #directory = mkdtempSync(join(tmpdir(), 'hostlet-disk-'))
  readonly #fixture: Fixture
  syncs = 0
  isStuck = false

  constructor(fixture: Fixture) {
    this.#fixture = fixture
    fixture.sync = () => this.#sync()
  }

  /** What a start after the loss of power finds of an operation. */
  find(id: string): JournalEntry | undefined {
    if (this.syncs === 0) return undefined
    const boot = mkdtempSync(join(this.#directory, 'boot-'))
    for (const name of ['agent.db', 'agent.db-wal'])
      copyFileSync(join(this.#directory, name), join(boot, name))
    using journal = new Journal(join(boot, 'agent.db'), { clock: this.#fixture.clock })
    return journal.find(id)
  }

  [Symbol.dispose](): void {
    rmSync(this.#directory, { recursive: true })
  }

  async #sync(): Promise<void> {
    if (this.isStuck) return await new Promise(() => undefined)
    for (const name of ['agent.db', 'agent.db-wal'])
      copyFileSync(join(this.#fixture.directory, name), join(this.#directory, name))
    // The event loop goes on while the disk works, and more is written.
    await new Promise((resolve) => setImmediate(resolve))
    this.syncs++
  }
}

const until = async (isSo: () => boolean) => {
  for (const begun = performance.now(); !isSo() && performance.now() - begun < 20_000; ) await settle()
  assert.ok(isSo(), 'it did not come to that')
}

describe('after the loss of power', () => {
  it('the disk has every command that was acknowledged, every step behind one that was begun, and every result told', async () => {
    await using fixture = await Fixture.create()
    using disk = new Disk(fixture)
    const { host } = fixture
    const claims = fixture.claims()
    const seen: unknown[] = []
    const look = (what: string) => {
      const entry = disk.find(claims.id)
      seen.push([what, entry?.state, entry?.step, entry?.attempts, entry?.notes])
    }
    host.steps = ['one', 'two'].map((name) => ({
      name,
      apply: async () => {
        look(name)
        return { [name]: true }
      }
    }))
    fixture.sent.push = (message) => {
      if (message.type !== 'progress') look(message.type)
      return 0
    }
    await fixture.receive(claims)
    await until(() => seen.length === 4)
    const [ack, ...rest] = seen as unknown[][]
    assert.deepEqual([ack?.[0], ack?.[1] !== undefined], ['ack', true])
    assert.deepEqual(rest, [
      ['one', 'running', 0, 1, {}],
      ['two', 'running', 1, 1, { one: true }],
      ['result', 'done', 2, 1, {}]
    ])
  })

  it('an operation that was being undone is undone, and one whose cancellation was confirmed is cancelled', async () => {
    await using fixture = await Fixture.create()
    using disk = new Disk(fixture)
    const { host } = fixture
    const claims = fixture.claims()
    const undoing: unknown[] = []
    host.steps = [
      {
        name: 'one',
        apply: () => Promise.reject<undefined>(new Error('broken')),
        undo: async () => void undoing.push(disk.find(claims.id)?.state)
      }
    ]
    await fixture.receive(claims)
    await until(() => fixture.sentOf('result').length === 1)
    assert.deepEqual(undoing, ['undoing'])
    const hold = gate()
    host.steps = [{ name: 'hold', apply: () => hold.promise }]
    const { subject: _none, ...held } = fixture.claims({ verb: 'test.backup' })
    await fixture.receive(held)
    await until(() => fixture.sentOf('ack').length === 2)
    const controller = new AbortController()
    assert.equal(await fixture.dispatcher.cancel(held.id, controller.signal), 'cancelling')
    assert.equal(disk.find(held.id)?.cancelled, true)
    hold.open()
    await until(() => fixture.sentOf('result').length === 2)
  })

  it('nothing was promised while the disk did not answer, and nothing begun; repeating the command changes nothing', async () => {
    await using fixture = await Fixture.create()
    using disk = new Disk(fixture)
    disk.isStuck = true
    const claims = fixture.claims()
    const jws = await fixture.signer.sign(claims)
    for (let times = 0; times < 3; times++) void fixture.dispatcher.receive(jws)
    await until(() => fixture.journal.find(claims.id)?.state === 'running')
    await settle()
    assert.deepEqual([fixture.sent, fixture.host.done], [[], []])
  })

  it('what was acknowledged is there when a hundred commands shared a few syncs', async () => {
    await using fixture = await Fixture.create()
    fixture.restart({ concurrencyMax: 100, waitingMax: 100 })
    using disk = new Disk(fixture)
    const commands = Array.from({ length: 60 }, (_, number) =>
      fixture.claims({ subject: { vm: 'web-1', uuid: uuidOf(number), generation: 1 } })
    )
    const lost: string[] = []
    fixture.sent.push = (message) => {
      if (message.type === 'ack' && disk.find(message.command) === undefined) lost.push(message.command)
      return 0
    }
    const signed = await Promise.all(commands.map((claims) => fixture.signer.sign(claims)))
    await Promise.all(signed.map((jws) => fixture.dispatcher.receive(jws)))
    assert.deepEqual(lost, [])
    assert.ok(disk.syncs < commands.length, `${disk.syncs} syncs`)
  })
})

function uuidOf(number: number): string {
  return `5d1c6e3a-0000-4000-8000-${String(number).padStart(12, '0')}`
}

describe('a disk that fails', () => {
  it('is told once; nothing is acknowledged, answered or begun any more, and nothing is refused that may be recorded', async () => {
    await using fixture = await Fixture.create()
    const faults: unknown[] = []
    fixture.journal[Symbol.dispose]()
    fixture.openJournal({ onFault: ({ code }) => faults.push(code) })
    await fixture.receive(fixture.claims())
    const before = fixture.sent.length
    fixture.sync = () => Promise.reject(new Error('EIO: i/o error, fdatasync'))
    const claims = fixture.claims({ subject: { vm: 'web-1', uuid: vmUuid, generation: 2 } })
    await fixture.receive(claims)
    await fixture.receive(claims)
    fixture.sync = async () => undefined
    await fixture.receive(fixture.claims({ subject: { vm: 'web-1', uuid: vmUuid, generation: 3 } }))
    await fixture.clock.advance(60_000)
    assert.deepEqual(fixture.sent.slice(before), [])
    assert.deepEqual(fixture.host.done, ['one', 'two'])
    assert.deepEqual(faults, ['E_UNAVAILABLE'])
    assert.throws(() => fixture.journal.probe(), { code: 'E_UNAVAILABLE', message: /kernel log/ })
  })
})

describe('the write-ahead log', () => {
  let directory: string
  let path: string
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'hostlet-log-'))
    path = join(directory, 'agent.db')
  })
  afterEach(() => rmSync(directory, { recursive: true }))
  const clock = { now: () => 1_900_000_000_000 }
  const claims = (generation: number, size = 0) =>
    claimsOf(clock.now(), {
      subject: { vm: 'web-1', uuid: vmUuid, generation },
      arguments: { filler: 'x'.repeat(size) }
    })

  it('that was torn anywhere gives back exactly the commands before the tear', () => {
    using journal = new Journal(path, { clock })
    const ends: number[] = []
    for (let generation = 1; generation <= 6; generation++) {
      journal.accept(claims(generation), 'digest')
      ends.push(statSync(`${path}-wal`).size)
    }
    const last = ends.at(-1) ?? 0
    for (let length = 0; length <= last; length += 2_503) {
      const boot = mkdtempSync(join(directory, 'boot-'))
      const torn = join(boot, 'agent.db')
      copyFileSync(path, torn)
      copyFileSync(`${path}-wal`, `${torn}-wal`)
      truncateSync(`${torn}-wal`, length)
      using found = new Journal(torn, { clock })
      const whole = ends.filter((end) => end <= length).length
      assert.deepEqual(
        [length, found.unfinished().length, found.generationOf(vmUuid) ?? 0],
        [length, whole, whole]
      )
    }
  })

  it('is empty after a start, and gone after a clean stop', async () => {
    {
      const journal = new Journal(path, { clock })
      journal.accept(claims(1), 'digest')
      copyFileSync(path, join(directory, 'copy.db'))
      copyFileSync(`${path}-wal`, join(directory, 'copy.db-wal'))
      await journal[Symbol.asyncDispose]()
    }
    assert.equal(existsSync(`${path}-wal`), false)
    using journal = new Journal(join(directory, 'copy.db'), { clock })
    assert.equal(statSync(join(directory, 'copy.db-wal')).size, 0)
    assert.equal(journal.generationOf(vmUuid), 1)
  })

  it('is carried over beside the work when it has grown, and begun anew', async () => {
    const journal = new Journal(path, { clock })
    using other = new DatabaseSync(path)
    const pages = other.prepare('PRAGMA wal_checkpoint(NOOP)')
    let generation = 0
    const write = async () => {
      journal.accept(claims(++generation, 60_000), 'digest')
      await journal.durable()
    }
    while (Number(pages.get()?.log) < walPages) await write()
    await until(() => {
      const { log, checkpointed } = pages.get() ?? {}
      return log === checkpointed
    })
    await write()
    assert.ok(Number(pages.get()?.log) < 100, 'the log was not begun anew')
    await journal[Symbol.asyncDispose]()
    using again = new Journal(path, { clock })
    assert.equal(again.unfinished().length, generation)
  })
})

describe('carrying the log over', () => {
  function setUp(log: number) {
    const pages = { log, checkpointed: 0 }
    const replies: PromiseWithResolvers<CheckpointReply>[] = []
    const told: string[] = []
    const checkpoints = new WalCheckpoints({
      pages: () => pages,
      carryOver: () => {
        const reply = Promise.withResolvers<CheckpointReply>()
        replies.push(reply)
        return reply.promise
      },
      onSyncFault: ({ message }) => told.push(`fault: ${message}`),
      onTrouble: (error) => told.push(`trouble: ${(error as Error).message}`)
    })
    checkpoints.look()
    return { pages, replies, told, checkpoints }
  }

  it('begins with its length, once, and keeps nobody waiting', async () => {
    assert.equal(setUp(walPages - 1).replies.length, 0)
    const { replies, checkpoints } = setUp(walPages)
    checkpoints.look()
    assert.equal(replies.length, 1)
    assert.equal(checkpoints.pressing, undefined)
  })

  it('keeps those waiting who would write more, once the log is far too long, until it ends', async () => {
    const { pages, replies, checkpoints } = setUp(walPagesMax)
    const waiting = checkpoints.pressing
    assert.ok(waiting)
    pages.checkpointed = pages.log
    replies[0]?.resolve({ isComplete: true })
    await waiting
    assert.equal(checkpoints.pressing, undefined)
  })

  it('that fails is tried again with the next write; a sync that fails is not', async () => {
    const { replies, told, checkpoints } = setUp(walPagesMax)
    replies[0]?.resolve({ isComplete: false, fault: { message: 'disk full', errcode: 13 } })
    await settle()
    assert.equal(checkpoints.pressing, undefined, 'work does not stop for it')
    checkpoints.look()
    replies[1]?.resolve({ isComplete: false, fault: { message: 'disk I/O error', errcode: 1_034 } })
    await settle()
    checkpoints.look()
    replies[2]?.reject(new Error('no threads'))
    await settle()
    assert.deepEqual(told, ['trouble: disk full', 'fault: disk I/O error', 'trouble: no threads'])
  })
})
