// Whether the policy allows what a command asks for: pure decisions, one entry a kind of rule, each with the reason of its refusal.

import type { ImageReference } from '../../protocol/vm.ts'
import {
  type Asked,
  type AskedVms,
  concerns,
  fitsVerb,
  type HostView,
  imageOf,
  specificationOf,
  vmsOf
} from './asked.ts'
import type { Approvals, CommandPolicy, RateRule } from './command-sections.ts'
import { newVmFault, sizesFault } from './limits.ts'
import { fits } from './patterns.ts'

export const refusalReasons = ['forbidden', 'image', 'limit', 'retain', 'approval', 'rate', 'policy'] as const
export type RefusalReason = (typeof refusalReasons)[number]

export interface Refusal {
  readonly reason: RefusalReason
  /** What is not allowed, as the end of a sentence about the command. */
  readonly text: string
}

type Rule = (commands: CommandPolicy, asked: Asked, host: HostView) => Promise<string | undefined>

/** In the order in which they are looked at; the first refusal counts. */
const rules: readonly (readonly [RefusalReason, Rule])[] = [
  ['forbidden', async ({ forbid }, { verb }) => forbiddenFault(forbid, verb)],
  ['image', async ({ images }, asked) => images && imageFault(images, imageOf(asked))],
  ['limit', limitFault],
  ['retain', retainFault]
]

/** Undefined where nothing of the command is forbidden: it may still need approvals, and find its rate used up. */
export async function refusalOf(
  commands: CommandPolicy,
  asked: Asked,
  host: HostView
): Promise<Refusal | undefined> {
  for (const [reason, rule] of rules) {
    const text = await rule(commands, asked, host)
    if (text !== undefined) return { reason, text }
  }
  return undefined
}

/** Approvals that a command needs: each of these. */
export async function approvalRulesFor(
  { require = [] }: Partial<Approvals>,
  asked: Asked,
  host: HostView
): Promise<Approvals['require']> {
  return await rulesFor(require, asked, host)
}

/** Rates that a command counts for. */
export async function rateRulesFor(
  rates: readonly RateRule[],
  asked: Asked,
  host: HostView
): Promise<{ readonly rules: readonly RateRule[]; readonly vms: AskedVms }> {
  const fitting = rates.filter(({ verbs }) => fitsVerb(verbs, asked.verb))
  const vms = fitting.length === 0 ? nobody : await vmsOf(asked, host)
  return { rules: fitting.filter((rule) => concerns(rule.vms, vms)), vms }
}

const nobody: AskedVms = { vms: [], unknown: false }

async function rulesFor<Rule extends { readonly verbs: readonly string[]; readonly vms?: readonly string[] }>(
  rules: readonly Rule[],
  asked: Asked,
  host: HostView
): Promise<Rule[]> {
  const fitting = rules.filter(({ verbs }) => fitsVerb(verbs, asked.verb))
  if (fitting.every(({ vms }) => vms === undefined)) return fitting
  const vms = await vmsOf(asked, host)
  return fitting.filter((rule) => concerns(rule.vms, vms))
}

function forbiddenFault(forbid: readonly string[], verb: string): string | undefined {
  const pattern = forbid.find((each) => fits(each, verb))
  return pattern === undefined ? undefined : `it forbids ${verb} (${pattern})`
}

function imageFault(
  { allow, digests }: NonNullable<CommandPolicy['images']>,
  image: ImageReference | undefined
): string | undefined {
  if (image === undefined) return undefined
  const url = plainUrl(image.url)
  if (allow !== undefined && !allow.some((pattern) => fits(plainUrl(pattern) ?? pattern, url ?? '')))
    return `it allows no image of ${image.url}, only of ${allow.join(', ') || 'nowhere'}`
  return digests === undefined || digests.includes(image.sha256)
    ? undefined
    : `it names the images that it allows, and ${image.sha256} is none of them`
}

/** As it will be asked for: without dots that lead elsewhere, and with the usual port left out. */
function plainUrl(url: string): string | undefined {
  try {
    const { href, username, password } = new URL(url)
    return username === '' && password === '' ? href : undefined
  } catch {
    // What is no address fits nothing.
    return undefined
  }
}

async function limitFault(
  { limits }: CommandPolicy,
  asked: Asked,
  host: HostView
): Promise<string | undefined> {
  if (limits === undefined) return undefined
  const specification = specificationOf(asked)
  if (specification !== undefined) {
    const others = limits.host === undefined ? [] : (await host.vms()).map((vm) => vm.specification)
    return newVmFault(limits, specification, others)
  }
  if (asked.verb !== 'vm.resize') return undefined
  const vms = (await host.vms()).map((vm) => vm.specification)
  const from = vms.find(({ name }) => name === asked.params.vm)
  if (from === undefined) return undefined
  const others = vms.filter((other) => other !== from)
  return sizesFault(limits, { from, to: { ...from, ...asked.params }, others })
}

async function retainFault(
  { teardown }: CommandPolicy,
  asked: Asked,
  host: HostView
): Promise<string | undefined> {
  if (asked.verb !== 'vm.teardown' || teardown.length === 0) return undefined
  const vms = await vmsOf(asked, host)
  const fitting = teardown.filter((rule) => concerns(rule.vms, vms))
  if (asked.params.backups === true && fitting.some(({ keepBackups }) => keepBackups))
    return 'backups of the VM stay (keepBackups): leave "--backups" out'
  const days = Math.max(0, ...fitting.map(({ requireRetainDays = 0 }) => requireRetainDays))
  const given = typeof asked.params.retainDays === 'number' ? asked.params.retainDays : 0
  if (given >= days || !(await isHere(asked, host))) return undefined
  return `the VM has to be kept for ${days} days at least: tear it down with "--retain ${days}d"`
}

/** What is not defined cannot be kept: tearing it down removes what a half-made VM left. */
async function isHere({ subject, params }: Asked, host: HostView): Promise<boolean> {
  return (await host.vms()).some(
    ({ specification: { name, uuid } }) =>
      name === params.vm || name === subject?.vm || uuid === subject?.uuid
  )
}
