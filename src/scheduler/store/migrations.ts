// The tables of both files, version by version. A migration that was released is never changed: another one follows it.

/** What was promised: flushed at every commit. Times are milliseconds since the epoch. */
export const mainMigrations: readonly string[] = [
  `
  CREATE TABLE main.tokens (
    id TEXT PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    note TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at INTEGER,
    host TEXT
  ) STRICT;
  CREATE TABLE main.hosts (
    id TEXT PRIMARY KEY,
    hostname TEXT NOT NULL,
    enrolled_at INTEGER NOT NULL,
    certificate_expires_at INTEGER NOT NULL,
    revoked_at INTEGER
  ) STRICT;
  CREATE TABLE main.vms (
    name TEXT PRIMARY KEY,
    uuid TEXT NOT NULL UNIQUE,
    host TEXT NOT NULL REFERENCES hosts (id),
    wanted TEXT NOT NULL,
    generation INTEGER NOT NULL,
    profile TEXT NOT NULL,
    cpus INTEGER NOT NULL,
    memory_bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    specification TEXT,
    operation TEXT
  ) STRICT;
  CREATE INDEX main.vms_by_host ON vms (host);
  CREATE TABLE main.generations (vm TEXT PRIMARY KEY, generation INTEGER NOT NULL) STRICT;
  CREATE TABLE main.commands (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    verb TEXT NOT NULL,
    host TEXT NOT NULL REFERENCES hosts (id),
    vm TEXT,
    vm_uuid TEXT,
    jws TEXT,
    state TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    sent_at INTEGER,
    started_at INTEGER,
    finished_at INTEGER,
    value TEXT,
    error TEXT
  ) STRICT;
  CREATE INDEX main.commands_by_host ON commands (host, sequence);
  CREATE INDEX main.commands_by_vm ON commands (vm, sequence);
  CREATE INDEX main.commands_open ON commands (state, expires_at)
    WHERE state IN ('waiting', 'sent', 'running');
  CREATE TABLE main.repeatables (
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    hash BLOB NOT NULL,
    command TEXT NOT NULL REFERENCES commands (id) ON DELETE CASCADE,
    PRIMARY KEY (scope, key)
  ) STRICT;
  CREATE INDEX main.repeatables_by_command ON repeatables (command);
  CREATE TABLE main.keys (
    id TEXT PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    tier TEXT NOT NULL,
    note TEXT NOT NULL,
    created_at INTEGER NOT NULL
  ) STRICT;
  `,
  // Who was sent a command and who took it, and what to do after a refusal.
  `
  ALTER TABLE main.commands ADD COLUMN sent_by TEXT;
  ALTER TABLE main.commands ADD COLUMN taken_by TEXT;
  ALTER TABLE main.commands ADD COLUMN refusals INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE main.commands ADD COLUMN refusal TEXT;
  ALTER TABLE main.commands ADD COLUMN retry_at INTEGER;
  CREATE INDEX main.commands_open_by_host ON commands (host, sequence)
    WHERE state IN ('waiting', 'sent', 'running');
  `,
  // Backups, which outlive their VMs, and the command that made a VM out of one.
  `
  CREATE TABLE main.backup_snapshots (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    snapshot TEXT NOT NULL UNIQUE,
    uuid TEXT NOT NULL,
    target TEXT NOT NULL,
    vm TEXT NOT NULL,
    host TEXT NOT NULL,
    number INTEGER NOT NULL,
    taken_at INTEGER NOT NULL,
    operation TEXT,
    origin TEXT,
    record TEXT NOT NULL,
    verification TEXT,
    removed_at INTEGER
  ) STRICT;
  CREATE INDEX main.backup_snapshots_by_source ON backup_snapshots (uuid, target, number);
  CREATE INDEX main.backup_snapshots_by_vm ON backup_snapshots (vm, taken_at);
  CREATE INDEX main.backup_snapshots_by_time ON backup_snapshots (taken_at);
  CREATE TABLE main.backup_runs (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    operation TEXT NOT NULL UNIQUE,
    host TEXT NOT NULL,
    vm TEXT NOT NULL,
    uuid TEXT NOT NULL,
    target TEXT NOT NULL,
    origin TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    next_at INTEGER,
    snapshot TEXT,
    error TEXT
  ) STRICT;
  CREATE INDEX main.backup_runs_by_vm ON backup_runs (uuid, finished_at);
  CREATE TABLE main.backup_sources (uuid TEXT PRIMARY KEY, specification TEXT NOT NULL) STRICT;
  CREATE TABLE main.backup_schedules (
    uuid TEXT PRIMARY KEY,
    schedule TEXT NOT NULL,
    set_at INTEGER NOT NULL
  ) STRICT;
  ALTER TABLE main.vms ADD COLUMN restored_by TEXT;
  `,
  // What hosts signed of VMs that they erased; it outlives everything else that is known of them.
  `
  CREATE TABLE main.erase_certificates (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    vm TEXT NOT NULL,
    uuid TEXT NOT NULL,
    host TEXT NOT NULL,
    operation TEXT NOT NULL,
    erased_at INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    certificate TEXT NOT NULL,
    fault TEXT
  ) STRICT;
  CREATE INDEX main.erase_certificates_by_uuid ON erase_certificates (uuid, sequence);
  CREATE INDEX main.erase_certificates_by_vm ON erase_certificates (vm, sequence);
  `,
  // Keys of disks, wrapped for others, and the VMs whose keys are given to nobody for now.
  `
  CREATE TABLE main.disk_keys (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    vm TEXT NOT NULL,
    uuid TEXT NOT NULL,
    host TEXT NOT NULL,
    volume TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    stored_at INTEGER NOT NULL,
    recovery TEXT,
    wrapped TEXT,
    granted_at INTEGER,
    removed_at INTEGER
  ) STRICT;
  CREATE INDEX main.disk_keys_by_vm ON disk_keys (uuid);
  CREATE INDEX main.disk_keys_by_name ON disk_keys (vm);
  CREATE INDEX main.disk_keys_by_host ON disk_keys (host);
  CREATE TABLE main.disk_key_holds (
    uuid TEXT PRIMARY KEY,
    withheld_at INTEGER NOT NULL,
    withheld_by TEXT NOT NULL
  ) STRICT;
  `,
  // Which of a host's certificates counts, and whether two machines were seen to use one identity.
  `
  ALTER TABLE main.hosts ADD COLUMN certificate_key TEXT;
  ALTER TABLE main.hosts ADD COLUMN certificate_from INTEGER;
  ALTER TABLE main.hosts ADD COLUMN previous_key TEXT;
  ALTER TABLE main.hosts ADD COLUMN cloned_at INTEGER;
  `,
  // Audit: calls of the API as a chain of lines, and the heads of the trails of hosts.
  `
  CREATE TABLE main.api_audit (
    sequence INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    key TEXT,
    object TEXT,
    operation TEXT,
    refused INTEGER NOT NULL,
    hash TEXT NOT NULL,
    line TEXT NOT NULL
  ) STRICT;
  CREATE INDEX main.api_audit_by_time ON api_audit (at);
  CREATE TABLE main.api_audit_anchor (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    seq INTEGER NOT NULL,
    hash TEXT NOT NULL
  ) STRICT;
  CREATE TABLE main.trail_heads (
    host TEXT NOT NULL,
    seq INTEGER NOT NULL,
    hash TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (host, seq)
  ) STRICT;
  CREATE TABLE main.trail_faults (
    host TEXT PRIMARY KEY,
    at INTEGER NOT NULL,
    message TEXT NOT NULL
  ) STRICT;
  `,
  // Which keys and CAs the fleet goes by, and all that hosts were ever told of them: one that was away is told it in order.
  `
  CREATE TABLE main.trust_statements (
    serial INTEGER PRIMARY KEY,
    jws TEXT NOT NULL,
    at INTEGER NOT NULL,
    by TEXT NOT NULL,
    what TEXT NOT NULL,
    forced INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE main.trust_state (only_one INTEGER PRIMARY KEY CHECK (only_one = 1), state TEXT NOT NULL) STRICT;
  `,
  // Signatures of others under a command, and the connection over which its host said that it needs one more.
  `
  CREATE TABLE main.approvals (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    command TEXT NOT NULL REFERENCES commands (id) ON DELETE CASCADE,
    approver TEXT NOT NULL,
    jws TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    received_from TEXT NOT NULL,
    UNIQUE (command, approver)
  ) STRICT;
  ALTER TABLE main.commands ADD COLUMN held_by TEXT;
  ALTER TABLE main.commands ADD COLUMN sent_approval INTEGER;
  `,
  // Where VMs may stand, and why they stand where they do.
  `
  CREATE TABLE main.host_labels (
    host TEXT NOT NULL REFERENCES hosts (id),
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (host, key)
  ) STRICT;
  ALTER TABLE main.vms ADD COLUMN placement TEXT;
  ALTER TABLE main.vms ADD COLUMN vm_group TEXT GENERATED ALWAYS AS (json_extract(placement, '$.group')) VIRTUAL;
  CREATE INDEX main.vms_by_group ON vms (vm_group) WHERE vm_group IS NOT NULL;
  CREATE TABLE main.placements (
    command TEXT PRIMARY KEY REFERENCES commands (id) ON DELETE CASCADE,
    explanation TEXT NOT NULL
  ) STRICT;
  `,
  // People: what is known of their keys, their second factors and their sessions.
  `
  ALTER TABLE main.keys ADD COLUMN owner TEXT NOT NULL DEFAULT '';
  ALTER TABLE main.keys ADD COLUMN last_four TEXT;
  ALTER TABLE main.keys ADD COLUMN expires_at INTEGER;
  ALTER TABLE main.keys ADD COLUMN is_machine INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE main.keys ADD COLUMN needs_factor INTEGER NOT NULL DEFAULT 0;
  CREATE TABLE main.second_factors (
    key TEXT PRIMARY KEY REFERENCES keys (id) ON DELETE CASCADE,
    sealed BLOB NOT NULL,
    begun_at INTEGER NOT NULL,
    confirmed_at INTEGER,
    last_step INTEGER,
    failures INTEGER NOT NULL DEFAULT 0,
    locked_until INTEGER
  ) STRICT;
  CREATE TABLE main.recovery_codes (
    key TEXT NOT NULL REFERENCES second_factors (key) ON DELETE CASCADE,
    hash BLOB NOT NULL,
    PRIMARY KEY (key, hash)
  ) STRICT;
  CREATE TABLE main.sessions (
    id TEXT PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    key TEXT NOT NULL REFERENCES keys (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    factors INTEGER NOT NULL,
    address TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    idle_ms INTEGER
  ) STRICT;
  CREATE INDEX main.sessions_by_key ON sessions (key, created_at);
  `,
  // The VM that a command is about without changing it.
  'ALTER TABLE main.commands ADD COLUMN about TEXT'
]

