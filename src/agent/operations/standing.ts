// Where one operation stands: what it waits for and since when, what it has to itself, how far it is. For whoever looks.

import type { ErrorReport } from '../../errors.ts'
import type { StepReport } from './engine.ts'

/** A try of a step that was interrupted, and is made again. */
export interface StepTrouble {
  readonly at: number
  readonly error: ErrorReport
  readonly tries: number
}

/** What a ticket tells of its place in the line. */
export interface PlaceInLine {
  readonly lane?: string
  /** How many come before it; undefined when it does not wait. */
  readonly ahead?: number | undefined
}

export class Standing {
  readonly id: string
  readonly verb: string
  readonly vm: string | undefined
  readonly keys: readonly string[]
  /** Milliseconds since the epoch, of the last change of what it waits for. */
  since: number
  /** The lock that it waits for, and its number among all that ever waited. */
  lock: { readonly key: string; readonly number: number } | undefined
  place: PlaceInLine | undefined
  readonly held = new Set<string>()
  report: StepReport | undefined
  trouble: StepTrouble | undefined

  constructor(of: Pick<Standing, 'id' | 'verb' | 'vm' | 'keys' | 'since'>) {
    this.id = of.id
    this.verb = of.verb
    this.vm = of.vm
    this.keys = of.keys
    this.since = of.since
  }

  get isRunning(): boolean {
    return this.lock === undefined && this.place === undefined
  }
}
