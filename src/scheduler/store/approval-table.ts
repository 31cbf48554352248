// Approvals in SQLite.

import { HostletError } from '../../errors.ts'
import { approvalsMax } from '../../protocol/approval.ts'
import type { ApprovalStore, KeptApproval } from './approval-store.ts'
import type { Sqlite } from './sqlite.ts'

interface ApprovalRow {
  readonly approver: string
  readonly jws: string
  readonly received_at: number
  readonly received_from: string
}

export class ApprovalTable implements ApprovalStore {
  readonly #sqlite: Sqlite

  constructor(sqlite: Sqlite) {
    this.#sqlite = sqlite
  }

  async add(command: string, approval: KeptApproval): Promise<boolean> {
    return this.#sqlite.transaction(() => this.#add(command, approval))
  }

  async of(command: string): Promise<readonly KeptApproval[]> {
    return this.#sqlite
      .all<ApprovalRow>('SELECT * FROM approvals WHERE command = :command ORDER BY sequence', { command })
      .map(({ approver, jws, received_at: receivedAt, received_from: receivedFrom }) => ({
        ...{ approver, jws, receivedAt, receivedFrom }
      }))
  }

  #add(command: string, { approver, jws, receivedAt, receivedFrom }: KeptApproval): boolean {
    const open = this.#sqlite.run(
      `UPDATE commands SET held_by = NULL WHERE id = :command AND state IN ('waiting', 'sent', 'running')`,
      { command }
    )
    if (open === 0) return false
    this.#sqlite.run('DELETE FROM approvals WHERE command = :command AND approver = :approver', {
      ...{ command, approver }
    })
    const row = this.#sqlite.get<{ others: number }>(
      'SELECT count(*) AS others FROM approvals WHERE command = :command',
      { command }
    )
    if ((row?.others ?? 0) >= approvalsMax)
      throw new HostletError(
        'E_CONFLICT',
        `${approvalsMax} approvals of operation ${command} are here already. See "hostlet op show ${command}" for whose they are.`
      )
    this.#sqlite.run(
      `INSERT INTO approvals (command, approver, jws, received_at, received_from)
       VALUES (:command, :approver, :jws, :receivedAt, :receivedFrom)`,
      { command, approver, jws, receivedAt, receivedFrom }
    )
    return true
  }
}