/** What hosts said and may say again: flushed at checkpoints. */
export const observedMigrations: readonly string[] = [
  `
  CREATE TABLE observed.host_reports (
    host TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    connection TEXT NOT NULL,
    connected_at INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL,
    agent_version TEXT NOT NULL,
    instance TEXT NOT NULL,
    verbs TEXT NOT NULL,
    hypervisor TEXT NOT NULL,
    operations_running INTEGER NOT NULL,
    operations_waiting INTEGER NOT NULL,
    conditions TEXT NOT NULL,
    facts TEXT,
    foreign_domains TEXT NOT NULL
  ) STRICT;
  CREATE TABLE observed.vm_reports (
    host TEXT NOT NULL,
    name TEXT NOT NULL,
    uuid TEXT NOT NULL,
    summary TEXT NOT NULL,
    reported_at INTEGER NOT NULL,
    present INTEGER NOT NULL,
    PRIMARY KEY (host, name)
  ) STRICT;
  CREATE TABLE observed.progress (
    command TEXT PRIMARY KEY,
    step TEXT NOT NULL,
    step_index INTEGER NOT NULL,
    steps INTEGER NOT NULL,
    ratio REAL,
    note TEXT
  ) STRICT;
  CREATE TABLE observed.events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    host TEXT NOT NULL,
    vm TEXT NOT NULL,
    uuid TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    detail TEXT NOT NULL
  ) STRICT;
  CREATE INDEX observed.events_by_vm ON events (vm, sequence);
  CREATE INDEX observed.events_by_time ON events (received_at);
  CREATE TABLE observed.host_metrics (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    host TEXT NOT NULL,
    at INTEGER NOT NULL,
    sample TEXT NOT NULL,
    UNIQUE (host, at)
  ) STRICT;
  CREATE INDEX observed.host_metrics_by_time ON host_metrics (at);
  CREATE TABLE observed.vm_metrics (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    host TEXT NOT NULL,
    uuid TEXT NOT NULL,
    at INTEGER NOT NULL,
    sample TEXT NOT NULL,
    UNIQUE (host, uuid, at)
  ) STRICT;
  CREATE INDEX observed.vm_metrics_by_time ON vm_metrics (at);
  CREATE TABLE observed.key_uses (key TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT;
  `,
  // When the newest inventory was taken, by the clock of the host.
  'ALTER TABLE observed.host_reports ADD COLUMN looked_at INTEGER NOT NULL DEFAULT 0',
  // Bytes of an operation that moves some.
  'ALTER TABLE observed.progress ADD COLUMN transfer TEXT',
  // Which run of the agent was heard last, which ones before it, and how far the host's clock is off.
  `
  ALTER TABLE observed.host_reports ADD COLUMN living_instance TEXT NOT NULL DEFAULT '';
  ALTER TABLE observed.host_reports ADD COLUMN earlier_instances TEXT NOT NULL DEFAULT '[]';
  ALTER TABLE observed.host_reports ADD COLUMN clock_skew_ms INTEGER;
  `,
  // Which trust statement each host goes by, and which CA signed the certificate that it last came with.
  `
  CREATE TABLE observed.host_trust (
    host TEXT PRIMARY KEY,
    serial INTEGER,
    fault TEXT,
    authority TEXT
  ) STRICT;
  `,
  // Since when the host takes no new work.
  'ALTER TABLE observed.host_reports ADD COLUMN draining_since INTEGER',
  // From where a key was last used, and when a session was.
  `
  ALTER TABLE observed.key_uses ADD COLUMN address TEXT;
  CREATE TABLE observed.session_uses (session TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT;
  `,
  // What its operations wait for, as of its last heartbeat.
  "ALTER TABLE observed.host_reports ADD COLUMN waits TEXT NOT NULL DEFAULT '[]'"
]
