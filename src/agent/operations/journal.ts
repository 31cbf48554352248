// The truth about commands: what was accepted, how far it is, how it ended. What a method changes is on the disk once `durable` has resolved.

import type { SQLOutputValue } from 'node:sqlite'
import { type ErrorReport, HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { backupOrigins } from '../../protocol/backup.ts'
import { type CommandClaims, type CommandResult, clockSkewMsMax } from '../../protocol/command.ts'
import { AgentDatabase, type DatabaseOptions } from './database.ts'
import type { StepNotes } from './verb.ts'

/** Notes of one operation, as JSON. */
export const notesCharactersMax = 256 * 1024
/** Acknowledged results kept to answer repeated commands; the oldest go first. */
export const acknowledgedMax = 10_000
/** Results are resent in pieces of this many. */
export const resendMax = 256
/** Longest time between a command's making and its expiry; what is older than this cannot come again. */
export const commandLifeMsMax = 7 * 24 * 3_600_000

export const journalStates = ['accepted', 'running', 'undoing', 'done', 'failed'] as const
export type OperationOrigin = (typeof backupOrigins)[number]
export type JournalState = (typeof journalStates)[number]

export interface JournalEntry {
  readonly id: string
  /** SHA-256 of the signed payload: tells a repeated command from another one under its id. */
  readonly digest: string
  /** Emptied of its arguments once the operation has ended: they may hold what nobody needs to keep. */
  readonly claims: CommandClaims
  readonly state: JournalState
  /** How often an agent has begun or resumed it. */
  readonly attempts: number
  /** Index of the step that is next, or that was under way. */
  readonly step: number
  readonly notes: StepNotes
  /** Why it is being undone. */
  readonly failure: ErrorReport | undefined
  readonly result: CommandResult | undefined
  readonly acceptedAt: number
  readonly startedAt: number | undefined
  readonly finishedAt: number | undefined
  /** Who asked for it. What the agent does by itself has no signature, no generation, and no result for the scheduler. */
  readonly origin: OperationOrigin
  /** It is to be cancelled. */
  readonly cancelled: boolean
}

export interface JournalOptions extends DatabaseOptions {
  readonly clock: Pick<Clock, 'now'>
  readonly keepMax?: number
}

export class Journal implements Disposable, AsyncDisposable {
  /** Shared with what has to be written in one transaction with an operation's end. */
  readonly database: AgentDatabase
  readonly #clock: Pick<Clock, 'now'>
  readonly #keepMax: number

  /**
   * Opens or makes the file (0600). Throws E_CORRUPT when it is damaged, E_UNSUPPORTED when a newer agent made it, E_BUSY
   * when another agent has it. `keepMax` bounds the acknowledged results that stay.
   */
  constructor(path: string, { clock, keepMax = acknowledgedMax, ...options }: JournalOptions) {
    this.#clock = clock
    this.#keepMax = keepMax
    this.database = new AgentDatabase(path, options)
  }

  /** Why the journal takes nothing more: the disk did not take what was written. */
  get fault(): HostletError | undefined {
    return this.database.fault
  }

  /** Resolves when the disk has all that was written before the call: before then nobody is promised anything. */
  durable(): Promise<void> {
    return this.database.durable()
  }

  find(id: string): JournalEntry | undefined {
    const row = this.database.get('SELECT * FROM commands WHERE id = ?', id)
    return row === undefined ? undefined : entryOf(row)
  }

  /** The greatest generation that any command of this VM had. */
  generationOf(uuid: string): number | undefined {
    const row = this.database.get('SELECT generation FROM generations WHERE uuid = ?', uuid)
    return row === undefined ? undefined : Number(row.generation)
  }

  /**
   * Records a command and its VM's generation, both or neither. Throws E_STALE when the generation is not newer, or when it
   * may be one that was carried out and is forgotten, E_CONFLICT when the id exists, E_CAPACITY when the disk is full; then
   * nothing is recorded. What the agent does by itself overtakes no command: its generation counts for nothing.
   */
  accept(claims: CommandClaims, digest: string, origin: OperationOrigin = 'command'): JournalEntry {
    this.database.transaction(() => {
      if (origin === 'command') {
        this.refuseForgotten(claims)
        this.#raiseGeneration(claims)
      }
      this.#insert(claims, digest, origin)
    })
    const entry = this.find(claims.id)
    if (entry === undefined) throw new HostletError('E_INTERNAL', `command ${claims.id} was not recorded`)
    return entry
  }

  begin(id: string): void {
    this.database.run(
      `UPDATE commands SET state = CASE state WHEN 'accepted' THEN 'running' ELSE state END,
         attempts = attempts + 1, started_at = coalesce(started_at, ?) WHERE id = ?`,
      this.#clock.now(),
      id
    )
  }

  /** The step before `step` is applied; `notes` are all that the steps left so far. */
  checkpoint(id: string, step: number, notes: StepNotes): void {
    this.database.run('UPDATE commands SET step = ?, notes = ? WHERE id = ?', step, boundedNotes(notes), id)
  }

  /** From here on the operation only goes back. */
  turnBack(id: string, failure: ErrorReport): void {
    this.database.run(
      "UPDATE commands SET state = 'undoing', failure = ? WHERE id = ?",
      JSON.stringify(failure),
      id
    )
  }

  /** From here on the operation is not begun any more, and undone where it was. No effect when it has ended. */
  cancel(id: string): void {
    this.database.run('UPDATE commands SET cancelled = 1 WHERE id = ? AND result IS NULL', id)
  }

  /** The arguments are forgotten with it. What `also` writes is recorded with it, or neither is. */
  finish(result: CommandResult, also: () => void = () => undefined): void {
    this.database.transaction(() => {
      this.#finish(result)
      also()
    })
  }

  #finish(result: CommandResult): void {
    this.database.run(
      `UPDATE commands SET state = ?, result = ?, finished_at = ?, notes = '{}',
         acknowledged = CASE origin WHEN 'command' THEN acknowledged ELSE 1 END,
         claims = json_set(claims, '$.arguments', json('{}')) WHERE id = ?`,
      result.outcome,
      JSON.stringify(result),
      result.finishedAt,
      result.command
    )
  }

  /** The scheduler has the result. No effect when there is no such command, or it has not ended. */
  acknowledge(id: string): void {
    this.database.run('UPDATE commands SET acknowledged = 1 WHERE id = ? AND result IS NOT NULL', id)
  }

  /** Operations that have not ended, in the order in which they were accepted. */
  unfinished(): JournalEntry[] {
    return this.database
      .all("SELECT * FROM commands WHERE state IN ('accepted', 'running', 'undoing') ORDER BY sequence")
      .map(entryOf)
  }

  /** The newest operations on a VM, the newest first: those that ended too, as far as they are kept. */
  ofVm(vm: string, limit: number): JournalEntry[] {
    return this.database
      .all(
        "SELECT * FROM commands WHERE json_extract(claims, '$.subject.vm') = ? ORDER BY sequence DESC LIMIT ?",
        vm,
        limit
      )
      .map(entryOf)
  }

  /** The oldest results that the scheduler has not acknowledged. */
  unacknowledged(): CommandResult[] {
    return this.database
      .all(
        'SELECT result FROM commands WHERE acknowledged = 0 AND result IS NOT NULL ORDER BY sequence LIMIT ?',
        resendMax
      )
      .map(({ result }) => JSON.parse(String(result)))
  }

  /** Forgets acknowledged results that cannot be asked for again, and generations of VMs that are not among `living`. */
  prune(living: ReadonlySet<string>): void {
    // A VM's generation goes by when the command came, which may be as much later than its making as clocks may differ.
    const before = this.#clock.now() - commandLifeMsMax - 2 * clockSkewMsMax
    this.database.transaction(() => {
      this.database.run(
        'DELETE FROM commands WHERE acknowledged = 1 AND finished_at < ? AND expires_at < ?',
        before,
        before
      )
      this.#forgetBeyondBound()
      for (const { uuid } of this.database.all('SELECT uuid FROM generations WHERE changed_at < ?', before))
        if (!living.has(String(uuid)))
          this.database.run('DELETE FROM generations WHERE uuid = ?', String(uuid))
    })
  }

  /** What has no generation could be carried out again within its life: from the newest of them on, all older are refused. */
  #forgetBeyondBound(): void {
    const beyond = `acknowledged = 1 AND sequence <=
      (SELECT sequence FROM commands WHERE acknowledged = 1 ORDER BY sequence DESC LIMIT 1 OFFSET ?)`
    this.database.run(
      `INSERT INTO forgotten (id, issued_at)
         SELECT 1, max(json_extract(claims, '$.issuedAt')) FROM commands
         WHERE ${beyond} AND origin = 'command' AND json_extract(claims, '$.subject') IS NULL HAVING count(*) > 0
       ON CONFLICT (id) DO UPDATE SET issued_at = max(issued_at, excluded.issued_at)`,
      this.#keepMax
    )
    this.database.run(`DELETE FROM commands WHERE ${beyond}`, this.#keepMax)
  }

  /** Throws E_STALE for a command without a VM that may have been carried out and is forgotten. */
  refuseForgotten({ subject, issuedAt }: CommandClaims): void {
    if (subject !== undefined) return
    const row = this.database.get('SELECT issued_at FROM forgotten')
    if (row === undefined || issuedAt > Number(row.issued_at)) return
    throw new HostletError(
      'E_STALE',
      'the command is as old as others that were carried out, and of which this host keeps no record any more: it may be one of them. Ask anew.',
      { details: { reason: 'forgotten', issuedAt } }
    )
  }

  /** Reads one row: the agent's self-check. Throws what a command would meet. */
  probe(): void {
    this.database.get('SELECT count(*) AS running FROM commands WHERE state = ?', 'running')
  }

  [Symbol.dispose](): void {
    this.database[Symbol.dispose]()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.database[Symbol.asyncDispose]()
  }

  #raiseGeneration({ subject }: CommandClaims): void {
    if (subject === undefined) return
    const known = this.generationOf(subject.uuid)
    if (known !== undefined && known >= subject.generation) throw staleCommand(subject, known)
    this.database.run(
      `INSERT INTO generations (uuid, name, generation, changed_at) VALUES (?, ?, ?, ?)
         ON CONFLICT (uuid) DO UPDATE SET name = excluded.name, generation = excluded.generation,
           changed_at = excluded.changed_at`,
      subject.uuid,
      subject.vm,
      subject.generation,
      this.#clock.now()
    )
  }

  #insert(claims: CommandClaims, digest: string, origin: OperationOrigin): void {
    if (this.database.get('SELECT 1 FROM commands WHERE id = ?', claims.id) !== undefined)
      throw new HostletError('E_CONFLICT', `command ${claims.id} is recorded already`)
    this.database.run(
      `INSERT INTO commands (id, digest, verb, claims, expires_at, state, accepted_at, origin)
         VALUES (?, ?, ?, ?, ?, 'accepted', ?, ?)`,
      claims.id,
      digest,
      claims.verb,
      JSON.stringify(claims),
      claims.expiresAt,
      this.#clock.now(),
      origin
    )
  }
}

