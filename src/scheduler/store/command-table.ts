// Commands in SQLite, from the request to the recorded result; an operation is a command as people see it.

import { EventEmitter } from 'node:events'
import { type ErrorReport, HostletError } from '../../errors.ts'
import { type CommandResult, clockSkewMsMax } from '../../protocol/command.ts'
import type { AgentMessageOf } from '../../protocol/messages.ts'
import type { VmSummary } from '../../protocol/vm.ts'
import { type CommandRow, commandSelect, toCommandRecord } from './command-row.ts'
import { applyConsequence, applyIntent } from './command-vm.ts'
import { reportVm } from './inventory.ts'
import { page } from './rows.ts'
import type { Sqlite } from './sqlite.ts'
import type {
  CommandFilter,
  CommandRecord,
  CommandStore,
  NewCommand,
  Page,
  Repeatable,
  VmConsequence
} from './store.ts'

/** Overdue commands that one round deals with; the next round takes the rest. */
const overdueMax = 1_000

export class CommandTable implements CommandStore {
  readonly #sqlite: Sqlite
  readonly #changes = new EventEmitter<{ change: [id: string] }>().setMaxListeners(0)

  constructor(sqlite: Sqlite) {
    this.#sqlite = sqlite
  }

  async nextGeneration(vm: string): Promise<number> {
    const row = this.#sqlite.get<{ generation: number }>(
      `INSERT INTO generations (vm, generation) VALUES (:vm, 1)
       ON CONFLICT (vm) DO UPDATE SET generation = generation + 1 RETURNING generation`,
      { vm }
    )
    if (row === undefined) throw new HostletError('E_INTERNAL', 'the store returned no generation')
    return row.generation
  }

  async repeated(repeatable: Repeatable): Promise<CommandRecord | undefined> {
    return this.#repeated(repeatable)
  }

  async add(command: NewCommand): Promise<CommandRecord> {
    const record = this.#sqlite.transaction(() => {
      const earlier = command.repeatable === undefined ? undefined : this.#repeated(command.repeatable)
      return earlier ?? this.#insert(command)
    })
    this.#changed(record.id)
    return record
  }

  async find(id: string): Promise<CommandRecord | undefined> {
    return this.#find(id)
  }

  async list({ vm, host, state }: CommandFilter, limit: number): Promise<Page<CommandRecord>> {
    const rows = this.#sqlite.all<CommandRow>(
      `${commandSelect} WHERE (:vm IS NULL OR vm = :vm) AND (:host IS NULL OR host = :host)
         AND (:state IS NULL OR state = :state)
       ORDER BY sequence DESC LIMIT :limit`,
      { vm: vm ?? null, host: host ?? null, state: state ?? null, limit: limit + 1 }
    )
    return page(rows, limit, toCommandRecord)
  }

  async countOpen(): Promise<number> {
    const row = this.#sqlite.get<{ open: number }>(
      `SELECT count(*) AS open FROM commands WHERE state IN ('waiting', 'sent', 'running')`
    )
    return row?.open ?? 0
  }

  async undelivered(
    host: string,
    { now, after, taken }: { now: number; after: string | undefined; taken: boolean }
  ): Promise<CommandRecord | undefined> {
    const row = this.#sqlite.get<CommandRow>(
      `${commandSelect} WHERE host = :host AND expires_at > :now
         AND (state IN ('waiting', 'sent') OR (:taken AND state = 'running'))
         AND sequence > coalesce((SELECT sequence FROM commands WHERE id = :after), 0)
       ORDER BY sequence LIMIT 1`,
      { host, now, after: after ?? null, taken: taken ? 1 : 0 }
    )
    return row === undefined ? undefined : toCommandRecord(row)
  }

  async sent(id: string, at: number): Promise<void> {
    const changes = this.#sqlite.run(
      `UPDATE commands SET state = 'sent', sent_at = :at WHERE id = :id AND state IN ('waiting', 'sent')`,
      { id, at }
    )
    if (changes > 0) this.#changed(id)
  }

  async acknowledged(id: string, host: string, at: number): Promise<boolean> {
    const changes = this.#sqlite.run(
      `UPDATE commands SET state = 'running', started_at = :at, finished_at = NULL, error = NULL
       WHERE id = :id AND host = :host AND state IN ('waiting', 'sent', 'expired')`,
      { id, host, at }
    )
    if (changes > 0) this.#changed(id)
    return changes > 0
  }

  async progress(host: string, progress: AgentMessageOf<'progress'>): Promise<boolean> {
    const { command, step, stepIndex, steps, ratio, note } = progress
    const changes = this.#sqlite.run(
      `INSERT INTO progress (command, step, step_index, steps, ratio, note)
       SELECT id, :step, :stepIndex, :steps, :ratio, :note FROM commands
         WHERE id = :command AND host = :host AND state IN ('sent', 'running')
       ON CONFLICT (command) DO UPDATE SET step = excluded.step, step_index = excluded.step_index,
         steps = excluded.steps, ratio = excluded.ratio, note = excluded.note`,
      { command, host, step, stepIndex, steps, ratio: ratio ?? null, note: note ?? null }
    )
    if (changes > 0) this.#changed(command)
    return changes > 0
  }

  async refused(
    id: string,
    host: string,
    error: ErrorReport,
    at: number,
    consequence: VmConsequence
  ): Promise<boolean> {
    return this.#end({ id, host, from: ['waiting', 'sent'], state: 'failed', error, at, consequence })
  }

  async finished(
    host: string,
    result: CommandResult,
    at: number,
    consequence: VmConsequence,
    vm: VmSummary | undefined
  ): Promise<boolean> {
    const record = this.#find(result.command)
    if (record === undefined || record.host !== host) return false
    this.#end({
      id: record.id,
      host,
      from: ['waiting', 'sent', 'running', 'expired'],
      state: result.outcome,
      value: result.value,
      error: result.error,
      startedAt: result.startedAt,
      at: result.finishedAt,
      consequence,
      summary: vm === undefined ? undefined : { host, summary: vm, at }
    })
    return true
  }

  async overdue(now: number, abandonAfterMs: number): Promise<readonly CommandRecord[]> {
    const rows = this.#sqlite.all<CommandRow>(
      `${commandSelect} WHERE (state = 'waiting' AND expires_at <= :now) OR (state = 'sent' AND expires_at <= :lenient)
         OR (state = 'running' AND started_at <= :abandoned)
       ORDER BY sequence LIMIT :limit`,
      { now, lenient: now - clockSkewMsMax, abandoned: now - abandonAfterMs, limit: overdueMax }
    )
    return rows.map(toCommandRecord)
  }

  async expired(
    seen: CommandRecord,
    error: ErrorReport,
    at: number,
    consequence: VmConsequence
  ): Promise<boolean> {
    const { id, host, state } = seen
    return this.#end({ id, host, from: [state], state: 'expired', error, at, consequence })
  }

  onChange(listener: (id: string) => void): Disposable {
    this.#changes.on('change', listener)
    return { [Symbol.dispose]: () => void this.#changes.off('change', listener) }
  }

  #end(end: Ending): boolean {
    const ended = this.#sqlite.transaction(() => {
      const record = this.#find(end.id)
      if (record?.host !== end.host || !end.from.includes(record.state)) return false
      this.#writeEnd(end)
      applyConsequence(this.#sqlite, end.id, end.consequence)
      if (end.summary !== undefined) reportVm(this.#sqlite, end.summary)
      return true
    })
    if (ended) this.#changed(end.id)
    return ended
  }

  #writeEnd({ id, state, value, error, startedAt, at }: Ending): void {
    this.#sqlite.run(
      `UPDATE commands SET state = :state, value = :value, error = :error, finished_at = :at, jws = NULL,
         started_at = coalesce(:startedAt, started_at) WHERE id = :id`,
      {
        id,
        state,
        at,
        value: value === undefined ? null : JSON.stringify(value),
        error: error === undefined ? null : JSON.stringify(error),
        startedAt: startedAt ?? null
      }
    )
  }

  #insert(command: NewCommand): CommandRecord {
    const { id, verb, host, vm, jws, createdAt, expiresAt, repeatable } = command
    applyIntent(this.#sqlite, command)
    this.#sqlite.run(
      `INSERT INTO commands (id, verb, host, vm, vm_uuid, jws, state, created_at, expires_at)
       VALUES (:id, :verb, :host, :vm, :uuid, :jws, 'waiting', :createdAt, :expiresAt)`,
      { id, verb, host, vm: vm?.name ?? null, uuid: vm?.uuid ?? null, jws, createdAt, expiresAt }
    )
    if (repeatable !== undefined)
      this.#sqlite.run(
        'INSERT INTO repeatables (scope, key, hash, command) VALUES (:scope, :key, :hash, :id)',
        { ...repeatable, id }
      )
    const record = this.#find(id)
    if (record === undefined) throw new HostletError('E_INTERNAL', 'the store lost a command')
    return record
  }

  #repeated({ scope, key, hash }: Repeatable): CommandRecord | undefined {
    const row = this.#sqlite.get<{ hash: Uint8Array; command: string }>(
      'SELECT hash, command FROM repeatables WHERE scope = :scope AND key = :key',
      { scope, key }
    )
    if (row === undefined) return undefined
    if (hash.equals(row.hash)) return this.#find(row.command)
    throw new HostletError(
      'E_CONFLICT',
      'this Idempotency-Key was used for another request. Take a new key for a new request.'
    )
  }

  #find(id: string): CommandRecord | undefined {
    const row = this.#sqlite.get<CommandRow>(`${commandSelect} WHERE id = :id`, { id })
    return row === undefined ? undefined : toCommandRecord(row)
  }

  #changed(id: string): void {
    this.#changes.emit('change', id)
  }
}

interface Ending {
  readonly id: string
  readonly host: string
  /** Only from these states: what came first stays. */
  readonly from: readonly CommandRecord['state'][]
  readonly state: 'done' | 'failed' | 'expired'
  readonly value?: CommandResult['value'] | undefined
  readonly error?: ErrorReport | undefined
  readonly startedAt?: number
  readonly at: number
  readonly consequence: VmConsequence
  readonly summary?: { host: string; summary: VmSummary; at: number } | undefined
}
