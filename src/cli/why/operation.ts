// Why an operation is where it is: what it waits for, who has that, what was wrong with its last try, and what to do.

import { holderText, stepText } from '../local/operation-text.ts'
import { formatDuration, formatTime } from '../quantities.ts'
import type { Finding, OperationFacts, Why } from './facts.ts'

export interface OperationContext {
  readonly now: number
  /** The operation that has what this one waits for, where it is known. */
  readonly holder?: OperationFacts | undefined
}

type Told = Pick<Why, 'says' | 'findings' | 'next'>

export function explainOperation(operation: OperationFacts, context: OperationContext): Why {
  const { id, state, since, verb, vm } = operation
  const told = states[state](operation, context)
  const title = vm === undefined ? verb : `${verb} of VM ${vm}`
  return { kind: 'operation', name: id, state, since, ...told, says: `${title} ${told.says}` }
}

const states: {
  readonly [State in OperationFacts['state']]: (operation: OperationFacts, context: OperationContext) => Told
} = {
  waiting: (operation) => ({
    says:
      operation.awaits === 'approval'
        ? `waits for somebody's approval before host ${operation.host} takes it`
        : `has not been taken by host ${operation.host} yet`,
    findings: hintOf(operation),
    next:
      operation.awaits === 'approval'
        ? [`hostlet approve ${operation.id}`]
        : [
            `hostlet why ${operation.host} --host`,
            `hostlet op cancel ${operation.id}   if it is not wanted any more`
          ]
  }),
  sent: (operation) => ({
    says: `was sent to host ${operation.host}, which has not acknowledged it yet`,
    findings: hintOf(operation),
    next: [`hostlet why ${operation.host} --host`]
  }),
  queued: (operation, context) => waiting(operation, context),
  running: (operation, context) =>
    operation.wait === undefined
      ? running(operation)
      : { ...waiting(operation, context), ...stepOf(operation) },
  undoing: (operation) => ({
    says: operation.cancelled === true ? 'was cancelled, and is being undone' : 'failed, and is being undone',
    findings: [...errorOf(operation), ...stepOf(operation).findings],
    next: [`hostlet op wait ${operation.id}   it ends once everything is undone`]
  }),
  done: ({ finishedAt, vm }) => ({
    says: `is done${atText(finishedAt)}`,
    findings: [],
    next: vm === undefined ? [] : [`hostlet why ${vm}   how the VM is now`]
  }),
  failed: (operation) => ({
    says: `failed${atText(operation.finishedAt)}`,
    findings: errorOf(operation),
    next: [
      operation.hint ?? 'do as the error says, then ask again',
      `hostlet logs ${operation.id}   on host ${operation.host}`
    ]
  }),
  expired: (operation) => ({
    says: `expired: host ${operation.host} did not take it in time, and nothing happened`,
    findings: errorOf(operation),
    next: [`hostlet why ${operation.host} --host`, 'then ask for it again']
  })
}

function waiting(operation: OperationFacts, { now, holder }: OperationContext): Told {
  const { wait, id, host } = operation
  if (wait === undefined)
    return {
      says: `was taken by host ${host} and has not told of a step yet`,
      findings: [],
      next: [`hostlet op wait ${id}`]
    }
  const before =
    wait.ahead === 0
      ? []
      : [
          {
            text:
              wait.ahead === 1
                ? '1 other operation comes before it'
                : `${wait.ahead} other operations come before it`
          }
        ]
  if (wait.kind === 'place')
    return {
      says: `waits for ${wait.what}: as many run on host ${host} as may at a time`,
      findings: [{ text: 'it has the VM to itself already', since: wait.since }, ...before],
      next: ['wait: it begins when one of those ends', 'hostlet status   on the host shows what runs']
    }
  if (wait.kind === 'libvirt')
    return {
      says: `waits for libvirt of host ${host} to answer, and goes on then`,
      findings: [{ text: 'libvirt is away', since: wait.since }],
      next: ['systemctl status libvirtd   on the host', 'hostlet doctor   on the host']
    }
  const has = holderText(wait.holder, wait.holderVerb)
  const step = holder === undefined ? undefined : stepText(holder)
  return {
    says: `waits for ${wait.what}, which ${has} has`,
    findings: [
      { text: `waits for ${formatDuration(Math.max(0, now - wait.since))}`, since: wait.since },
      ...(step === undefined ? [] : [{ text: `${has} is at step ${step}` }]),
      ...before
    ],
    next:
      wait.holder === undefined
        ? ['wait: the agent starts VMs after a boot of the host, or puts a drift right']
        : [
            `hostlet why ${wait.holder}`,
            `hostlet op cancel ${wait.holder}   if it is in the way, and may be undone`
          ]
  }
}

function running(operation: OperationFacts): Told {
  const { id, trouble } = operation
  return {
    says: 'is under way',
    findings: stepOf(operation).findings,
    next:
      trouble === undefined
        ? [`hostlet op wait ${id}`]
        : [`hostlet logs ${id}   on the host`, `hostlet op wait ${id}   the step is tried again by itself`]
  }
}

function stepOf(operation: OperationFacts): { readonly findings: readonly Finding[] } {
  const { trouble, attempts = 0 } = operation
  const step = stepText(operation)
  return {
    findings: [
      ...(step === undefined ? [] : [{ text: `step ${step}` }]),
      ...(attempts > 1
        ? [{ text: `begun ${attempts} times: the agent was stopped or killed in between` }]
        : []),
      ...(trouble === undefined
        ? []
        : [
            {
              text: `the step was interrupted ${trouble.tries} times, and is tried again; last by ${trouble.error.code}: ${trouble.error.message}`,
              since: trouble.at,
              severity: 'warning' as const
            }
          ])
    ]
  }
}

function errorOf({ error }: OperationFacts): readonly Finding[] {
  return error === undefined ? [] : [{ text: `${error.code}: ${error.message}`, severity: 'critical' }]
}

function hintOf({ hint }: OperationFacts): readonly Finding[] {
  return hint === undefined ? [] : [{ text: hint }]
}

function atText(at: number | undefined): string {
  return at === undefined ? '' : ` since ${formatTime(at)}`
}
