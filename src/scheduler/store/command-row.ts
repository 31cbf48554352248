// A command's row with its progress, and the record made of it.

import { fromJsonOrNull, given } from './rows.ts'
import type { CommandRecord } from './store.ts'

export interface CommandRow {
  readonly id: string
  readonly verb: string
  readonly host: string
  readonly vm: string | null
  readonly vm_uuid: string | null
  readonly about: string | null
  readonly jws: string | null
  readonly state: CommandRecord['state']
  readonly step: string | null
  readonly step_index: number | null
  readonly steps: number | null
  readonly ratio: number | null
  readonly note: string | null
  readonly transfer: string | null
  readonly created_at: number
  readonly expires_at: number
  readonly sent_at: number | null
  readonly started_at: number | null
  readonly finished_at: number | null
  readonly refusals: number
  readonly refusal: string | null
  readonly retry_at: number | null
  readonly value: string | null
  readonly error: string | null
}

export const commandSelect = 'SELECT * FROM commands LEFT JOIN progress ON progress.command = commands.id'

export function toCommandRecord(row: CommandRow): CommandRecord {
  return {
    id: row.id,
    verb: row.verb,
    host: row.host,
    vm: given(row.vm),
    uuid: given(row.vm_uuid),
    about: given(row.about),
    jws: given(row.jws),
    state: row.state,
    step: given(row.step),
    stepIndex: given(row.step_index),
    steps: given(row.steps),
    ratio: given(row.ratio),
    note: given(row.note),
    transfer: fromJsonOrNull(row.transfer),
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    sentAt: given(row.sent_at),
    startedAt: given(row.started_at),
    finishedAt: given(row.finished_at),
    refusals: row.refusals,
    refusal: fromJsonOrNull(row.refusal),
    retryAt: given(row.retry_at),
    value: fromJsonOrNull(row.value),
    error: fromJsonOrNull(row.error)
  }
}
