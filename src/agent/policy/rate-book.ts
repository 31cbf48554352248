// How often commands were accepted: counted for the rates of the policy, in a file of its own, so that neither a restart nor
// a lost journal begins the count anew.

import { existsSync, readFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { asHostletError, HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import { privateFileMode, writePrivateFile } from '../../lib/private-file.ts'
import type { GatePass } from '../operations/gate.ts'
import { type AskedVms, concerns, fitsVerb } from './asked.ts'
import { durationMs, type RateRule } from './command-sections.ts'

/** Lines beyond those that count; more are left behind by writing the file anew. */
const spareLinesMax = 1_000

/** A command that was let through. */
interface Counted extends AskedVms {
  readonly id: string
  /** Of its text; absent where an older agent counted it. */
  readonly digest?: string | undefined
  readonly at: number
  readonly verb: string
}

interface Asking {
  readonly id: string
  readonly digest: string
  readonly verb: string
  readonly host: string
}

export interface RateBookOptions {
  readonly path: string
  readonly clock: Pick<Clock, 'now'>
  readonly log: Logger
}

export class RateBook {
  readonly #options: RateBookOptions
  readonly #counted: Map<string, Counted>
  #lines: number
  #fault: string | undefined
  /** The file does not say what is known here: it is written anew. */
  #isBehind = false
  #writing: Promise<void> = Promise.resolve()

  constructor(options: RateBookOptions) {
    this.#options = options
    const { counted, lines, torn, fault } = load(options.path)
    this.#counted = counted
    this.#lines = lines
    this.#isBehind = torn
    this.#fault = fault
  }

  /** Why nothing can be counted; undefined while all is well. */
  get fault(): string | undefined {
    return this.#fault
  }

  /**
   * Counts the command for each of the rules; on disk when it resolves. `all` are the rules that there are: what none of
   * them looks at any more is forgotten. Throws E_AUTH when one is used up, or the count is lost, and counts nothing then;
   * E_UNAVAILABLE when it cannot be written.
   */
  async count(
    command: Asking & AskedVms,
    rules: readonly RateRule[],
    all: readonly RateRule[]
  ): Promise<GatePass | undefined> {
    if (rules.length === 0) return undefined
    if (this.#fault !== undefined) throw used(this.#fault)
    const now = this.#options.clock.now()
    this.#forget(all, now)
    for (const rule of rules) this.#mustHaveRoom(rule, command, now)
    const { id, digest, verb, vms, unknown } = command
    const counted = { id, digest, at: now, verb, vms, unknown }
    // Before the first wait, so that of many at once no more are let through than there is room for.
    this.#counted.set(id, counted)
    try {
      await this.#write({ counted })
    } catch (error) {
      this.#counted.delete(id)
      throw unwritten(this.#options.path, error)
    }
    return { withdraw: () => this.#withdraw(id) }
  }

  /** When the rule lets the next one through, or the command `again` once more; undefined when it does now. */
  nextAt(rule: RateRule, now: number, again?: Pick<Counted, 'id' | 'digest'>): number | undefined {
    const periodMs = durationMs(rule.per)
    const times = [...this.#counted.values()]
      .filter((counted) => counted.at > now - periodMs && isOf(rule, counted) && !isSame(counted, again))
      .map(({ at }) => at)
      .sort((left, right) => right - left)
    if (times.length < rule.max) return undefined
    return (times[rule.max - 1] ?? now) + periodMs
  }

  /** A command that was counted by an agent that was killed before it recorded it comes again: it is no second one. */
  #mustHaveRoom(rule: RateRule, asking: Asking, now: number): void {
    const { verb, host } = asking
    const nextAt = this.nextAt(rule, now, asking)
    if (nextAt === undefined) return
    const { verbs, max, per } = rule
    throw used(
      `the policy of host ${host} allows ${max} of ${verbs.join(', ')} in ${per}, and as many were accepted: ${verb} is allowed again at ${new Date(nextAt).toISOString()}.`,
      { nextAt, max }
    )
  }

  /** It was refused after all. A count that cannot be taken back stays: that errs on the safe side. */
  async #withdraw(id: string): Promise<void> {
    this.#counted.delete(id)
    await this.#write({ withdrawn: id }).catch((error) =>
      this.#options.log.warn({ command: id, error: asHostletError(error) }, 'count was not taken back')
    )
  }

  #forget(rules: readonly RateRule[], now: number): void {
    for (const [id, counted] of this.#counted) {
      const matters = rules.some((rule) => isOf(rule, counted) && counted.at > now - durationMs(rule.per))
      if (!matters) this.#counted.delete(id)
    }
  }

  /** One after the other: each is on disk before the next begins. */
  #write(line: { counted: Counted } | { withdrawn: string }): Promise<void> {
    const writing = this.#writing.then(() => this.#append(`${JSON.stringify(line)}\n`))
    this.#writing = writing.catch(() => undefined)
    return writing
  }

  async #append(line: string): Promise<void> {
    const { path } = this.#options
    if (this.#isBehind || this.#lines >= this.#counted.size + spareLinesMax) {
      this.#isBehind = true
      const kept = [...this.#counted.values()]
      writePrivateFile(path, kept.map((counted) => `${JSON.stringify({ counted })}\n`).join(''))
      this.#isBehind = false
      this.#lines = kept.length
      return
    }
    // What was written of a line that failed stands before the next one.
    this.#isBehind = true
    const file = await open(path, 'a', privateFileMode)
    try {
      await file.appendFile(line)
      await file.sync()
    } finally {
      await file.close()
    }
    this.#isBehind = false
    this.#lines++
  }
}

/** By its text too: an id alone could be used for many. */
function isSame(counted: Counted, again: Pick<Counted, 'id' | 'digest'> | undefined): boolean {
  return again?.digest !== undefined && counted.id === again.id && counted.digest === again.digest
}

function isOf({ verbs, vms }: RateRule, counted: Counted): boolean {
  return fitsVerb(verbs, counted.verb) && concerns(vms, counted)
}

/** What a crash left of the last lines counts for nothing: their commands were not let through. */
function load(path: string): { counted: Map<string, Counted>; lines: number; torn: boolean; fault?: string } {
  const counted = new Map<string, Counted>()
  if (!existsSync(path)) return { counted, lines: 0, torn: false }
  const text = readFileSync(path, 'utf8')
  const lines = text.split('\n').map(parse)
  const whole = lines.findLastIndex((line) => line !== undefined) + 1
  for (const line of lines.slice(0, whole)) {
    if (line === undefined) return { counted, lines: whole, torn: true, fault: damaged(path) }
    if ('counted' in line) counted.set(line.counted.id, line.counted)
    else counted.delete(line.withdrawn)
  }
  // The next line would be written behind what there is of the last one, and be lost with it.
  const torn = whole < lines.length - 1 || !(text === '' || text.endsWith('\n'))
  return { counted, lines: whole, torn }
}

function parse(text: string): { counted: Counted } | { withdrawn: string } | undefined {
  try {
    const line = JSON.parse(text)
    if (typeof line.withdrawn === 'string') return line
    const { id, at, verb, vms, unknown } = line.counted
    const isWhole = [id, verb].every((each) => typeof each === 'string') && Number.isFinite(at)
    return isWhole && Array.isArray(vms) && typeof unknown === 'boolean' ? line : undefined
  } catch {
    // The caller tells a torn end from damage.
    return undefined
  }
}

function damaged(path: string): string {
  return `${path} is damaged: how often commands were accepted is not known, and those that the policy counts are refused. Look at the disk, remove the file and restart the agent: it begins to count anew.`
}

function used(text: string, details: Record<string, number> = {}): HostletError {
  return new HostletError('E_AUTH', text, { details: { reason: 'rate', ...details } })
}

function unwritten(path: string, cause: unknown): HostletError {
  return new HostletError(
    'E_UNAVAILABLE',
    `${path} cannot be written (${asHostletError(cause).message}): what the policy counts is not accepted until it can be.`,
    { cause }
  )
}
