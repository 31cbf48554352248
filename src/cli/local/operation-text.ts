// An operation of this host in words: how far it is, what it waits for, and what was wrong with its last try.

import type { LocalOperation } from '../../protocol/local.ts'
import type { OperationWait } from '../../protocol/waiting.ts'
import { since } from '../columns.ts'
import { transferText } from '../follow.ts'
import { formatRatio } from '../quantities.ts'

/** `for VM web-1, which vm.backup 6f1c… has, 2 before it, 4m12s`. */
export function waitText(wait: OperationWait, nowMs: number): string {
  const { what, holder, holderVerb, ahead, kind } = wait
  const by = kind === 'lock' ? `, which ${holderText(holder, holderVerb)} has` : ''
  const line = ahead === 0 ? '' : `, ${ahead} before it`
  return `for ${what}${by}${line}, ${since(wait.since, nowMs)}`
}

export function holderText(holder: string | undefined, verb: string | undefined): string {
  return holder === undefined ? 'the agent itself' : `${verb ?? 'operation'} ${holder}`
}

type Step = Pick<LocalOperation, 'step' | 'stepIndex' | 'steps' | 'ratio' | 'note' | 'transfer'>

/** `2/7 fetch image, 43 %`; undefined before the first step. */
export function stepText({ step, stepIndex = 0, steps, ratio, note, transfer }: Step): string | undefined {
  if (step === undefined) return undefined
  const place = steps === undefined ? '' : `${stepIndex + 1}/${steps} `
  const parts = [
    `${place}${step}`,
    ...(ratio === undefined ? [] : [formatRatio(ratio)]),
    ...(transfer === undefined ? [] : [transferText(transfer)]),
    ...(note === undefined ? [] : [note])
  ]
  return parts.join(', ')
}

/** What one line of a table has room for. */
export function standingText(operation: LocalOperation, nowMs: number): string {
  const { state, wait, trouble, error } = operation
  if (wait !== undefined && state === 'waiting') return `waits ${waitText(wait, nowMs)}`
  const step = stepText(operation) ?? (state === 'waiting' ? 'waits for its turn' : state)
  const why = state === 'undoing' && error !== undefined ? `, undone because: ${error.message}` : ''
  const again = trouble === undefined ? '' : `, tried ${trouble.tries + 1} times: ${trouble.error.message}`
  const stands = wait === undefined ? '' : `, waits ${waitText(wait, nowMs)}`
  return `${step}${stands}${again}${why}`
}
