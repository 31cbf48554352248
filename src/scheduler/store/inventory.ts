// What an inventory changes: the host's facts, the report of each of its VMs, VMs taken in or dropped because only their host knows them.

import type { AgentMessageOf } from '../../protocol/messages.ts'
import type { VmSummary } from '../../protocol/vm.ts'
import type { Sqlite } from './sqlite.ts'
import type { InventoryOutcome, Told } from './store.ts'

interface Merge {
  readonly host: string
  readonly inventory: AgentMessageOf<'inventory'>
  readonly at: number
}

export function mergeInventory(sqlite: Sqlite, merge: Merge): InventoryOutcome {
  return sqlite.transaction(() => {
    const { host, inventory, at } = merge
    recordHost(sqlite, merge)
    sqlite.run('UPDATE vm_reports SET present = 0 WHERE host = :host AND present = 1', { host })
    for (const summary of inventory.vms) reportVm(sqlite, { host, summary, at })
    dropUnreported(sqlite, host)
    const verdicts = inventory.vms.map((summary) => ({
      name: summary.name,
      verdict: adopt(sqlite, { host, summary, at })
    }))
    return {
      adopted: verdicts.filter(({ verdict }) => verdict === 'adopted').map(({ name }) => name),
      conflicting: verdicts.filter(({ verdict }) => verdict === 'conflicting').map(({ name }) => name)
    }
  })
}

/**
 * A result tells what the next inventory would. One that comes late, after a lost connection or a slow look, tells less than
 * the inventory that came first: when it looked is somewhere between its start and its end. All times are of the host's clock.
 */
export function reportResult(
  sqlite: Sqlite,
  { host, vm, facts, at, startedAt }: Told & { host: string; at: number; startedAt: number }
): void {
  const newest = sqlite.get<{ looked_at: number }>('SELECT looked_at FROM host_reports WHERE host = :host', {
    host
  })
  if (newest === undefined || startedAt < newest.looked_at) return
  if (vm !== undefined) reportVm(sqlite, { host, summary: vm, at })
  if (facts !== undefined)
    sqlite.run('UPDATE host_reports SET facts = :facts WHERE host = :host', {
      host,
      facts: JSON.stringify(facts)
    })
}

function reportVm(sqlite: Sqlite, { host, summary, at }: Found): void {
  sqlite.run(
    `INSERT INTO vm_reports (host, name, uuid, summary, reported_at, present)
     VALUES (:host, :name, :uuid, :summary, :at, 1)
     ON CONFLICT (host, name) DO UPDATE SET uuid = excluded.uuid, summary = excluded.summary,
       reported_at = excluded.reported_at, present = 1`,
    { host, name: summary.name, uuid: summary.uuid, summary: JSON.stringify(summary), at }
  )
}

function recordHost(sqlite: Sqlite, { host, inventory, at }: Merge): void {
  sqlite.run(
    `UPDATE host_reports SET facts = :facts, foreign_domains = :foreign, last_seen_at = :at, looked_at = :lookedAt
     WHERE host = :host`,
    {
      host,
      at,
      lookedAt: inventory.at,
      facts: JSON.stringify(inventory.facts),
      foreign: JSON.stringify(inventory.foreign)
    }
  )
}

/**
 * VMs that were known from reports only, or whose making failed, and that nobody reports any more; and reports that
 * belong to no VM. One that was asked for and made stays: a person should see that it is missing.
 */
function dropUnreported(sqlite: Sqlite, host: string): void {
  sqlite.run(
    `DELETE FROM vms WHERE host = :host AND NOT EXISTS
       (SELECT 1 FROM vm_reports WHERE vm_reports.host = vms.host AND vm_reports.uuid = vms.uuid AND present = 1)
     AND (specification IS NULL AND restored_by IS NULL OR operation IN
       (SELECT id FROM commands WHERE state = 'failed' AND (verb = 'vm.provision' OR id = vms.restored_by)))`,
    { host }
  )
  sqlite.run(
    `DELETE FROM vm_reports WHERE host = :host AND present = 0 AND NOT EXISTS
       (SELECT 1 FROM vms WHERE vms.host = vm_reports.host AND vms.uuid = vm_reports.uuid)`,
    { host }
  )
}

/**
 * A VM of ours that its host has and the scheduler does not, after its store was lost, becomes known again. One that
 * stands under a revoked host, after this one lost its identity and enrolled anew, moves over. Copies of its keys stay the
 * former host's until this one names them, or is told to tear the VM down: an inventory is but a claim.
 */
function adopt(sqlite: Sqlite, found: Found): 'known' | 'adopted' | 'conflicting' {
  const { host, summary } = found
  const { name, uuid, generation } = summary
  const holders = sqlite.all<Holder>(
    `SELECT name, uuid, host, revoked_at, (SELECT enrolled_at FROM hosts WHERE id = :host) >= created_at AS enrolled_since
     FROM vms JOIN hosts ON hosts.id = vms.host WHERE name = :name OR uuid = :uuid`,
    { name, uuid, host }
  )
  const [holder] = holders
  const isSame = holders.length === 1 && holder?.name === name && holder.uuid === uuid
  // A machine that enrolled anew did so after the VM was made on it: no host that was there before can be that one.
  const isOrphan = isSame && holder.host !== host && holder.revoked_at !== null && holder.enrolled_since === 1
  if (holder !== undefined && !(isSame && (holder.host === host || isOrphan))) return 'conflicting'
  if (holder === undefined && isRemembered(sqlite, host, uuid)) return 'conflicting'
  raiseGeneration(sqlite, name, generation)
  if (isOrphan) sqlite.run('UPDATE vms SET host = :host WHERE name = :name', { host, name })
  if (holder === undefined) insertFound(sqlite, found)
  return isSame && !isOrphan ? 'known' : 'adopted'
}

interface Holder {
  readonly name: string
  readonly uuid: string
  readonly host: string
  readonly revoked_at: number | null
  readonly enrolled_since: number
}

/** Whether keys or backups are kept of such a VM of another host, which is not revoked: they would be this one's to end. */
function isRemembered(sqlite: Sqlite, host: string, uuid: string): boolean {
  return (
    sqlite.get(
      `SELECT 1 FROM (SELECT host FROM disk_keys WHERE uuid = :uuid AND removed_at IS NULL
         UNION SELECT host FROM backup_snapshots WHERE uuid = :uuid AND removed_at IS NULL) AS owner
       JOIN hosts ON hosts.id = owner.host WHERE owner.host != :host AND hosts.revoked_at IS NULL`,
      { host, uuid }
    ) !== undefined
  )
}

interface Found {
  readonly host: string
  readonly summary: VmSummary
  readonly at: number
}

/** The host has seen commands that this store may have forgotten: the next one must be newer. */
function raiseGeneration(sqlite: Sqlite, name: string, generation: number): void {
  sqlite.run(
    `INSERT INTO generations (vm, generation) VALUES (:name, :generation)
     ON CONFLICT (vm) DO UPDATE SET generation = excluded.generation
     WHERE excluded.generation > generations.generation`,
    { name, generation }
  )
}

function insertFound(sqlite: Sqlite, { host, summary, at }: Found): void {
  const { name, uuid, wanted, generation, profile, cpus, memoryBytes } = summary
  sqlite.run(
    `INSERT INTO vms (name, uuid, host, wanted, generation, profile, cpus, memory_bytes, created_at)
     VALUES (:name, :uuid, :host, :wanted, :generation, :profile, :cpus, :memoryBytes, :at)`,
    { name, uuid, host, wanted, generation, profile, cpus, memoryBytes, at }
  )
}
