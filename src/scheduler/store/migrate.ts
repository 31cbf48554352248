// Brings a file of the store up to what this release knows.

import type { DatabaseSync } from 'node:sqlite'
import { HostletError } from '../../errors.ts'

type SchemaName = 'main' | 'observed'

/** Runs what the file has not seen yet, each in its own transaction. Throws E_UNSUPPORTED for a file of a newer release. */
export function migrate(database: DatabaseSync, schema: SchemaName, migrations: readonly string[]): void {
  const row = database.prepare(`PRAGMA ${schema}.user_version`).get()
  const version = Number(row?.user_version ?? 0)
  if (version > migrations.length)
    throw new HostletError(
      'E_UNSUPPORTED',
      `the store has version ${version}, this release knows ${migrations.length}. Run the release that wrote it, or a newer one.`
    )
  for (const [index, sql] of migrations.entries())
    if (index >= version)
      database.exec(`BEGIN IMMEDIATE; ${sql}; PRAGMA ${schema}.user_version = ${index + 1}; COMMIT`)
}
