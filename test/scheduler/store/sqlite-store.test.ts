// The store: what it promises holds after a crash, what it observes stays within bounds, and its files are its own.

import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import {
  appendFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, it } from 'node:test'
import { openCommandsMax } from '../../../src/scheduler/store/command-table.ts'
import { KeyTable } from '../../../src/scheduler/store/key-table.ts'
import { mainMigrations, observedMigrations } from '../../../src/scheduler/store/migrations.ts'
import { Sqlite } from '../../../src/scheduler/store/sqlite.ts'
import { SqliteStore } from '../../../src/scheduler/store/sqlite-store.ts'
import type { Courier } from '../../../src/scheduler/store/store.ts'
import { metricsSample, uuid1, vmSample } from '../support/samples.ts'
import { TestStore, vmSpecification } from '../support/test-store.ts'

const bounds = { keepMs: 1_000, rowsMax: 100 }
const courier: Courier = {
  host: 'kvm-1',
  connection: 'first',
  instance: 'agent',
  now: 1_500,
  unansweredBefore: 0,
  unansweredMax: 10
}
const result = (command: string, outcome: 'done' | 'failed' = 'done') => ({
  command,
  outcome,
  startedAt: 1_100,
  finishedAt: 1_200
})

async function ofDirectory(work: (directory: string) => Promise<void> | void): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'hostlet-store-'))
  try {
    await work(directory)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

const plainKey = {
  owner: '',
  lastFour: 'abcd',
  expiresAt: undefined,
  isMachine: false,
  needsFactor: false
} as const

describe('the store', () => {
  it('keeps its files to itself', async () => {
    await using files = new TestStore()
    await files.host('kvm-1')
    const names = readdirSync(files.directory)
    assert.ok(names.includes('scheduler.db') && names.includes('observed.db'))
    for (const name of names) assert.equal(statSync(join(files.directory, name)).mode & 0o777, 0o600, name)
  })

  it('has committed what it promises when it answers, and flushes each commit of it', async () => {
    await using files = new TestStore()
    const command = await files.command(await files.host('kvm-1'))
    // What another process reads now is what a crash of this one would leave.
    const reader = new DatabaseSync(join(files.directory, 'scheduler.db'), { readOnly: true })
    assert.equal(reader.prepare('SELECT id FROM commands').get()?.id, command.id)
    reader.close()
    await ofDirectory((directory) => {
      const sqlite = new Sqlite(directory)
      assert.equal(sqlite.get<{ synchronous: number }>('PRAGMA main.synchronous')?.synchronous, 2)
      assert.equal(sqlite.get<{ journal_mode: string }>('PRAGMA main.journal_mode')?.journal_mode, 'wal')
      sqlite.close()
    })
  })

  it('has what was added and ended when it is opened again', async () => {
    await using files = new TestStore()
    const host = await files.host('kvm-1')
    const [open, ended] = [await files.command(host), await files.command(host)]
    await files.store.commands.finished(host, result(ended.id), 1_200, 'none', {})
    const store = files.openAgain()
    assert.equal((await store.commands.find(open.id))?.state, 'waiting')
    assert.equal((await store.commands.find(ended.id))?.state, 'done')
  })

  it('counts nobody as connected when it is opened', async () => {
    await using files = new TestStore()
    const host = await files.host('kvm-1')
    const report = { connection: 'c1', connectedAt: 1, agentVersion: '1', instance: randomUUID(), verbs: [] }
    await files.store.hosts.connected(host, report)
    assert.equal((await files.store.hosts.find(host))?.report?.state, 'connected')
    assert.equal((await files.openAgain().hosts.find(host))?.report?.state, 'away')
  })

  it('takes over what the first release wrote', () =>
    ofDirectory(async (directory) => {
      const [firstMain = '', firstObserved = ''] = [mainMigrations[0], observedMigrations[0]]
      for (const [file, sql] of Object.entries({ scheduler: firstMain, observed: firstObserved })) {
        const database = new DatabaseSync(join(directory, `${file}.db`))
        database.exec(`${sql.replaceAll(/\b(main|observed)\./g, 'main.')}; PRAGMA user_version = 1`)
        if (file === 'scheduler')
          database.exec(`INSERT INTO hosts VALUES ('kvm-1', 'kvm-1', 1, 2, NULL);
            INSERT INTO commands (id, verb, host, jws, state, created_at, expires_at)
              VALUES ('${uuid1}', 'host.facts', 'kvm-1', 'a.b.c', 'sent', 1, 2000)`)
        database.close()
      }
      const store = new SqliteStore(directory, { commands: bounds, metrics: bounds, events: bounds })
      const record = await store.commands.undelivered(courier)
      assert.equal(record?.id, uuid1)
      assert.equal(record?.refusals, 0)
      await store.close()
    }))

  it('refuses files of a newer release', () =>
    ofDirectory(async (directory) => {
      await new SqliteStore(directory, { commands: bounds, metrics: bounds, events: bounds }).close()
      const database = new DatabaseSync(join(directory, 'scheduler.db'))
      database.exec('PRAGMA user_version = 99')
      database.close()
      assert.throws(() => new SqliteStore(directory, { commands: bounds, metrics: bounds, events: bounds }), {
        code: 'E_UNSUPPORTED',
        message: /version 99, this release knows \d+\./
      })
    }))

  it('says so when its file is no store', () =>
    ofDirectory((directory) => {
      writeFileSync(
        join(directory, 'scheduler.db'),
        'this is not a database, whatever its name says'.repeat(100)
      )
      assert.throws(() => new SqliteStore(directory, { commands: bounds, metrics: bounds, events: bounds }), {
        code: 'E_CORRUPT'
      })
    }))

  it('does not forget the user data of a VM by keeping it', async () => {
    await using files = new TestStore()
    const host = await files.host('kvm-1')
    const specification = vmSpecification('web-1')
    await files.command(host, {
      verb: 'vm.provision',
      vm: { name: 'web-1', uuid: specification.uuid, generation: 1 },
      intent: { kind: 'create', specification }
    })
    const kept = await files.store.vms.find('web-1')
    assert.equal(kept?.specification?.rootDiskBytes, specification.rootDiskBytes)
    const bytes = ['scheduler.db', 'scheduler.db-wal'].map((name) =>
      readFileSync(join(files.directory, name))
    )
    assert.ok(!Buffer.concat(bytes).includes('hunter2'))
  })

  describe('commands', () => {
    it('drop their signed text when they end', async () => {
      await using files = new TestStore()
      const host = await files.host('kvm-1')
      const { id, jws } = await files.command(host)
      assert.equal(jws, 'a.b.c')
      await files.store.commands.finished(host, result(id), 1_200, 'none', {})
      assert.equal((await files.store.commands.find(id))?.jws, undefined)
    })

    it('keep the name of a VM to one, and add nothing when it is taken', async () => {
      await using files = new TestStore()
      const host = await files.host('kvm-1')
      const create = (name: string, uuid: string) =>
        files.command(host, {
          verb: 'vm.provision',
          vm: { name, uuid, generation: 1 },
          intent: { kind: 'create', specification: vmSpecification(name, uuid) }
        })
      await create('web-1', uuid1)
      await assert.rejects(create('web-1', randomUUID()), { code: 'E_CONFLICT' })
      await assert.rejects(create('web-2', uuid1), { code: 'E_CONFLICT' })
      assert.equal((await files.store.commands.list({}, 10)).items.length, 1)
    })

    it('refuse a VM that is gone', async () => {
      await using files = new TestStore()
      const host = await files.host('kvm-1')
      const vm = { name: 'web-1', uuid: uuid1, generation: 2 }
      await assert.rejects(files.command(host, { verb: 'vm.start', vm }), { code: 'E_NOT_FOUND' })
      assert.equal(await files.store.commands.countOpen(), 0)
    })

    it('go to their host in order, each until it is taken or too old', async () => {
      await using files = new TestStore()
      const host = await files.host('kvm-1')
      const other = await files.host('kvm-2')
      const [first, second] = [await files.command(host), await files.command(host)]
      await files.command(other)
      const { commands } = files.store
      const next = async (change: Partial<Courier> = {}) =>
        (await commands.undelivered({ ...courier, host, ...change }))?.id
      assert.equal(await next(), first.id)
      assert.equal(await next({ now: 2_000 }), undefined, 'expired')
      assert.equal(await commands.sent(first.id, courier), true)
      assert.equal(await next(), second.id)
      await commands.sent(second.id, courier)
      assert.equal(await next(), undefined)
      assert.equal(await next({ connection: 'newer' }), first.id)
      assert.equal(await next({ unansweredBefore: courier.now }), first.id)
      await commands.acknowledged(first.id, host, { at: 1_500, instance: courier.instance })
      assert.equal(await next({ connection: 'newer' }), second.id)
      assert.equal(await next({ connection: 'newer', instance: 'restarted' }), first.id)
      await commands.sent(first.id, { connection: 'newer', now: 1_500 })
      assert.equal((await commands.find(first.id))?.state, 'running')
      assert.equal(await next({ connection: 'newer', instance: 'restarted' }), second.id)
    })

    it('go out no more at a time than their host looks at', async () => {
      await using files = new TestStore()
      const host = await files.host('kvm-1')
      const { commands } = files.store
      const records = [await files.command(host), await files.command(host), await files.command(host)]
      for (const { id } of records.slice(0, 2)) await commands.sent(id, courier)
      const next = async (unansweredMax: number) =>
        (await commands.undelivered({ ...courier, host, unansweredMax }))?.id
      assert.equal(await next(2), undefined)
      assert.equal(await next(3), records[2]?.id)
      await commands.acknowledged(records[0]?.id ?? '', host, { at: 1_500, instance: courier.instance })
      assert.equal(await next(2), records[2]?.id)
    })

    it('that were postponed keep later ones of their VM waiting, and nobody else', async () => {
      await using files = new TestStore()
      const host = await files.host('kvm-1')
      const { commands } = files.store
      const specification = vmSpecification('web-1', uuid1)
      const vm = { name: 'web-1', uuid: uuid1 }
      const first = await files.command(host, {
        verb: 'vm.provision',
        vm: { ...vm, generation: 1 },
        intent: { kind: 'create', specification }
      })
      const second = await files.command(host, { verb: 'vm.stop', vm: { ...vm, generation: 2 } })
      const other = await files.command(host)
      await commands.sent(first.id, courier)
      assert.equal(await commands.postponed(first, { code: 'E_BUSY', message: 'full' }, 1_700), true)
      const next = async (now: number) => (await commands.undelivered({ ...courier, host, now }))?.id
      assert.equal(await next(1_699), other.id)
      assert.equal(await next(1_700), first.id)
      await commands.sent(first.id, courier)
      assert.equal(await next(1_700), second.id)
      await commands.acknowledged(first.id, host, { at: 1_700, instance: courier.instance })
      assert.equal(await commands.postponed(first, { code: 'E_BUSY', message: 'full' }, 1_800), false)
    })

    it('are refused beyond a number of open ones of a host, and not of another', async () => {
      await using files = new TestStore()
      const [host, other] = [await files.host('kvm-1'), await files.host('kvm-2')]
      const database = new DatabaseSync(join(files.directory, 'scheduler.db'))
      const insert = database.prepare(
        `INSERT INTO commands (id, verb, host, state, created_at, expires_at) VALUES (?, 'x', 'kvm-1', 'sent', 1, 2)`
      )
      database.exec('BEGIN')
      for (let count = 0; count < openCommandsMax; count++) insert.run(randomUUID())
      database.exec('COMMIT')
      database.close()
      await assert.rejects(files.command(host), { code: 'E_BUSY', message: /hostlet op ls --host kvm-1/ })
      await files.command(other)
    })

    it('tell who listens, until it no longer does', async () => {
      await using files = new TestStore()
      const host = await files.host('kvm-1')
      const { id } = await files.command(host)
      const seen: string[] = []
      const listener = files.store.commands.onChange((changed) => seen.push(changed))
      const { instance } = courier
      await files.store.commands.sent(id, courier)
      await files.store.commands.acknowledged(id, host, { at: 1_200, instance })
      await files.store.commands.acknowledged(id, host, { at: 1_300, instance })
      listener[Symbol.dispose]()
      await files.store.commands.finished(host, result(id), 1_400, 'none', {})
      assert.deepEqual(seen, [id, id])
    })

    it('that end twice keep the first end', async () => {
      await using files = new TestStore()
      const host = await files.host('kvm-1')
      const { id } = await files.command(host)
      const { commands } = files.store
      assert.equal(await commands.finished(host, result(id, 'failed'), 1_200, 'none', {}), true)
      assert.equal(await commands.finished(host, result(id, 'done'), 1_300, 'none', {}), false)
      assert.equal((await commands.find(id))?.state, 'failed')
      assert.equal(await commands.finished('kvm-2', result(id), 1_300, 'none', {}), false)
    })

    it('that were taken between the look and the verdict do not expire', async () => {
      await using files = new TestStore()
      const host = await files.host('kvm-1')
      await files.command(host)
      const { commands } = files.store
      const [seen] = await commands.overdue(2_000, 10_000)
      assert.ok(seen)
      await commands.acknowledged(seen.id, host, { at: 2_001, instance: courier.instance })
      assert.equal(
        await commands.expired(seen, { code: 'E_UNAVAILABLE', message: 'x' }, 2_002, 'none'),
        false
      )
      assert.equal((await commands.find(seen.id))?.state, 'running')
    })
  })

  describe('forgets', () => {
    it('ended commands by age and by number, never open ones', async () => {
      await using files = new TestStore({ commands: { keepMs: 1_000, rowsMax: 2 } })
      const host = await files.host('kvm-1', 10_000)
      const open = await files.command(host, { createdAt: 0 })
      const old = await files.command(host, { createdAt: 0 })
      const many = []
      for (let count = 0; count < 4; count++) many.push(await files.command(host, { createdAt: 10_000 }))
      for (const { id } of [old, ...many])
        await files.store.commands.finished(host, result(id), 1_200, 'none', {})
      await files.store.prune(10_000)
      const kept = (await files.store.commands.list({}, 100)).items.map(({ id }) => id)
      assert.deepEqual(kept, [
        ...many
          .slice(2)
          .map(({ id }) => id)
          .reverse(),
        open.id
      ])
    })

    it('samples by age and by number', async () => {
      await using files = new TestStore({ metrics: { keepMs: 1_000, rowsMax: 3 } })
      const host = await files.host('kvm-1')
      const times = [100, 9_100, 9_200, 9_300, 9_400, 9_500]
      await files.store.metrics.add(
        host,
        times.map((at) => metricsSample(at, [vmSample()]))
      )
      await files.store.prune(10_000)
      const range = { since: 0, limit: 100 }
      const ofHost = await files.store.metrics.ofHost(host, range)
      assert.deepEqual(
        ofHost.map(({ at }) => at),
        [9_300, 9_400, 9_500]
      )
      const ofVm = await files.store.metrics.ofVm({ host, uuid: uuid1 }, range)
      assert.deepEqual(
        ofVm.map(({ at }) => at),
        [9_300, 9_400, 9_500]
      )
      await files.store.prune(10_500)
      assert.deepEqual(
        (await files.store.metrics.ofHost(host, range)).map(({ at }) => at),
        [9_500]
      )
    })

    it('events by age and by number', async () => {
      await using files = new TestStore({ events: { keepMs: 1_000, rowsMax: 2 } })
      const host = await files.host('kvm-1')
      const event = {
        type: 'event',
        at: 1,
        vm: 'web-1',
        uuid: uuid1,
        kind: 'ready',
        state: 'running'
      } as const
      for (const at of [100, 9_500, 9_600, 9_700])
        await files.store.events.add(host, { ...event, detail: `${at}` }, at)
      await files.store.prune(10_000)
      const { items } = await files.store.events.list({ after: 0 }, 10)
      assert.deepEqual(
        items.map(({ detail, sequence }) => [detail, sequence]),
        [
          ['9600', 3],
          ['9700', 4]
        ]
      )
    })

    it('join tokens that are long over', async () => {
      await using files = new TestStore({ commands: { keepMs: 1_000, rowsMax: 10 } })
      await files.host('kvm-1', 1_000)
      await files.store.prune(10_000)
      assert.deepEqual((await files.store.tokens.list(10, 10_000)).items, [])
    })
  })

  it('keeps the last admin key', async () => {
    await using files = new TestStore()
    const { keys } = files.store
    const key = (tier: 'read' | 'admin') => ({
      id: randomUUID(),
      hash: Buffer.from(randomUUID()),
      tier,
      note: '',
      createdAt: 1,
      ...plainKey
    })
    const [first, second, reader] = [key('admin'), key('admin'), key('read')]
    for (const each of [first, second, reader]) await keys.add(each)
    assert.equal(await keys.remove(first.id, 2), true)
    await assert.rejects(keys.remove(second.id, 2), { code: 'E_CONFLICT' })
    assert.equal(await keys.remove(reader.id, 2), true)
    assert.equal(await keys.remove(reader.id, 2), false)
  })

  it('reports a full disk as such, and goes on when there is room again', () =>
    ofDirectory(async (directory) => {
      const sqlite = new Sqlite(directory)
      const keys = new KeyTable(sqlite)
      const key = () =>
        ({
          id: randomUUID(),
          hash: randomBytes(32),
          tier: 'read',
          note: 'x'.repeat(200_000),
          createdAt: 1,
          ...plainKey
        }) as const
      // SQLite's own limit stands in for the end of the disk: it fails with the same result code.
      sqlite.get('PRAGMA main.max_page_count = 30')
      await assert.rejects(keys.add(key()), { code: 'E_CAPACITY', message: /disk.*full/ })
      assert.equal(await keys.count(), 0)
      sqlite.get('PRAGMA main.max_page_count = 1000000')
      await keys.add(key())
      assert.equal(await keys.count(), 1)
      sqlite.close()
    }))

  it('says that it is damaged when its pages were overwritten', () =>
    ofDirectory(async (directory) => {
      const settings = { commands: bounds, metrics: bounds, events: bounds }
      await new SqliteStore(directory, settings).close()
      const path = join(directory, 'scheduler.db')
      const bytes = readFileSync(path)
      writeFileSync(path, bytes.subarray(0, 4_096))
      appendFileSync(path, Buffer.alloc(bytes.length - 4_096, 0xff))
      await assert.rejects(
        async () => {
          const store = new SqliteStore(directory, settings)
          await store.commands.countOpen()
        },
        { code: 'E_CORRUPT', message: /Restore it from a backup/ }
      )
    }))
})
