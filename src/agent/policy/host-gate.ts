// The gate that every command passes before it is recorded: what the host's policy says of it, read anew when it changes.

import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { asHostletError, HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import type { CommandClaims } from '../../protocol/command.ts'
import type { PolicyForecast } from '../../protocol/plan.ts'
import type { Hypervisor, VmRecord } from '../host/hypervisor.ts'
import type { CommandGate, GatePass, SignedCommand } from '../operations/gate.ts'
import type { Verb } from '../operations/verb.ts'
import { approvedBy, requireApprovals } from './approvals.ts'
import { type Asked, askedOf, type HostView } from './asked.ts'
import type { CommandPolicy } from './command-sections.ts'
import { type Policy, PolicyFile, type PolicyFound } from './policy.ts'
import { RateBook } from './rate-book.ts'
import { approvalRulesFor, rateRulesFor, refusalOf } from './rules.ts'

export const rateBookName = 'command-rates.jsonl'
/** How long libvirt may take to say which VMs there are. */
const lookMs = 10_000

type VerbFacts = Pick<Verb<never>, 'name' | 'looks'>

export interface HostGateOptions {
  readonly policyPath: string
  readonly stateDirectory: string
  readonly verbs: readonly VerbFacts[]
  readonly hypervisor: Pick<Hypervisor, 'listVms'>
  /** Keys that sign commands now. */
  commandKeys(): readonly { readonly x: string }[]
  readonly clock: Pick<Clock, 'now'>
  readonly log: Logger
  /** The policy says something else than it did, or was read for the first time. */
  onPolicy?(seen: PolicySeen): void
}

/** Which policy counts from now on. */
export interface PolicySeen {
  readonly path: string
  /** SHA-256 of what it says, in hex; null where there is none, or none that can be relied on. */
  readonly digest: string | null
  readonly fault?: string
}

export class HostGate implements CommandGate {
  readonly #options: HostGateOptions
  readonly #file: PolicyFile
  readonly #rates: RateBook
  #seen = ''

  constructor(options: HostGateOptions) {
    this.#options = options
    this.#file = new PolicyFile(options.policyPath, (found) => this.#see(found))
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
    const approvers = await this.#checkApprovals(commands, { command, asked, host })
    const counted = await this.#countIt(commands, { command, asked, host })
    return { approvers, withdraw: async () => await counted?.withdraw() }
  }

  async foresee(claims: CommandClaims, params: unknown): Promise<PolicyForecast> {
    let commands: CommandPolicy | undefined
    try {
      commands = this.#policyFor(claims.verb)?.commands
    } catch (error) {
      return { verdict: 'refused', text: asHostletError(error).message }
    }
    if (commands === undefined) return { verdict: 'allowed' }
    const asked = askedOf(claims, params)
    const host = viewOf(this.#options.hypervisor)
    const refusal =
      (await refusalOf(commands, asked, host))?.text ?? (await this.#usedUp(commands, asked, host))
    if (refusal !== undefined) return { verdict: 'refused', text: refusal }
    const { approvers = {}, require } = commands.approvals ?? {}
    const wanted = (await approvalRulesFor({ ...(require && { require }) }, asked, host)).map(
      ({ count, of = Object.keys(approvers) }) => `${count} of ${[...new Set(of)].join(', ')}`
    )
    return wanted.length === 0
      ? { verdict: 'allowed' }
      : { verdict: 'approval', text: `approvals of ${wanted.join(', and ')}` }
  }

  /** Which rate lets nothing more through now. */
  async #usedUp({ rates }: CommandPolicy, asked: Asked, host: HostView): Promise<string | undefined> {
    if (this.#rates.fault !== undefined) return rates.length === 0 ? undefined : this.#rates.fault
    const now = this.#options.clock.now()
    for (const rule of (await rateRulesFor(rates, asked, host)).rules) {
      const nextAt = this.#rates.nextAt(rule, now)
      if (nextAt !== undefined)
        return `it allows ${rule.max} of ${rule.verbs.join(', ')} in ${rule.per}: again at ${new Date(nextAt).toISOString()}`
    }
    return undefined
  }

  #see(found: PolicyFound): void {
    const text = JSON.stringify(found)
    if (text === this.#seen) return
    this.#seen = text
    const digest =
      'policy' in found && found.policy !== undefined
        ? createHash('sha256').update(JSON.stringify(found.policy)).digest('hex')
        : null
    const { policyPath: path, onPolicy } = this.#options
    onPolicy?.({ path, digest, ...('fault' in found && { fault: found.fault }) })
  }

  /** A policy that cannot be believed forbids everything but looking. */
  #policyFor(verb: string): Policy | undefined {
    try {
      return this.#file.read()
    } catch (cause) {
      if (this.#options.verbs.some(({ name, looks }) => name === verb && looks)) return undefined
      throw new HostletError(
        'E_AUTH',
        `${verb} is refused, since the policy of this host cannot be relied on: ${this.#file.fault() ?? 'it has just changed'} Have an administrator mend it there; "hostlet policy check ${this.#file.path}" tells all of its faults.`,
        { cause, details: { reason: 'policy' } }
      )
    }
  }

  /** Whose approvals count; those of nobody where none is wanted, whatever came along. */
  async #checkApprovals({ approvals }: CommandPolicy, { command, asked, host }: Look): Promise<string[]> {
    if (approvals === undefined) return []
    const rules = await approvalRulesFor(approvals, asked, host)
    if (rules.length === 0) return []
    const { policyPath, commandKeys, clock } = this.#options
    const context = { now: clock.now(), policyPath, commandKeys: commandKeys() }
    const approved = await approvedBy(command, approvals, context)
    requireApprovals(command, rules, { approvers: approvals.approvers, approved })
    const by = [...approved.by]
    this.#options.log.info({ command: command.claims.id, approvers: by.join(', ') }, 'command is approved')
    return by
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
