// What a host's refusal of a command means: another try later, its end, or nothing yet.

import { type ErrorReport, errorCodes } from '../errors.ts'
import { operationStatesEnded } from '../protocol/api.ts'
import { approvalReason } from '../protocol/approval.ts'
import { consequenceOfEnd } from './consequences.ts'
import type { CommandRecord, VmConsequence } from './store/store.ts'

/** The wait before the first further try; doubles with each refusal. */
export const retryBaseMs = 2_000
export const retryCapMs = 60_000
/** Longest wait that a host may ask for. */
export const askedWaitMsMax = 300_000

export type AfterRefusal =
  | { readonly kind: 'retry'; readonly delayMs: number }
  /** It waits for an approval, and is sent again with that. */
  | { readonly kind: 'hold' }
  | { readonly kind: 'none' }
  | { readonly kind: 'end'; readonly error: ErrorReport; readonly consequence: VmConsequence }

/**
 * Where the table of codes says that nothing happened and a later try may do better, the command waits and is sent again
 * until it expires. A host that says when to come again is not asked before. Half of the wait is left to chance, so that
 * commands of one burst do not come back as one.
 */
export function afterRefusal(
  record: CommandRecord,
  refusal: ErrorReport,
  random: () => number = Math.random
): AfterRefusal {
  const { advice } = errorCodes[refusal.code]
  if (operationStatesEnded.includes(record.state)) return { kind: 'none' }
  if (record.state === 'running') {
    // Any other refusal may come from a journal that could not be read just then.
    if (advice !== 'refuse') return { kind: 'none' }
    return { kind: 'end', error: lost(record, refusal), consequence: 'none' }
  }
  if (needsApproval(refusal)) return { kind: 'hold' }
  if (advice !== 'retry')
    return { kind: 'end', error: refusal, consequence: consequenceOfEnd(record.verb, 'failed') }
  const boundMs = Math.min(retryCapMs, retryBaseMs * 2 ** Math.min(record.refusals, 16))
  const askedMs = askedWait(refusal)
  const delayMs = askedMs === undefined ? (boundMs * (1 + random())) / 2 : askedMs * (1 + random() / 2)
  return { kind: 'retry', delayMs: Math.ceil(delayMs) }
}

/** `details.retryAfterMs`, where it is one; a host that asks for less than the shortest wait does not get more tries. */
function askedWait({ details }: ErrorReport): number | undefined {
  const asked = details?.retryAfterMs
  if (typeof asked !== 'number' || !Number.isFinite(asked) || asked <= 0) return undefined
  return Math.min(askedWaitMsMax, Math.max(retryBaseMs / 2, asked))
}

/** Whether a host would take the command with approvals that it does not have. */
export function needsApproval({ code, details }: ErrorReport): boolean {
  return code === 'E_AUTH' && details?.reason === approvalReason
}

/** An agent that has a command repeats its acknowledgement. One that took it and refuses it now has lost its journal. */
function lost({ host, vm }: CommandRecord, refusal: ErrorReport): ErrorReport {
  const look = vm === undefined ? `"hostlet host show ${host}"` : `"hostlet vm show ${vm}"`
  return {
    code: 'E_INTERRUPTED',
    message: `host ${host} took the command and has lost its record of it: what became of it is unknown. See ${look} before asking again.`,
    details: { refusal: refusal.code }
  }
}
