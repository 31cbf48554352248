// A plan as a person reads it: what would be done, what that takes of the host, and what would stand in the way.

import type { Plan, PlannedNeed } from '../protocol/plan.ts'
import type { Cli } from './cli.ts'
import { formatBytes } from './quantities.ts'
import { type Column, paint, plain, renderFields, renderTable, type Style } from './table.ts'

/** Whether the host would take the command as things are now; approvals may still come. */
export function isRefused({ refusal, policy }: Plan): boolean {
  return refusal !== undefined || policy.verdict === 'refused'
}

export interface ShownPlan {
  readonly host: string
  readonly plan: Plan
  readonly hostNote?: string | undefined
}

export function planLines({ host, plan, hostNote }: ShownPlan, cli: Cli): string[] {
  const { remarks = [] } = plan
  const where = hostNote === undefined ? host : `${host} (${hostNote})`
  return [
    ...renderFields(fields(where, plan), cli.colour),
    ...plan.steps.map((step, at) => `  ${at + 1}. ${plain(step)}`),
    ...(remarks.length === 0 ? [] : ['', ...remarks.map((remark) => plain(remark))]),
    ...needLines(plan, cli),
    ...differenceLines('Ports of the host:', plan.ports, cli),
    ...differenceLines(firewallTitle(plan), plan.firewall, cli),
    ...domainLines(plan, cli),
    '',
    verdict(host, plan)
  ]
}

function fields(host: string, plan: Plan): readonly (readonly [string, string | undefined])[] {
  const { verb, vm, generation } = plan
  return [
    ['verb', verb],
    ['VM', vm],
    ['host', host],
    ['generation', generation && `${generation.now} -> ${generation.next}`],
    ['policy', policyText(plan)],
    ['steps', plan.steps.length === 0 ? 'none' : String(plan.steps.length)]
  ]
}

function policyText({ policy: { verdict: word, text } }: Plan): string {
  if (word === 'allowed') return 'allows it'
  return word === 'approval' ? `wants ${text ?? 'approvals'}` : `refuses it: ${text ?? ''}`
}

const needColumns: readonly Column<PlannedNeed>[] = [
  { title: 'WHAT', cell: ({ what }) => what },
  { title: 'NEEDS', cell: (need) => neededText(need), align: 'right' },
  { title: 'FREE', cell: (need) => amount(need, need.free), align: 'right' },
  {
    title: '',
    cell: ({ needed, free }) => (needed > free ? 'more than is free' : ''),
    style: () => 'red'
  }
]

function amount({ unit }: PlannedNeed, value: number): string {
  if (unit === 'bytes') return formatBytes(value)
  const count = Number(value.toFixed(2))
  return `${count} ${count === 1 ? unit.replace(/s$/, '') : unit}`
}

function neededText(need: PlannedNeed): string {
  const { needed } = need
  return needed < 0 ? `gives back ${amount(need, -needed)}` : amount(need, needed)
}

function needLines({ needs = [] }: Plan, cli: Cli): string[] {
  if (needs.length === 0) return []
  return ['', ...renderTable(needColumns, needs, { width: cli.width, colour: cli.colour })]
}

function firewallTitle({ firewall }: Plan): string {
  const { rulesAdded = 0, rulesRemoved = 0 } = firewall ?? {}
  return `Firewall (${rulesAdded} of nftables' rules and elements more, ${rulesRemoved} less):`
}

function differenceLines(
  title: string,
  difference: { readonly added: readonly string[]; readonly removed: readonly string[] } | undefined,
  { colour }: Cli
): string[] {
  const { added = [], removed = [] } = difference ?? {}
  if (added.length + removed.length === 0) return []
  return [
    '',
    title,
    ...removed.map((line) => styled(`  - ${plain(line)}`, 'red', colour)),
    ...added.map((line) => styled(`  + ${plain(line)}`, 'green', colour))
  ]
}

const diffStyles: Readonly<Record<string, Style>> = { '+': 'green', '-': 'red', '@': 'cyan' }

function domainLines({ domain }: Plan, { colour }: Cli): string[] {
  if (domain === undefined || domain.diff === '') return []
  if (domain.after === undefined) return ['', 'Its definition in libvirt goes.']
  const lines = domain.diff.trimEnd().split('\n')
  return ['', ...lines.map((line) => styled(plain(line), diffStyles[line.charAt(0)], colour))]
}

function verdict(host: string, plan: Plan): string {
  const { refusal, policy, changes } = plan
  if (refusal !== undefined) return `Host ${host} would refuse it: ${refusal.code}: ${plain(refusal.message)}`
  if (policy.verdict === 'refused') return `The policy of host ${host} refuses it.`
  if (!changes) return 'Nothing would change.'
  const waits = policy.verdict === 'approval' ? ', once it is approved' : ''
  return `Nothing was changed. Without --dry-run this is done${waits}.`
}

function styled(text: string, style: Style | undefined, colour: boolean): string {
  return colour && style !== undefined ? paint(style, text) : text
}
