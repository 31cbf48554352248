// A key made beside the scheduler: in a store of its own release, and in no other.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, it } from 'node:test'
import { makeRescueKey } from '../../src/scheduler/rescue.ts'
import { migrate } from '../../src/scheduler/store/migrate.ts'
import { mainMigrations, observedMigrations } from '../../src/scheduler/store/migrations.ts'
import { FakeClock } from '../support/fake-clock.ts'
import { defaultConfig } from './support/test-scheduler.ts'

const who = { by: 'ada', uid: process.getuid?.() }

function versionOf(path: string): unknown {
  using database = new DatabaseSync(path)
  return database.prepare('PRAGMA user_version').get()?.user_version
}

describe('a rescue key', () => {
  async function inStore(
    { main, observed }: { main: number; observed: number },
    work: (make: () => ReturnType<typeof makeRescueKey>, versions: () => unknown[]) => Promise<void>
  ): Promise<void> {
    const directory = mkdtempSync(join(tmpdir(), 'hostlet-rescue-'))
    const paths = ['scheduler.db', 'observed.db'].map((name) => join(directory, name))
    try {
      for (const [path, migrations] of [
        [paths[0] ?? '', mainMigrations.slice(0, main)],
        [paths[1] ?? '', observedMigrations.slice(0, observed)]
      ] as const) {
        using database = new DatabaseSync(path)
        const own = migrations.map((sql) => sql.replaceAll(/\b(main|observed)\./g, 'main.'))
        migrate(database, 'main', own)
      }
      const make = () => makeRescueKey(defaultConfig(directory), { clock: new FakeClock(), ...who })
      await work(make, () => paths.map(versionOf))
    } finally {
      rmSync(directory, { recursive: true, force: true })
    }
  }

  const newest = { main: mainMigrations.length, observed: observedMigrations.length }

  it('is made in a store of this release', () =>
    inStore(newest, async (make) => {
      assert.equal((await make()).record.tier, 'admin')
    }))

  for (const [what, versions] of [
    ['an older store', { ...newest, main: newest.main - 1 }],
    ['a store of which the half is older', { ...newest, observed: newest.observed - 1 }]
  ] as const)
    it(`is not made in ${what}, which stays as its scheduler knows it`, () =>
      inStore(versions, async (make, left) => {
        await assert.rejects(make(), { code: 'E_UNSUPPORTED', message: /Restart it, then try again/ })
        assert.deepEqual(left(), [versions.main, versions.observed])
      }))
})
