// The gate that every command passes before it is recorded: what the host's policy says of it, read anew when it changes.

import { join } from 'node:path'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import type { Hypervisor, VmRecord } from '../host/hypervisor.ts'
import type { CommandGate, GatePass, SignedCommand } from '../operations/gate.ts'
import type { Verb } from '../operations/verb.ts'
import { approvedBy, requireApprovals } from './approvals.ts'
import { type Asked, askedOf, type HostView } from './asked.ts'
import type { CommandPolicy } from './command-sections.ts'
import { type Policy, PolicyFile } from './policy.ts'
import { RateBook } from './rate-book.ts'
import { approvalRulesFor, rateRulesFor, refusalOf } from './rules.ts'

export const rateBookName = 'command-rates.jsonl'
/** How long libvirt may take to say which VMs there are. */
const lookMs = 10_000

type VerbFacts = Pick<Verb<never>, 'name' | 'changes' | 'lock'>

export interface HostGateOptions {
  readonly policyPath: string
  readonly stateDirectory: string
  readonly verbs: readonly VerbFacts[]
  readonly hypervisor: Pick<Hypervisor, 'listVms'>
  /** Keys that sign commands now. */
  commandKeys(): readonly { readonly x: string }[]
  readonly clock: Pick<Clock, 'now'>
  readonly log: Logger
}

export class HostGate implements CommandGate {
  readonly #options: HostGateOptions
  readonly #file: PolicyFile
  readonly #rates: RateBook

  constructor(options: HostGateOptions) {
    this.#options = options
    this.#file = new PolicyFile(options.policyPath)
    this.#rates = new RateBook({ ...options, path: join(options.stateDirectory, rateBookName) })
  }

  /** What keeps commands from being accepted, in a line; undefined while all is well. */
  get fault(): string | undefined {
    return this.#file.fault() ?? this.#rates.fault
  }

  async check(command: SignedCommand, params: unknown): Promise<GatePass | undefined> {
    const commands = this.#policyFor(command.claims.verb)?.commands
    if (commands === undefined) return undefined
    const asked = askedOf(command.claims, params)
    const host = viewOf(this.#options.hypervisor)
    const refusal = await refusalOf(commands, asked, host)
    if (refusal !== undefined) throw this.#refused(command, refusal)
    await this.#checkApprovals(commands, { command, asked, host })
    return await this.#countIt(commands, { command, asked, host })
  }

  /** A policy that cannot be believed forbids everything but looking. */
  #policyFor(verb: string): Policy | undefined {
    try {
      return this.#file.read()
    } catch (cause) {
      if (this.#options.verbs.some((each) => each.name === verb && looksOnly(each))) return undefined
      throw new HostletError(
        'E_AUTH',
        `${verb} is refused, since the policy of this host cannot be relied on: ${this.#file.fault() ?? 'it has just changed'} Have an administrator mend it there; "hostlet policy check ${this.#file.path}" tells all of its faults.`,
        { cause, details: { reason: 'policy' } }
      )
    }
  }

  async #checkApprovals({ approvals }: CommandPolicy, { command, asked, host }: Look): Promise<void> {
    if (approvals === undefined) return
    const rules = await approvalRulesFor(approvals, asked, host)
    if (rules.length === 0) return
    const { policyPath, commandKeys, clock } = this.#options
    const context = { now: clock.now(), policyPath, commandKeys: commandKeys() }
    const approved = await approvedBy(command, approvals, context)
    requireApprovals(command, rules, { approvers: approvals.approvers, approved })
    this.#options.log.info(
      { command: command.claims.id, approvers: [...approved.by].join(', ') },
      'command is approved'
    )
  }

  async #countIt({ rates }: CommandPolicy, { command, asked, host }: Look): Promise<GatePass | undefined> {
    const { rules, vms } = await rateRulesFor(rates, asked, host)
    const { id, verb, audience } = command.claims
    return await this.#rates.count({ id, digest: command.digest, verb, host: audience, ...vms }, rules, rates)
  }

  #refused({ claims }: SignedCommand, { reason, text }: { reason: string; text: string }): HostletError {
    const vm = claims.subject === undefined ? '' : ` of VM ${claims.subject.vm}`
    return new HostletError(
      'E_AUTH',
      `the policy of host ${claims.audience} does not allow ${claims.verb}${vm}: ${text}. An administrator of the host changes ${this.#file.path} there, where it should be.`,
      { details: { reason } }
    )
  }
}

interface Look {
  readonly command: SignedCommand
  readonly asked: Asked
  readonly host: HostView
}

/** Asks once for a command, and only where a rule wants to know. */
function viewOf(hypervisor: Pick<Hypervisor, 'listVms'>): HostView {
  let vms: Promise<readonly VmRecord[]> | undefined
  return {
    vms: () => {
      vms ??= hypervisor.listVms({ signal: AbortSignal.timeout(lookMs) }).catch((cause) => {
        throw cause instanceof HostletError ? cause : tooSlow(cause)
      })
      return vms
    }
  }
}

/** Nothing happened, and a later try may find libvirt less busy. */
function tooSlow(cause: unknown): HostletError {
  return new HostletError(
    'E_UNAVAILABLE',
    `libvirt did not say within ${lookMs / 1_000} s which VMs there are, and the policy of this host asks for them. Try again later.`,
    { cause }
  )
}

/** Verbs without a lock look, but for this one. */
function looksOnly({ name, changes, lock }: VerbFacts): boolean {
  return !changes && lock === 'none' && name !== 'host.rotate-key'
}
