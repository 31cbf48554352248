// What the store keeps of trust: statements in order, the state with them, how far hosts are, and open commands for another signature.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, it } from 'node:test'
import { CommandSigner, createCommandKey } from '../../../src/scheduler/identity/command-signer.ts'
import { mainMigrations } from '../../../src/scheduler/store/migrations.ts'
import { SqliteStore } from '../../../src/scheduler/store/sqlite-store.ts'
import { resignOpenCommands } from '../../../src/scheduler/trust/resign.ts'
import { TestStore } from '../support/test-store.ts'

const entry = (serial: number) => ({
  serial,
  jws: `s${serial}`,
  at: serial,
  by: 'key-1',
  what: 'ca start',
  forced: false
})

describe('trust in the store', () => {
  it('is durable, state and statement together, and in the order of the serials', async () => {
    await using test = new TestStore()
    assert.equal(await test.store.trust.state(), undefined)
    await test.store.trust.commit('{"a":1}', entry(5))
    await test.store.trust.commit('{"a":2}', { ...entry(9), forced: true })
    await assert.rejects(test.store.trust.commit('{"a":3}', entry(9)))
    const { trust } = test.openAgain()
    assert.equal(await trust.state(), '{"a":2}')
    assert.deepEqual(await trust.statements(0, 10), ['s5', 's9'])
    assert.deepEqual(await trust.statements(5, 10), ['s9'])
    assert.deepEqual(
      (await trust.history(10)).map(({ serial, by, forced }) => [serial, by, forced]),
      [
        [9, 'key-1', true],
        [5, 'key-1', false]
      ]
    )
  })

  it('knows how far each host is, and forgets those that are revoked', async () => {
    await using test = new TestStore()
    const { trust, hosts } = test.store
    await test.host('kvm-1')
    await test.host('kvm-2')
    await trust.adopted('kvm-1', 5, undefined)
    await trust.cameWith('kvm-1', 'sha256:a')
    await trust.adopted('kvm-1', 6, 'the disk is full')
    assert.deepEqual(
      (await trust.hosts()).map(({ host, state, serial, fault, authority }) => [
        host,
        state,
        serial,
        fault,
        authority
      ]),
      [
        ['kvm-1', 'new', 6, 'the disk is full', 'sha256:a'],
        ['kvm-2', 'new', undefined, undefined, undefined]
      ]
    )
    await hosts.revoke('kvm-1', 2_000)
    assert.deepEqual(
      (await trust.hosts()).map(({ host }) => host),
      ['kvm-2']
    )
  })

  it('comes to a store of an older release, with all that was in it', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'hostlet-old-store-'))
    const index = mainMigrations.findIndex((sql) => sql.includes('trust_statements'))
    assert.ok(index > 0)
    const old = new DatabaseSync(join(directory, 'scheduler.db'))
    for (const sql of mainMigrations.slice(0, index)) old.exec(sql)
    old.exec(
      `INSERT INTO hosts (id, hostname, enrolled_at, certificate_expires_at) VALUES ('kvm-1', 'kvm-1', 1, 2)`
    )
    old.exec(`PRAGMA user_version = ${index}`)
    old.close()
    const wide = { keepMs: 1_000_000, rowsMax: 1_000 }
    const store = new SqliteStore(directory, { commands: wide, metrics: wide, events: wide })
    assert.equal(await store.trust.state(), undefined)
    await store.trust.commit('{}', entry(1))
    assert.deepEqual(
      (await store.trust.hosts()).map(({ host }) => host),
      ['kvm-1']
    )
    await store.close()
    rmSync(directory, { recursive: true })
  })
})

describe('open commands', () => {
  it('keep their content under another signature; what the dropped key did not sign is left alone', async () => {
    await using test = new TestStore()
    const host = await test.host('kvm-1')
    const [dropped, stays, foreign] = await Promise.all(
      [1, 2, 3].map(async () => CommandSigner.of(await createCommandKey(), 'test'))
    )
    assert.ok(dropped && stays && foreign)
    const payload = new TextEncoder().encode('{"id":1}')
    const sign = (signer: CommandSigner) => signer.signPayload(payload, 'hostlet-command+jwt')
    const good = await sign(dropped)
    const [head, , tail] = good.split('.')
    const forged = `${head}.${Buffer.from('{"id":2}').toString('base64url')}.${tail}`
    const made = [good, await sign(foreign), forged, 'a.b.c', await sign(stays)]
    const ids: string[] = []
    for (const jws of made) ids.push((await test.command(host, { jws })).id)
    const count = await resignOpenCommands({ store: test.store, signer: stays, dropped: dropped.publicKey })
    assert.equal(count, 1)
    const now = await Promise.all(ids.map(async (id) => (await test.store.commands.find(id))?.jws))
    assert.equal(now[0], await sign(stays))
    assert.deepEqual(now.slice(1), made.slice(1))
  })
})
