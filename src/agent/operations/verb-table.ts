// The verbs by name, with their schemas compiled when first used, and the checks that all verbs share.

import { asHostletError, HostletError } from '../../errors.ts'
import type { CommandClaims } from '../../protocol/command.ts'
import { compile } from '../../protocol/validate.ts'
import type { Outcome, Verb } from './verb.ts'

export interface PreparedCommand<Host> {
  readonly verb: Verb<Host>
  /** Arguments that fit the verb's schema. */
  readonly params: unknown
}

type Check = (value: unknown) => unknown
type VerbRules = Pick<Verb<never>, 'name' | 'changes' | 'lock' | 'lockKey'>
export type LockRules = Pick<Verb<never>, 'lock' | 'lockKey' | 'backups'>

export class VerbTable<Host> {
  readonly #verbs: ReadonlyMap<string, Verb<Host>>
  readonly #params = new Map<string, Check>()
  readonly #results = new Map<string, Check>()

  constructor(verbs: readonly Verb<Host>[]) {
    this.#verbs = new Map(verbs.map((verb) => [verb.name, verb]))
  }

  find(name: string): Verb<Host> | undefined {
    return this.#verbs.get(name)
  }

  /** Throws E_UNSUPPORTED for a verb that this agent lacks, E_BAD_REQUEST for arguments that do not fit it. */
  prepare(claims: CommandClaims): PreparedCommand<Host> {
    const verb = this.#verbs.get(claims.verb)
    if (verb === undefined)
      throw new HostletError(
        'E_UNSUPPORTED',
        `this agent has no verb "${claims.verb}". It has ${[...this.#verbs.keys()].join(', ')}.`
      )
    const check = remembered(this.#params, verb.name, () => compile(verb.params, `${verb.name}: arguments`))
    return { verb, params: check(claims.arguments) }
  }

  /** A result that does not fit its schema is a bug of the verb: E_INTERNAL, instead of a message that nobody can read. */
  checkOutcome(verb: Verb<Host>, outcome: Outcome): Outcome {
    if (outcome.outcome === 'failed') return outcome
    try {
      remembered(this.#results, verb.name, () => compile(verb.result, `${verb.name}: result`))(outcome.value)
      return outcome
    } catch (cause) {
      const text = `${asHostletError(cause).message}. The operation itself was carried out. Please report it.`
      return { outcome: 'failed', error: new HostletError('E_INTERNAL', text).toReport() }
    }
  }
}

/** Throws E_BAD_REQUEST when a changing command names no VM, or when its subject and its arguments name different ones. */
export function checkSubject(verb: VerbRules, { subject }: CommandClaims, params: unknown): void {
  if (subject === undefined) {
    if (!verb.changes) return
    throw new HostletError(
      'E_BAD_REQUEST',
      `${verb.name} changes a VM: the command needs a subject with its generation`
    )
  }
  const { name, uuid } = namedBy(params)
  if ((name !== undefined && name !== subject.vm) || (uuid !== undefined && uuid !== subject.uuid))
    throw new HostletError(
      'E_BAD_REQUEST',
      `the command's subject is VM ${subject.vm} (${subject.uuid}), its arguments name ${name ?? uuid}`
    )
}

/** What the operation has to itself while it runs, in the order in which it is taken: a VM before its backups. */
export function lockKeysOf(
  verb: LockRules,
  { id, subject }: Pick<CommandClaims, 'id' | 'subject'>,
  params: unknown
): readonly string[] {
  const key =
    verb.lock === 'none'
      ? id
      : verb.lock === 'host'
        ? ''
        : (verb.lockKey?.(params) ?? subject?.vm ?? namedBy(params).name ?? id)
  return [`${verb.lock}:${key}`, ...(verb.backups === undefined ? [] : [`backup:${key}`])]
}

/** Verbs name their VM as `vm`, or by the specification of a new one. */
function namedBy(params: unknown): { name: string | undefined; uuid: string | undefined } {
  const { vm, specification } = (params ?? {}) as { vm?: unknown; specification?: Record<string, unknown> }
  return { name: text(vm) ?? text(specification?.name), uuid: text(specification?.uuid) }
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}

function remembered(known: Map<string, Check>, name: string, make: () => Check): Check {
  const check = known.get(name) ?? make()
  known.set(name, check)
  return check
}
