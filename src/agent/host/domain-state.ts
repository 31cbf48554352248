// What libvirt's numbers of states, reasons and events mean in our words.

import {
  domainCrashedReason,
  domainEventDetail,
  domainEventType,
  domainPausedReason,
  domainRunningReason,
  domainShutdownReason,
  domainShutOffReason,
  domainState
} from 'node-libvirt'
import type { VmState } from '../../protocol/vm.ts'
import type { DomainEvent } from './hypervisor.ts'

type Words = Readonly<Record<string, number>>

const none: Words = { unknown: 0 }
const states: Readonly<Partial<Record<number, { state: VmState; reasons: Words }>>> = {
  [domainState.running]: { state: 'running', reasons: domainRunningReason },
  [domainState.blocked]: { state: 'running', reasons: none },
  [domainState.paused]: { state: 'paused', reasons: domainPausedReason },
  [domainState.shuttingDown]: { state: 'stopping', reasons: domainShutdownReason },
  [domainState.shutOff]: { state: 'stopped', reasons: domainShutOffReason },
  [domainState.crashed]: { state: 'crashed', reasons: domainCrashedReason },
  [domainState.pmSuspended]: { state: 'suspended', reasons: none }
}

/** State and reason as words; a machine that is off because it crashed is called crashed. */
export function stateOf({ state, reason }: { state: number; reason: number }): {
  state: VmState
  reason: string
} {
  const known = states[state]
  if (known === undefined) return { state: 'unknown', reason: 'unknown' }
  const word = wordOf(known.reasons, reason)
  if (known.state === 'stopped' && reason === domainShutOffReason.crashed)
    return { state: 'crashed', reason: word }
  return { state: known.state, reason: word }
}

const kinds: Readonly<Partial<Record<number, { kind: DomainEvent['kind']; details: Words }>>> = {
  [domainEventType.defined]: { kind: 'defined', details: domainEventDetail.defined },
  [domainEventType.undefined]: { kind: 'undefined', details: domainEventDetail.undefined },
  [domainEventType.started]: { kind: 'started', details: domainEventDetail.started },
  [domainEventType.suspended]: { kind: 'suspended', details: domainEventDetail.suspended },
  [domainEventType.resumed]: { kind: 'resumed', details: domainEventDetail.resumed },
  [domainEventType.stopped]: { kind: 'stopped', details: domainEventDetail.stopped },
  [domainEventType.shutdown]: { kind: 'shutdown', details: domainEventDetail.shutdown },
  [domainEventType.pmSuspended]: { kind: 'suspended', details: domainEventDetail.pmSuspended },
  [domainEventType.crashed]: { kind: 'crashed', details: domainEventDetail.crashed }
}

/** A lifecycle event as words; undefined for a kind that this libvirt has and we do not know. */
export function lifecycleOf(event: {
  event: number
  detail: number
}): Pick<DomainEvent, 'kind' | 'detail'> | undefined {
  const known = kinds[event.event]
  if (known === undefined) return undefined
  const detail = wordOf(known.details, event.detail)
  const crashed = known.kind === 'stopped' && event.detail === domainEventDetail.stopped.crashed
  return { kind: crashed ? 'crashed' : known.kind, detail }
}

function wordOf(words: Words, value: number): string {
  return Object.keys(words).find((word) => words[word] === value) ?? 'unknown'
}
