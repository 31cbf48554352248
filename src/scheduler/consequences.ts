// What the end of a command means, as pure decisions: for its VM's record, and in the words of an operation whose time is over.

import type { ErrorReport } from '../errors.ts'
import type { CommandResult } from '../protocol/command.ts'
import { VmResizeResult } from '../protocol/resize.ts'
import { compile } from '../protocol/validate.ts'
import { HostFacts, ImageReference, VmSummary } from '../protocol/vm.ts'
import type { CommandRecord, Told, VmConsequence } from './store/store.ts'

/** Of a host's words, so that ours fit beside them. */
export const refusalCharactersMax = 1_000
const readFacts = compile(HostFacts, 'facts in a result')
const readImage = compile(ImageReference, 'image in a result')
const readVmSummary = compile(VmSummary, 'VM in a result')
const readSizes = compile(VmResizeResult.properties.sizes, 'sizes in a result')

/** The end of a command that no host told. */
export interface CommandEnd {
  readonly error: ErrorReport
  readonly consequence: VmConsequence
}

/** A provision or restore that failed left nothing on its host; a teardown that is done removed everything, if it says so. */
export function consequenceOfEnd(
  verb: string,
  outcome: CommandResult['outcome'],
  value?: CommandResult['value']
): VmConsequence {
  if (verb === 'vm.teardown' && outcome === 'done') return isErased(value) ? 'forget' : 'none'
  if ((verb === 'vm.provision' || verb === 'vm.restore') && outcome === 'failed')
    return 'forget-unless-reported'
  return 'none'
}

/** Neither kept until a day, nor with a volume that could not be removed. */
function isErased(value: CommandResult['value']): boolean {
  const { retainedUntil, remaining } = value ?? {}
  return retainedUntil === undefined && !(Array.isArray(remaining) && remaining.length > 0)
}

/** What a result tells of its host and its VM, where it does; then nobody needs to wait for the next inventory. */
export function toldBy({ host, verb, vm }: CommandRecord, { outcome, value }: CommandResult): Told {
  if (outcome !== 'done' || verb === 'vm.teardown') return {}
  const facts = ifFits(readFacts, value?.facts)
  const summary = ifFits(readVmSummary, value?.vm)
  const sizes = verb === 'vm.resize' ? ifFits(readSizes, value?.sizes) : undefined
  const image = verb === 'vm.reimage' ? ifFits(readImage, value?.image) : undefined
  return {
    ...(facts?.hostId === host && { facts }),
    ...(summary !== undefined && (vm === undefined || summary.name === vm) && { vm: summary }),
    ...(image !== undefined && { image }),
    ...(sizes !== undefined && { sizes })
  }
}

/** Verbs are free in their results: another shape is none of our business. */
function ifFits<Value>(read: (value: unknown) => Value, value: unknown): Value | undefined {
  if (typeof value !== 'object') return undefined
  try {
    return read(value)
  } catch {
    return undefined
  }
}

/** How a command ends that no host took, or took and never answered, in time. */
export function endOfOverdue(record: CommandRecord): CommandEnd {
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

/** How a command ends whose host was revoked: what it never sent to it was never done. */
export function endOfRevoked({ host, verb, vm, state }: CommandRecord): CommandEnd {
  if (state === 'waiting')
    return {
      error: {
        code: 'E_CONFLICT',
        message: `host ${host} was revoked before it took the command: nothing was done.`
      },
      consequence: consequenceOfEnd(verb, 'failed')
    }
  const look = vm === undefined ? '' : ` See "hostlet vm show ${vm}".`
  return {
    error: {
      code: 'E_INTERRUPTED',
      message: `host ${host} was revoked before it told the end of the command: what became of it is unknown.${look}`
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
