// What became of each VM, or would: lines for people.

import type { ErrorReport } from '../../errors.ts'
import type { Plan } from '../../protocol/plan.ts'
import type { Cli } from '../cli.ts'
import { isRefused } from '../plan-text.ts'
import { paint, plain, type Style } from '../table.ts'
import type { ActionKind, Difference } from './difference.ts'

export interface Outcome extends Difference {
  /** What the host says to each request, where it was asked. */
  readonly plans: readonly { readonly kind: ActionKind; readonly host: string; readonly plan: Plan }[]
  readonly operations: readonly { readonly kind: ActionKind; readonly id: string }[]
  /** What has been done, and shows only later. */
  readonly remarks?: readonly string[]
  readonly error?: ErrorReport
}

const actionTexts: Readonly<Record<ActionKind, string>> = {
  create: 'make it',
  resize: 'change sizes and limits',
  schedule: 'set when it is backed up',
  reimage: 'make its root disk anew',
  start: 'start it',
  stop: 'stop it'
}

export function outcomeLines(outcome: Outcome, { colour }: Pick<Cli, 'colour'>): string[] {
  const { vm, where, host, changes, actions, plans, error } = outcome
  const painted = (style: Style, text: string) => (colour ? paint(style, text) : text)
  const isIdle = changes.length === 0 && error === undefined
  const place = host === undefined ? '' : ` on ${host}`
  return [
    `${painted('bold', `VM ${vm}`)}${place} (${plain(where)})${isIdle ? ': as it is wanted' : ''}`,
    ...changes.flatMap(({ what, from, to, refused }) => {
      const line = `  ${what}: ${plain(from)} -> ${plain(to)}`
      return refused === undefined
        ? [painted('green', line)]
        : [painted('red', line), painted('red', `    cannot be: ${plain(refused)}`)]
    }),
    ...(actions.length === 0
      ? []
      : [`  to do: ${actions.map(({ kind }) => actionTexts[kind]).join(', then ')}`]),
    ...plans.flatMap(({ kind, host: at, plan }) => planLines(kind, at, plan).map((line) => `  ${line}`)),
    ...(error === undefined ? [] : [painted('red', `  ${error.code}: ${plain(error.message)}`)])
  ]
}

function planLines(kind: ActionKind, host: string, plan: Plan): string[] {
  const { policy, refusal, needs = [], remarks = [] } = plan
  if (refusal !== undefined)
    return [`${kind}: host ${host} would refuse it: ${refusal.code}: ${plain(refusal.message)}`]
  if (isRefused(plan)) return [`${kind}: the policy of host ${host} refuses it: ${plain(policy.text ?? '')}`]
  const short = needs.filter(({ needed, free }) => needed > free).map(({ what }) => what)
  return [
    `${kind}: host ${host} would take it${policy.verdict === 'approval' ? `, with ${plain(policy.text ?? 'approvals')}` : ''}.`,
    ...(short.length === 0 ? [] : [`  more than is free: ${short.join(', ')}.`]),
    ...remarks.map((remark) => `  ${plain(remark)}`)
  ]
}

/** Something of it could not be done, or would not be. */
export function isFailed({ error, changes, plans }: Outcome): boolean {
  const isRefusedChange = changes.some(({ refused }) => refused !== undefined)
  return error !== undefined || isRefusedChange || plans.some(({ plan }) => isRefused(plan))
}

/** `2 changed, 1 as wanted, 1 failed`. */
export function summaryOf(outcomes: readonly Outcome[], { dryRun }: { dryRun?: boolean } = {}): string {
  const failed = outcomes.filter(isFailed)
  const changed = outcomes.filter((outcome) => !isFailed(outcome) && outcome.actions.length > 0)
  const same = outcomes.length - failed.length - changed.length
  if (same === outcomes.length) return 'Nothing to do: every VM is as it is wanted.'
  return [
    ...(changed.length === 0 ? [] : [`${changed.length} ${dryRun ? 'would be changed' : 'changed'}`]),
    ...(same === 0 ? [] : [`${same} as wanted`]),
    ...(failed.length === 0
      ? []
      : [
          `${failed.length} ${dryRun ? 'would not be' : 'not done, or not all of it'}: ${failed.map(({ vm }) => vm).join(', ')}`
        ])
  ]
    .join(', ')
    .concat('.')
}
