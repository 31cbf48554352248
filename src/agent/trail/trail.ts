// The audit trail of this host, as the rest of the agent sees it: notes of commands, records of its own, and their receipts.

import { join } from 'node:path'
import { asHostletError, type HostletError } from '../../errors.ts'
import type { EntryFields, Link } from '../../lib/chain.ts'
import type { Clock } from '../../lib/clock.ts'
import { FloodGate, type Held } from '../../lib/flood-gate.ts'
import type { Logger } from '../../lib/log.ts'
import { release } from '../../lib/release.ts'
import type { CommandKey } from '../../protocol/enrollment.ts'
import type { AgentMessage } from '../../protocol/messages.ts'
import type { CommandNote, CommandTrail } from '../operations/gate.ts'
import type { TrailFault } from './check-chain.ts'
import { notedCommand } from './command-notes.ts'
import { trailFiles } from './files.ts'
import { LocalActionCollector } from './local-actions.ts'
import { keptReceipt, type ReceiptAnswer, Receipts } from './receipts.ts'
import { type Recovered, recoverTrail, type TornEnd } from './recover.ts'
import { pruneTrail } from './retention.ts'
import { localDirectoryName, trailDirectory } from './segments.ts'
import { TrailWriter } from './writer.ts'

/** Refusals of one minute that are written down one by one: of what nobody knows the sender of, and of a known signer. */
export const unknownRefusalsMax = 20
export const signedRefusalsMax = 600
/** Looks of one signer that are written down one by one in that time. */
export const looksMax = 60
export const refusalWindowMs = 60_000
/** Looks that are only counted and have not ended; more than can be open at once. */
const countedMax = 1_024
const signersMax = 16
/** Records that wait for a disk that refuses them; more are only counted. */
export const missedMax = 256
export const missedRetryMs = 5_000

export interface TrailIdentity {
  readonly hostId: string
  readonly commandKeys: readonly CommandKey[]
}

export interface TrailOptions {
  readonly stateDirectory: string
  /** As it is now: renewal and rotation replace it. */
  identity(): TrailIdentity
  /** Of all files of the trail; the oldest go. All stay without it. */
  readonly keepBytes?: number
  readonly clock: Clock
  readonly log: Logger
}

export class Trail implements CommandTrail, AsyncDisposable {
  readonly #options: TrailOptions
  readonly #writer: TrailWriter
  readonly #receipts: Receipts
  readonly #local: LocalActionCollector
  readonly #unknown: FloodGate
  readonly #signed: FloodGate
  readonly #looks: FloodGate
  /** Ids of those of which the end is not written down either. */
  readonly #counted = new Set<string>()
  #prunedEarly: string | undefined
  #fault: string | undefined
  #trusted = ''
  #missed: { kind: string; fields: EntryFields }[] = []
  #lost = 0
  #retry: Disposable | undefined
  #isOpen = true

