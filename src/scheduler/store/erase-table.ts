// Certificates of erases in SQLite.

import { dropVm } from './command-vm.ts'
import type { EraseStore, Erasure, KeptErasure } from './erase-store.ts'
import { given } from './rows.ts'
import type { Sqlite } from './sqlite.ts'

interface ErasureRow {
  readonly certificate: string
  readonly fault: string | null
  readonly received_at: number
}

export class EraseTable implements EraseStore {
  readonly #sqlite: Sqlite

  constructor(sqlite: Sqlite) {
    this.#sqlite = sqlite
  }

  async keep(host: string, erasure: Erasure, at: number): Promise<boolean> {
    return this.#sqlite.transaction(() => this.#keep(host, erasure, at))
  }

  async find(vm: string): Promise<KeptErasure | undefined> {
    const row = this.#sqlite.get<ErasureRow>(
      'SELECT * FROM erase_certificates WHERE uuid = :vm OR vm = :vm ORDER BY sequence DESC LIMIT 1',
      { vm }
    )
    return row && { certificate: row.certificate, fault: given(row.fault), receivedAt: row.received_at }
  }

  #keep(host: string, { certificate, claims, fault }: Erasure, at: number): boolean {
    const { id, vm, uuid, operation, finishedAt, volumes } = claims
    const owner = this.#ownerOf(uuid)
    if (owner !== undefined && owner.host !== host) return false
    this.#sqlite.run(
      `INSERT INTO erase_certificates (id, vm, uuid, host, operation, erased_at, received_at, certificate, fault)
       VALUES (:id, :vm, :uuid, :host, :operation, :finishedAt, :at, :certificate, :fault) ON CONFLICT (id) DO NOTHING`,
      { ...{ id, vm, uuid, host, operation, finishedAt, at, certificate }, fault: fault ?? null }
    )
    const isWhole = volumes.every(({ outcome }) => outcome !== 'failed')
    // What a command erased goes with the end of its operation.
    if (fault === undefined && isWhole && !this.#isCommand(operation))
      dropVm(this.#sqlite, { name: vm, host, uuid })
    return true
  }

  #ownerOf(uuid: string): { host: string } | undefined {
    return this.#sqlite.get<{ host: string }>(
      `SELECT host FROM (SELECT host, 1 AS rank, 0 AS at FROM vms WHERE uuid = :uuid
         UNION ALL SELECT host, 2, sequence FROM erase_certificates WHERE uuid = :uuid AND fault IS NULL
         UNION ALL SELECT host, 3, taken_at FROM backup_snapshots WHERE uuid = :uuid)
       ORDER BY rank, at DESC LIMIT 1`,
      { uuid }
    )
  }

  #isCommand(operation: string): boolean {
    return this.#sqlite.get('SELECT 1 FROM commands WHERE id = :operation', { operation }) !== undefined
  }
}
