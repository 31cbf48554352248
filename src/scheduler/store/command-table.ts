// Commands in SQLite, from the request to the recorded result; an operation is a command as people see it.

import { EventEmitter } from 'node:events'
import { type ErrorReport, HostletError } from '../../errors.ts'
import { lookingVerbs, operationStatesEnded } from '../../protocol/api.ts'
import { type CommandResult, clockSkewMsMax } from '../../protocol/command.ts'
import type { AgentMessageOf } from '../../protocol/messages.ts'
import { type CommandRow, commandSelect, toCommandRecord } from './command-row.ts'
import { applyConsequence, applyIntent, applyReimaged, applyRestored, applySizes } from './command-vm.ts'
import type { CommandEnd } from './fleet-store.ts'
import { reportResult } from './inventory.ts'
import { page } from './rows.ts'
import type { Sqlite } from './sqlite.ts'
import type {
  CommandFilter,
  CommandRecord,
  CommandStore,
  Courier,
  NewCommand,
  Page,
  Repeatable,
  Told,
  VmConsequence
} from './store.ts'

/** Tells whether approvals came since. */
const newestApproval = '(SELECT max(approvals.sequence) FROM approvals WHERE approvals.command = commands.id)'

/** Open commands of one host; more are refused. */
export const openCommandsMax = 2_000
/** Overdue commands that one round deals with; the next round takes the rest. */
const overdueMax = 1_000

/** Word for word the condition of the index `commands_open_by_host`, or SQLite would not use it. */
const isOpen = `state IN ('waiting', 'sent', 'running')`
const isLook = `verb IN (${lookingVerbs.map((verb) => `'${verb}'`).join(', ')})`

const undelivered = `${commandSelect} WHERE host = :host AND ${isOpen} AND expires_at > :now
  AND CASE state
    WHEN 'waiting' THEN coalesce(retry_at, 0) <= :now AND held_by IS NOT :connection AND NOT EXISTS
      (SELECT 1 FROM commands AS earlier WHERE earlier.vm = commands.vm AND earlier.sequence < commands.sequence
         AND earlier.state = 'waiting' AND earlier.retry_at > :now)
    WHEN 'sent' THEN sent_by IS NOT :connection OR sent_at <= :unansweredBefore
    ELSE taken_by IS NOT :instance AND sent_by IS NOT :connection
  END
  AND :unansweredMax > (SELECT count(*) FROM commands WHERE host = :host AND ${isOpen} AND state = 'sent'
    AND sent_by = :connection AND sent_at > :unansweredBefore)
  ORDER BY sequence LIMIT 1`

export class CommandTable implements CommandStore {
  readonly #sqlite: Sqlite
  readonly #changes = new EventEmitter<{ change: [id: string]; end: [end: CommandEnd] }>().setMaxListeners(0)

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