/** The refusal of a command that a newer one has overtaken. */
export function staleCommand(subject: { vm: string; generation: number }, known: number): HostletError {
  return new HostletError(
    'E_STALE',
    `the command is generation ${subject.generation} of VM ${subject.vm}, generation ${known} was taken already. Look at the VM's state and ask anew.`,
    { details: { generation: subject.generation, known } }
  )
}

function boundedNotes(notes: StepNotes): string {
  const text = JSON.stringify(notes)
  if (text.length <= notesCharactersMax) return text
  throw new HostletError('E_INTERNAL', `the notes of a step are longer than ${notesCharactersMax} characters`)
}

function entryOf(row: Record<string, SQLOutputValue>): JournalEntry {
  return {
    id: String(row.id),
    digest: String(row.digest),
    claims: JSON.parse(String(row.claims)),
    state: String(row.state) as JournalState,
    attempts: Number(row.attempts),
    step: Number(row.step),
    notes: JSON.parse(String(row.notes)),
    failure: row.failure === null ? undefined : JSON.parse(String(row.failure)),
    result: row.result === null ? undefined : JSON.parse(String(row.result)),
    acceptedAt: Number(row.accepted_at),
    startedAt: row.started_at === null ? undefined : Number(row.started_at),
    finishedAt: row.finished_at === null ? undefined : Number(row.finished_at),
    origin: String(row.origin) as OperationOrigin,
    cancelled: row.cancelled === 1
  }
}
