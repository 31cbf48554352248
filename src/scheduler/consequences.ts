// What the end of a command means, as pure decisions: for its VM's record, and in the words of an operation whose time is over.

import type { ErrorReport } from '../errors.ts'
import type { CommandResult } from '../protocol/command.ts'
import { compile } from '../protocol/validate.ts'
import { VmSummary } from '../protocol/vm.ts'
import type { CommandRecord, VmConsequence } from './store/store.ts'

/** Of a host's words, so that ours fit beside them. */
export const refusalCharactersMax = 1_000
const readVmSummary = compile(VmSummary, 'VM in a result')

/** A provision that failed left nothing on its host; a teardown that is done removed everything. */
export function consequenceOfEnd(verb: string, outcome: CommandResult['outcome']): VmConsequence {
  if (verb === 'vm.teardown' && outcome === 'done') return 'forget'
  if (verb === 'vm.provision' && outcome === 'failed') return 'forget-unless-reported'
  return 'none'
}

/** The VM's state in a result, where the verb tells it; then nobody needs to wait for the next inventory. */
export function vmInResult(record: CommandRecord, result: CommandResult): VmSummary | undefined {
  const told = result.outcome === 'done' ? result.value?.vm : undefined
  if (typeof told !== 'object' || record.verb === 'vm.teardown') return undefined
  try {
    const summary = readVmSummary(told)
    return summary.name === record.vm ? summary : undefined
  } catch {
    // Another shape than a summary: verbs are free in their results.
    return undefined
  }
}

/** How a command ends that no host took, or took and never answered, in time. */
export function endOfOverdue(record: CommandRecord): { error: ErrorReport; consequence: VmConsequence } {
  const { host, verb } = record
  if (record.state === 'waiting')
    return { error: neverTaken(record), consequence: consequenceOfEnd(verb, 'failed') }
  const taken =
    record.state === 'running' ? 'took the command and never told its end' : 'did not answer in time'
  return {
    error: {
      code: 'E_TIMEOUT',
      message: `host ${host} ${taken}: what became of it is unknown. See "hostlet host show ${host}"${
        record.vm === undefined ? '' : ` and "hostlet vm show ${record.vm}"`
      } before asking again.`
    },
    consequence: 'none'
  }
}

function neverTaken({ host, refusal }: CommandRecord): ErrorReport {
  if (refusal === undefined)
    return {
      code: 'E_UNAVAILABLE',
      message: `host ${host} was away until the command expired: nothing was done. Bring the host back, then ask again.`
    }
  const said = refusal.message.slice(0, refusalCharactersMax)
  return {
    code: refusal.code,
    message: `host ${host} refused the command until it expired: ${said} Nothing was done. Ask again when the reason is gone.`
  }
}
