// The tables of the journal, as migrations: each entry takes the database from its index to the next version.

import type { DatabaseSync } from 'node:sqlite'
import { HostletError } from '../../errors.ts'

const migrations: readonly string[] = [
  `CREATE TABLE commands (
     sequence INTEGER PRIMARY KEY AUTOINCREMENT,
     id TEXT NOT NULL UNIQUE,
     digest TEXT NOT NULL,
     verb TEXT NOT NULL,
     claims TEXT NOT NULL,
     expires_at INTEGER NOT NULL,
     state TEXT NOT NULL CHECK (state IN ('accepted', 'running', 'undoing', 'done', 'failed')),
     attempts INTEGER NOT NULL DEFAULT 0,
     step INTEGER NOT NULL DEFAULT 0,
     notes TEXT NOT NULL DEFAULT '{}',
     failure TEXT,
     result TEXT,
     accepted_at INTEGER NOT NULL,
     started_at INTEGER,
     finished_at INTEGER,
     acknowledged INTEGER NOT NULL DEFAULT 0
   ) STRICT;
   CREATE INDEX commands_open ON commands (sequence) WHERE state IN ('accepted', 'running', 'undoing');
   CREATE INDEX commands_unacknowledged ON commands (sequence) WHERE acknowledged = 0 AND result IS NOT NULL;
   CREATE INDEX commands_acknowledged ON commands (finished_at) WHERE acknowledged = 1;
   CREATE TABLE generations (
     uuid TEXT PRIMARY KEY,
     name TEXT NOT NULL,
     generation INTEGER NOT NULL,
     changed_at INTEGER NOT NULL
   ) STRICT, WITHOUT ROWID;`,
  `ALTER TABLE commands ADD COLUMN origin TEXT NOT NULL DEFAULT 'command';
   ALTER TABLE commands ADD COLUMN cancelled INTEGER NOT NULL DEFAULT 0;
   CREATE TABLE backup_reports (
     sequence INTEGER PRIMARY KEY AUTOINCREMENT,
     id TEXT NOT NULL UNIQUE,
     good INTEGER NOT NULL,
     held INTEGER NOT NULL,
     report TEXT NOT NULL
   ) STRICT;
   CREATE TABLE backup_runs (
     uuid TEXT NOT NULL,
     target TEXT NOT NULL,
     vm TEXT NOT NULL,
     started_at INTEGER NOT NULL,
     finished_at INTEGER NOT NULL,
     good_at INTEGER,
     failures INTEGER NOT NULL,
     error TEXT,
     PRIMARY KEY (uuid, target)
   ) STRICT, WITHOUT ROWID;
   CREATE TABLE backup_good (
     uuid TEXT NOT NULL,
     target TEXT NOT NULL,
     snapshot TEXT NOT NULL,
     sequence INTEGER NOT NULL,
     at INTEGER NOT NULL,
     checkpoint TEXT,
     checkpoint_xml TEXT,
     PRIMARY KEY (uuid, target)
   ) STRICT, WITHOUT ROWID;
   CREATE TABLE backup_schedules (
     uuid TEXT PRIMARY KEY,
     schedule TEXT NOT NULL,
     since INTEGER NOT NULL
   ) STRICT, WITHOUT ROWID;`,
  `ALTER TABLE backup_good ADD COLUMN damaged_snapshot TEXT;
   ALTER TABLE backup_good ADD COLUMN damage TEXT;`,
  `CREATE TABLE erase_certificates (
     sequence INTEGER PRIMARY KEY AUTOINCREMENT,
     id TEXT NOT NULL UNIQUE,
     certificate TEXT NOT NULL
   ) STRICT;`,
  `CREATE TABLE disk_key_escrow (
     id TEXT PRIMARY KEY,
     vm TEXT NOT NULL,
     uuid TEXT NOT NULL,
     volume TEXT NOT NULL,
     created_at INTEGER NOT NULL,
     revision INTEGER NOT NULL,
     told INTEGER NOT NULL,
     recipients TEXT NOT NULL,
     since INTEGER NOT NULL,
     fault TEXT
   ) STRICT, WITHOUT ROWID;
   CREATE TABLE disk_keys_gone (
     uuid TEXT NOT NULL,
     id TEXT NOT NULL,
     since INTEGER NOT NULL,
     PRIMARY KEY (uuid, id)
   ) STRICT, WITHOUT ROWID;`,
  `CREATE TABLE known_vms (
     uuid TEXT PRIMARY KEY,
     name TEXT NOT NULL,
     seen_at INTEGER NOT NULL,
     adopted_at INTEGER
   ) STRICT, WITHOUT ROWID;`,
  'CREATE TABLE host_drain (id INTEGER PRIMARY KEY CHECK (id = 1), since INTEGER NOT NULL) STRICT;',
  'CREATE TABLE forgotten (id INTEGER PRIMARY KEY CHECK (id = 1), issued_at INTEGER NOT NULL) STRICT;'
]

/** Brings the database to the newest version, one transaction a step. Throws E_UNSUPPORTED when it is newer than this agent. */
export function migrate(database: DatabaseSync): void {
  const version = Number(database.prepare('PRAGMA user_version').get()?.user_version ?? 0)
  if (version > migrations.length)
    throw new HostletError(
      'E_UNSUPPORTED',
      `the journal has version ${version}, this agent knows ${migrations.length}. Install the newer agent again.`
    )
  for (const [index, statements] of migrations.entries()) {
    if (index < version) continue
    database.exec(`BEGIN IMMEDIATE; ${statements} PRAGMA user_version = ${index + 1}; COMMIT`)
  }
}