  async list({ vm, host, state, open, looks }: CommandFilter, limit: number): Promise<Page<CommandRecord>> {
    const rows = this.#sqlite.all<CommandRow>(
      `${commandSelect} WHERE (:vm IS NULL OR vm = :vm OR about = :vm) AND (:host IS NULL OR host = :host)
         AND (:state IS NULL OR state = :state) AND (:open IS NULL OR (${isOpen}) = :open)
         AND (:looks IS NULL OR (${isLook}) = :looks)
       ORDER BY sequence DESC LIMIT :limit`,
      {
        vm: vm ?? null,
        host: host ?? null,
        state: state ?? null,
        open: open === undefined ? null : Number(open),
        looks: looks === undefined ? null : Number(looks),
        limit: limit + 1
      }
    )
    return page(rows, limit, toCommandRecord)
  }

  async countOpen(): Promise<number> {
    const row = this.#sqlite.get<{ open: number }>(`SELECT count(*) AS open FROM commands WHERE ${isOpen}`)
    return row?.open ?? 0
  }

  async openOf(host: string): Promise<readonly CommandRecord[]> {
    return this.#sqlite
      .all<CommandRow>(`${commandSelect} WHERE host = :host AND ${isOpen} ORDER BY sequence`, { host })
      .map(toCommandRecord)
  }

  async undelivered(courier: Courier): Promise<CommandRecord | undefined> {
    const row = this.#sqlite.get<CommandRow>(undelivered, { ...courier })
    return row === undefined ? undefined : toCommandRecord(row)
  }

  async sent(id: string, { connection, now }: Pick<Courier, 'connection' | 'now'>): Promise<boolean> {
    const changes = this.#sqlite.run(
      `UPDATE commands SET state = iif(state = 'running', state, 'sent'), sent_at = :now, sent_by = :connection,
         retry_at = NULL, held_by = NULL, sent_approval = ${newestApproval}
       WHERE id = :id AND ${isOpen}`,
      { id, connection, now }
    )
    if (changes > 0) this.#changed(id)
    return changes > 0
  }

  /** Again, when another run of the agent has it: then only who took it is new. */
  async acknowledged(
    id: string,
    host: string,
    { at, instance }: { at: number; instance: string }
  ): Promise<boolean> {
    const changes = this.#sqlite.run(
      `UPDATE commands SET state = 'running', taken_by = :instance, retry_at = NULL, finished_at = NULL, error = NULL,
         started_at = iif(state = 'running', started_at, :at)
       WHERE id = :id AND host = :host AND (state IN ('waiting', 'sent', 'expired')
         OR state = 'running' AND taken_by IS NOT :instance)`,
      { id, host, at, instance }
    )
    if (changes > 0) this.#changed(id)
    return changes > 0
  }

  async progress(host: string, progress: AgentMessageOf<'progress'>): Promise<boolean> {
    const { command, step, stepIndex, steps, ratio, note, transfer } = progress
    const changes = this.#sqlite.run(
      `INSERT INTO progress (command, step, step_index, steps, ratio, note, transfer)
       SELECT id, :step, :stepIndex, :steps, :ratio, :note, :transfer FROM commands
         WHERE id = :command AND host = :host AND state IN ('sent', 'running')
       ON CONFLICT (command) DO UPDATE SET step = excluded.step, step_index = excluded.step_index,
         steps = excluded.steps, ratio = excluded.ratio, note = excluded.note,
         transfer = excluded.transfer`,
      {
        ...{ command, host, step, stepIndex, steps, ratio: ratio ?? null, note: note ?? null },
        transfer: transfer === undefined ? null : JSON.stringify(transfer)
      }
    )
    if (changes > 0) this.#changed(command)
    return changes > 0
  }

  async postponed({ id, host }: CommandRecord, refusal: ErrorReport, retryAt: number): Promise<boolean> {
    const changes = this.#sqlite.run(
      `UPDATE commands SET state = 'waiting', refusals = refusals + 1, refusal = :refusal, retry_at = :retryAt
       WHERE id = :id AND host = :host AND state IN ('waiting', 'sent')`,
      { id, host, refusal: JSON.stringify(refusal), retryAt }
    )
    if (changes > 0) this.#changed(id)
    return changes > 0
  }

  async held({ id, host }: CommandRecord, refusal: ErrorReport, connection: string): Promise<boolean> {
    const changes = this.#sqlite.run(
      `UPDATE commands SET state = 'waiting', refusals = refusals + 1, refusal = :refusal, retry_at = NULL,
         held_by = iif(${newestApproval} IS sent_approval, :connection, NULL)
       WHERE id = :id AND host = :host AND state IN ('waiting', 'sent')`,
      { id, host, refusal: JSON.stringify(refusal), connection }
    )
    if (changes > 0) this.#changed(id)
    return changes > 0
  }

  async failed(
    { id, host, state }: CommandRecord,
    error: ErrorReport,
    at: number,
    consequence: VmConsequence
  ): Promise<boolean> {
    if (operationStatesEnded.includes(state)) return false
    return this.#end({ id, host, from: [state], state: 'failed', error, at, consequence })
  }

  async finished(
    host: string,
    result: CommandResult,
    at: number,
    consequence: VmConsequence,
    told: Told
  ): Promise<boolean> {
    return this.#end({
      id: result.command,
      host,
      from: ['waiting', 'sent', 'running', 'expired'],
      state: result.outcome,
      value: result.value,
      error: result.error,
      startedAt: result.startedAt,
      at: result.finishedAt,
      consequence,
      told: { ...told, host, at, startedAt: result.startedAt }
    })
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

  onEnd(listener: (end: CommandEnd) => void): Disposable {
    this.#changes.on('end', listener)
    return { [Symbol.dispose]: () => void this.#changes.off('end', listener) }
  }

  #end(end: Ending): boolean {
    const ended = this.#sqlite.transaction(() => {
      const record = this.#find(end.id)
      if (record?.host !== end.host || !end.from.includes(record.state)) return undefined
      this.#writeEnd(end)
      applyConsequence(this.#sqlite, end.id, end.consequence)
      if (end.told !== undefined) reportResult(this.#sqlite, end.told)
      if (end.told?.vm !== undefined) applyRestored(this.#sqlite, end.id, end.told.vm)
      if (end.told?.sizes !== undefined) applySizes(this.#sqlite, end.id, end.told.sizes)
      if (end.told?.image !== undefined) applyReimaged(this.#sqlite, end.id, end.told.image)
      return record
    })
    if (ended === undefined) return false
    this.#changed(end.id)
    const { verb, createdAt } = ended
    const { id, state: outcome, error, at: endedAt } = end
    this.#changes.emit('end', { id, verb, outcome, error, createdAt, endedAt })
    return true
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
    const { id, verb, host, vm, about, jws, createdAt, expiresAt, placement, repeatable } = command
    this.#assertTakes(host)
    applyIntent(this.#sqlite, command)
    this.#sqlite.run(
      `INSERT INTO commands (id, verb, host, vm, vm_uuid, about, jws, state, created_at, expires_at)
       VALUES (:id, :verb, :host, :vm, :uuid, :about, :jws, 'waiting', :createdAt, :expiresAt)`,
      {
        ...{ id, verb, host, vm: vm?.name ?? null, uuid: vm?.uuid ?? null, about: about ?? null },
        ...{ jws, createdAt, expiresAt }
      }
    )
    if (placement !== undefined)
      this.#sqlite.run('INSERT INTO placements (command, explanation) VALUES (:id, :explanation)', {
        id,
        explanation: JSON.stringify(placement)
      })
    if (repeatable !== undefined)
      this.#sqlite.run(
        'INSERT INTO repeatables (scope, key, hash, command) VALUES (:scope, :key, :hash, :id)',
        { ...repeatable, id }
      )
    const record = this.#find(id)
    if (record === undefined) throw new HostletError('E_INTERNAL', 'the store lost a command')
    return record
  }

  #assertTakes(host: string): void {
    const row = this.#sqlite.get<{ open: number; revoked_at: number | null }>(
      `SELECT revoked_at, (SELECT count(*) FROM commands WHERE host = :host AND ${isOpen}) AS open
       FROM hosts WHERE id = :host`,
      { host }
    )
    if (row !== undefined && row.revoked_at !== null)
      throw new HostletError(
        'E_CONFLICT',
        `host ${host} is revoked: it takes no commands. Enroll the machine anew with "hostlet host token", or, if it is gone for good, forget its VMs with "hostlet vm forget --host ${host}".`
      )
    if ((row?.open ?? 0) < openCommandsMax) return
    throw new HostletError(
      'E_BUSY',
      `${openCommandsMax} operations of host ${host} are open already. See "hostlet op ls --host ${host}".`
    )
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
  readonly told?: Parameters<typeof reportResult>[1]
}
