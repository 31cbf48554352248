// Brings a file of the store up to what this release knows.

import type { DatabaseSync } from 'node:sqlite'
import { HostletError } from '../../errors.ts'

type SchemaName = 'main' | 'observed'

/**
 * Runs what the file has not seen yet, each in its own transaction; other processes may do the same at the same moment. Throws
 * E_UNSUPPORTED for a file of a newer release.
 */
export function migrate(database: DatabaseSync, schema: SchemaName, migrations: readonly string[]): void {
  while (versionOf(database, schema) < migrations.length) step(database, schema, migrations)
  assertNotNewer(versionOf(database, schema), migrations)
}

/** For who must not change the file beneath its scheduler. Throws E_UNSUPPORTED for a file of any other release. */
export function assertMigrated(
  database: DatabaseSync,
  schema: SchemaName,
  migrations: readonly string[]
): void {
  const version = versionOf(database, schema)
  assertNotNewer(version, migrations)
  if (version < migrations.length)
    throw new HostletError(
      'E_UNSUPPORTED',
      `the store has version ${version}, this release knows ${migrations.length}: its scheduler has not been started since the upgrade. Restart it, then try again.`
    )
}

/** Only within the transaction is it sure that nobody else is at it. */
function step(database: DatabaseSync, schema: SchemaName, migrations: readonly string[]): void {
  database.exec('BEGIN IMMEDIATE')
  try {
    const version = versionOf(database, schema)
    const sql = migrations[version]
    if (sql !== undefined) database.exec(`${sql}; PRAGMA ${schema}.user_version = ${version + 1}`)
    database.exec('COMMIT')
  } catch (error) {
    if (database.isTransaction) database.exec('ROLLBACK')
    throw error
  }
}

function versionOf(database: DatabaseSync, schema: SchemaName): number {
  const row = database.prepare(`PRAGMA ${schema}.user_version`).get()
  return Number(row?.user_version ?? 0)
}

function assertNotNewer(version: number, migrations: readonly string[]): void {
  if (version > migrations.length)
    throw new HostletError(
      'E_UNSUPPORTED',
      `the store has version ${version}, this release knows ${migrations.length}. Run the release that wrote it, or a newer one.`
    )
}
