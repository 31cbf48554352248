// Certificates of what the host erased by itself, until the scheduler has them.

import { asHostletError } from '../../errors.ts'
import type { Logger } from '../../lib/log.ts'
import { unverifiedPayload } from '../../lib/statement.ts'
import type { CommandResult } from '../../protocol/command.ts'
import type { ErasureNotice } from '../../protocol/lifecycle.ts'
import type { AgentDatabase } from '../operations/database.ts'
import type { JournalEntry } from '../operations/journal.ts'
import { eraseVerb } from './retention.ts'

/** Certificates that wait; beyond, the oldest go. */
export const noticesMax = 10_000
/** Of one message. */
export const noticesAtOnceMax = 16

export class ErasureRecords {
  readonly #database: AgentDatabase
  readonly #noticesMax: number

  constructor({ database, noticesMax: max = noticesMax }: { database: AgentDatabase; noticesMax?: number }) {
    this.#database = database
    this.#noticesMax = max
  }

  /** Durable when it returns, in the transaction that it is called in; once however often it is told. */
  keep({ id, certificate }: ErasureNotice): void {
    this.#database.run(
      'INSERT INTO erase_certificates (id, certificate) VALUES (?, ?) ON CONFLICT (id) DO NOTHING',
      id,
      certificate
    )
    this.#database.run(
      `DELETE FROM erase_certificates WHERE sequence <=
         (SELECT sequence FROM erase_certificates ORDER BY sequence DESC LIMIT 1 OFFSET ?)`,
      this.#noticesMax
    )
  }

  /** The oldest that the scheduler has not acknowledged; a bounded number. */
  unacknowledged(): ErasureNotice[] {
    return this.#database
      .all('SELECT id, certificate FROM erase_certificates ORDER BY sequence LIMIT ?', noticesAtOnceMax)
      .map(({ id, certificate }) => ({ id: String(id), certificate: String(certificate) }))
  }

  /** The scheduler has these; they are forgotten. Unknown ones are ignored. */
  acknowledge(ids: readonly string[]): void {
    for (const id of ids) this.#database.run('DELETE FROM erase_certificates WHERE id = ?', id)
  }
}

/** Keeps the certificate of an erase that no command asked for: its result is told to nobody else. True when it was one. */
export function keepErasure(
  records: ErasureRecords,
  { origin, claims }: Pick<JournalEntry, 'origin' | 'claims'>,
  { outcome, value }: CommandResult
): boolean {
  const certificate = value?.certificate
  if (origin === 'command' || claims.verb !== eraseVerb || outcome !== 'done') return false
  if (typeof certificate !== 'string') return false
  const { id } = unverifiedPayload(certificate) as { id: string }
  records.keep({ id, certificate })
  return true
}

/** As with results: what cannot be recorded now is told and acknowledged again. What waits behind it is told next. */
export function acknowledgeErasures(
  ids: readonly string[],
  {
    erasures,
    reports,
    log
  }: { readonly erasures: ErasureRecords; readonly reports: { tellErasures(): void }; readonly log: Logger }
): void {
  try {
    erasures.acknowledge(ids)
    reports.tellErasures()
  } catch (error) {
    log.warn({ error: asHostletError(error) }, 'acknowledgement of erase certificates could not be recorded')
  }
}