  private constructor(options: TrailOptions, recovered: Recovered) {
    const { clock, log, identity } = options
    const directory = trailDirectory(options.stateDirectory)
    this.#options = options
    this.#writer = new TrailWriter({
      ...{ clock, tail: recovered.tail, segment: recovered.segment, files: trailFiles(directory) },
      onSegment: () => {
        // Each file names the keys that its receipts are checked with: those before it may go.
        this.#trusted = ''
        this.noteIdentity()
        void this.#prune()
      },
      onDurable: (entries) => this.#receipts.written(entries)
    })
    const append = (kind: string, fields: EntryFields) => this.#writer.append(kind, fields)
    this.#receipts = new Receipts(
      {
        ...{ directory, clock, log, append },
        hostId: () => identity().hostId,
        keys: () => identity().commandKeys,
        tail: () => this.#writer.tail
      },
      recovered.entries
    )
    this.#local = new LocalActionCollector({
      ...{ clock, log, append },
      directory: join(directory, localDirectoryName)
    })
    const gate = { clock, windowMs: refusalWindowMs, keysMax: signersMax }
    const onOver = (held: Held) => this.#tellHeld(held)
    this.#unknown = new FloodGate({ ...gate, passMax: unknownRefusalsMax, onOver })
    this.#signed = new FloodGate({ ...gate, passMax: signedRefusalsMax, onOver })
    const onLooks = ({ key: of, count, since }: Held) =>
      this.record('command.looks-more', { of, count, since })
    this.#looks = new FloodGate({ ...gate, passMax: looksMax, onOver: onLooks })
  }

  /**
   * Opens the trail or begins one, and writes down how the last run ended. A disk that is full keeps no agent from starting:
   * commands are refused until there is room. Throws E_UNAVAILABLE when the directory cannot be used.
   */
  static async open(options: TrailOptions): Promise<Trail> {
    const directory = trailDirectory(options.stateDirectory)
    const recovered = await recoverTrail(directory)
    const trail = new Trail(options, recovered)
    await trail.#begin(recovered)
    return trail
  }

  /** The last entry that is on disk. */
  get tail(): Link {
    return this.#writer.tail
  }

  /** What an operator should know of it, in a sentence. */
  fault(): string | undefined {
    const { fault } = this.#writer
    if (fault !== undefined) return `commands are refused: ${fault.message}`
    const refusal = this.#receipts.refusal
    if (refusal !== undefined)
      return `the scheduler countersigns the audit trail no more: ${refusal.message} See "hostlet audit verify --scheduler".`
    return this.#fault ?? this.#prunedEarly
  }

  async note(note: CommandNote): Promise<void> {
    if (note.kind === 'refused' && !this.#passes(note)) return
    if (this.#isOnlyCounted(note)) return
    const { kind, fields } = notedCommand(note)
    await this.#writer.append(kind, fields)
  }

  /**
   * Writes down what the agent did or met besides commands. Never throws: what the disk refuses is written once it takes it,
   * and what is too much to wait is counted there.
   */
  record(kind: string, fields: EntryFields = {}): void {
    void this.#record(kind, fields)
  }

  /** The identity may have changed: the keys that are trusted from now on are in the trail before anything they sign. */
  noteIdentity(): void {
    const { commandKeys } = this.#options.identity()
    const keys = commandKeys.map(({ kty, crv, kid, x }) => ({ kty, crv, kid, x }))
    const text = JSON.stringify(keys)
    if (text === this.#trusted) return
    this.#trusted = text
    this.record('trust', { keys })
  }

  /** The scheduler has welcomed this agent. */
  online(post: (message: AgentMessage) => void): void {
    this.#receipts.online(post)
  }

  async takeAnswer(message: ReceiptAnswer): Promise<void> {
    this.noteIdentity()
    await this.#receipts.take(message)
  }

  /** Takes into the trail what the command line did to this host just now. */
  look(): Promise<void> {
    return this.#local.look()
  }

  /** Everything that waits is on disk, or could not be written, when it resolves. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isOpen) return
    this.#isOpen = false
    await this.#local[Symbol.asyncDispose]()
    this.#unknown.flush()
    this.#signed.flush()
    this.#looks.flush()
    this.#receipts[Symbol.dispose]()
    this.#retry?.[Symbol.dispose]()
    await this.#record('agent.stopped', {})
    await this.#writer.close()
  }

  async #begin({ entries, torn, fault, tail, settle }: Recovered): Promise<void> {
    const { hostId, commandKeys } = this.#options.identity()
    const last = entries.findLast(({ kind }) => kind !== 'receipt' && kind !== 'local')
    if (torn !== undefined) await this.#noteTorn(torn, settle)
    const cut = faultOfReceipt(keptReceipt(trailDirectory(this.#options.stateDirectory), commandKeys), {
      tail,
      entries
    })
    for (const found of [fault, cut]) if (found !== undefined) await this.#noteFault(found)
    const previous = last === undefined ? 'none' : last.kind === 'agent.stopped' ? 'clean' : 'unclean'
    await this.#record('agent.started', { host: hostId, version: release, previous })
    const trusted = entries.findLast(({ kind }) => kind === 'trust')?.keys
    this.#trusted = trusted === undefined ? '' : JSON.stringify(trusted)
    this.noteIdentity()
    await this.#prune()
    await this.#local.start()
  }

  async #prune(): Promise<void> {
    const { keepBytes, clock, log, stateDirectory } = this.#options
    if (keepBytes === undefined) return
    try {
      const append = (kind: string, fields: EntryFields) => this.#writer.append(kind, fields)
      const directory = trailDirectory(stateDirectory)
      const { early } = await pruneTrail({ directory, keepBytes, now: clock.now(), append })
      if (early && this.#prunedEarly === undefined)
        log.error({ keepBytes }, 'young files of the audit trail had to go')
      this.#prunedEarly = early ? prunedEarly : undefined
    } catch (error) {
      log.warn({ error: asHostletError(error) }, 'old files of the audit trail could not be removed')
    }
  }

  async #noteTorn(torn: TornEnd, settle: Recovered['settle']): Promise<void> {
    const { log } = this.#options
    log.warn({ ...torn }, 'the audit trail ended within an entry: what was left of it lies beside it')
    // Of what lies nowhere the note is kept until it can be written.
    if (!torn.kept) return await this.#record('trail.torn', { ...torn })
    try {
      const { seq } = await this.#writer.append('trail.torn', { ...torn })
      await settle(seq)
    } catch (error) {
      // What was cut off stays where it is, and the next start notes it.
      log.error({ error: asHostletError(error) }, 'the torn end of the audit trail could not be noted')
    }
  }

  async #noteFault({ kind, file, line, offset, message }: Finding): Promise<void> {
    this.#fault = `the audit trail is not whole: ${message}. See "hostlet audit verify".`
    this.#options.log.error({ fault: kind, file, line, offset, reason: message }, 'audit trail is not whole')
    await this.#record('trail.fault', { fault: kind, file, line, offset, message })
  }

  #passes({ command, error }: Extract<CommandNote, { kind: 'refused' }>): boolean {
    const signer = command?.signer
    return signer === undefined ? this.#unknown.pass(error.code) : this.#signed.pass(signer)
  }

  /** The end of a look is kept where its beginning is. */
  #isOnlyCounted(note: CommandNote): boolean {
    if (note.kind === 'ended') return note.looks === true && this.#counted.delete(note.claims.id)
    if (note.kind !== 'accepted' || !note.looks || this.#looks.pass(note.command.signer)) return false
    if (this.#counted.size < countedMax) this.#counted.add(note.command.claims.id)
    return true
  }

  #tellHeld({ key, count, since }: Held): void {
    this.record('command.refused-more', { of: key, count, since })
  }

  async #record(kind: string, fields: EntryFields): Promise<void> {
    try {
      await this.#writer.append(kind, fields)
    } catch (thrown) {
      this.#miss({ kind, fields }, asHostletError(thrown))
    }
  }

  #miss(missed: { kind: string; fields: EntryFields }, error: HostletError): void {
    this.#options.log.error({ kind: missed.kind, error }, 'audit entry could not be written, it is kept')
    if (this.#missed.length < missedMax) this.#missed.push(missed)
    else this.#lost++
    if (this.#isOpen) this.#retry ??= this.#options.clock.timer(missedRetryMs, () => void this.#writeMissed())
  }

  async #writeMissed(): Promise<void> {
    this.#retry = undefined
    const missed = this.#missed
    const lost = this.#lost
    this.#missed = []
    this.#lost = 0
    if (lost > 0) missed.push({ kind: 'trail.lost', fields: { count: lost } })
    await Promise.all(missed.map(({ kind, fields }) => this.#record(kind, { ...fields, late: true })))
  }
}

const prunedEarly =
  'the audit trail grew so fast that files of the last days had to go: see who asks so much with "hostlet audit ls", and raise audit.keepBytes'

type Finding = Omit<TrailFault, 'file' | 'line' | 'offset'> & Partial<TrailFault>

/** What the newest receipt proves to be gone or other than it was. */
function faultOfReceipt(
  receipt: Link | undefined,
  { tail, entries }: Pick<Recovered, 'tail' | 'entries'>
): Finding | undefined {
  if (receipt === undefined) return undefined
  if (receipt.seq > tail.seq)
    return {
      kind: 'truncated',
      message: `it ends with entry ${tail.seq}, and the scheduler has signed for entry ${receipt.seq}`
    }
  const found = entries.find(({ seq }) => seq === receipt.seq)
  if (found === undefined || found.hash === receipt.hash) return undefined
  return { kind: 'changed', message: `entry ${receipt.seq} is not the one that the scheduler has signed for` }
}
