// Second factors in SQLite: what was used and how often it failed is promised, so that no restart gives it back.

import { HostletError } from '../../errors.ts'
import { given } from './rows.ts'
import type { AttemptRules, SecondFactorRecord, SecondFactorStore } from './second-factor-store.ts'
import type { SessionTable } from './session-table.ts'
import type { Sqlite } from './sqlite.ts'

interface FactorRow {
  readonly key: string
  readonly sealed: Uint8Array
  readonly begun_at: number
  readonly confirmed_at: number | null
  readonly failures: number
  readonly locked_until: number | null
  readonly codes: number
}

export class SecondFactorTable implements SecondFactorStore {
  readonly #sqlite: Sqlite
  readonly #sessions: SessionTable

  constructor(sqlite: Sqlite, sessions: SessionTable) {
    this.#sqlite = sqlite
    this.#sessions = sessions
  }

  async find(key: string): Promise<SecondFactorRecord | undefined> {
    const row = this.#row(key)
    return row === undefined ? undefined : toRecord(row)
  }

  async begin({ key, sealed, begunAt }: Parameters<SecondFactorStore['begin']>[0]): Promise<void> {
    const begun = this.#sqlite.run(
      `INSERT INTO second_factors (key, sealed, begun_at) VALUES (:key, :sealed, :begunAt)
       ON CONFLICT (key) DO UPDATE SET sealed = excluded.sealed, begun_at = excluded.begun_at
       WHERE confirmed_at IS NULL`,
      { key, sealed, begunAt }
    )
    if (begun === 0)
      throw new HostletError(
        'E_CONFLICT',
        `the API key ${key} has a second factor. Have an admin remove it first: hostlet key second-factor ${key} --remove.`
      )
  }

  async confirm(
    key: string,
    { at, step, recoveryHashes }: { at: number; step: number; recoveryHashes: readonly Buffer[] }
  ): Promise<boolean> {
    return this.#sqlite.transaction(() => {
      const confirmed = this.#sqlite.run(
        `UPDATE second_factors SET confirmed_at = :at, last_step = :step, failures = 0, locked_until = NULL
         WHERE key = :key AND confirmed_at IS NULL`,
        { key, at, step }
      )
      if (confirmed === 0) return false
      this.#putRecoveryCodes(key, recoveryHashes)
      this.#sessions.removeBelowNow(key, 2)
      return true
    })
  }

  async attempt(key: string, { now, lockMs, lockMsMax }: AttemptRules): Promise<number | undefined> {
    return this.#sqlite.transaction(() => {
      const { failures = 0, locked_until: until = null } = this.#row(key) ?? {}
      if (until !== null && until > now && until - now <= lockMsMax) return until
      const lock = lockMs(failures + 1)
      this.#sqlite.run(
        'UPDATE second_factors SET failures = failures + 1, locked_until = :until WHERE key = :key',
        { key, until: lock === 0 ? null : now + lock }
      )
      return undefined
    })
  }

  async useStep(key: string, step: number): Promise<boolean> {
    return (
      this.#sqlite.run(
        `UPDATE second_factors SET last_step = :step, failures = 0, locked_until = NULL
         WHERE key = :key AND confirmed_at IS NOT NULL AND (last_step IS NULL OR last_step < :step)`,
        { key, step }
      ) > 0
    )
  }

  async useRecoveryCode(key: string, hash: Buffer): Promise<boolean> {
    return this.#sqlite.run('DELETE FROM recovery_codes WHERE key = :key AND hash = :hash', { key, hash }) > 0
  }

  async replaceRecoveryCodes(key: string, hashes: readonly Buffer[]): Promise<void> {
    this.#sqlite.transaction(() => this.#putRecoveryCodes(key, hashes))
  }

  async remove(key: string): Promise<boolean> {
    return this.#sqlite.transaction(() => {
      this.#sessions.removeBelowNow(key, 3)
      return this.#sqlite.run('DELETE FROM second_factors WHERE key = :key', { key }) > 0
    })
  }

  #row(key: string): FactorRow | undefined {
    return this.#sqlite.get<FactorRow>(
      `SELECT second_factors.*, (SELECT count(*) FROM recovery_codes WHERE recovery_codes.key = :key) AS codes
       FROM second_factors WHERE second_factors.key = :key`,
      { key }
    )
  }

  #putRecoveryCodes(key: string, hashes: readonly Buffer[]): void {
    this.#sqlite.run('DELETE FROM recovery_codes WHERE key = :key', { key })
    for (const hash of hashes)
      this.#sqlite.run('INSERT INTO recovery_codes (key, hash) VALUES (:key, :hash)', { key, hash })
  }
}

function toRecord(row: FactorRow): SecondFactorRecord {
  return {
    key: row.key,
    sealed: Buffer.from(row.sealed),
    begunAt: row.begun_at,
    confirmedAt: given(row.confirmed_at),
    recoveryCodes: row.codes
  }
}
