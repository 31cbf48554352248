// What people are told of a rotation: where it is, who lags behind, what a step costs.

import { X509Certificate } from 'node:crypto'
import { HostletError } from '../../errors.ts'
import { listItemsMax, type RotationView } from '../../protocol/api.ts'
import type { CommandKey } from '../../protocol/enrollment.ts'
import { hashOfPublicKey } from '../identity/authority.ts'
import type { HostTrust } from '../store/trust-store.ts'
import { type LaggingHost, laggingHosts, living, type Question } from './lagging.ts'
import {
  type RotationAction,
  type RotationPhase,
  type RotationSubject,
  type TrustState,
  transitions,
  withRoles
} from './state.ts'

/** Hosts that an error names. */
const namedMax = 10

interface Seen {
  readonly subject: RotationSubject
  readonly state: TrustState
  readonly hosts: readonly HostTrust[]
  readonly now: number
}

/** The step that leads on from each phase. */
const onward: Readonly<Record<RotationPhase, RotationAction>> = {
  idle: 'start',
  prepared: 'activate',
  activated: 'finish'
}

export function rotationView(seen: Seen): RotationView {
  const { subject, state, hosts, now } = seen
  const rotation = subject === 'ca' ? state.authority : state.commandKey
  const { phase, serial, changedAt, changedBy } = rotation
  const lagging = laggingHosts(hosts, questionOf(seen, onward[phase]))
  const items =
    subject === 'ca'
      ? withRoles(state.authority).map(authorityItem)
      : withRoles(state.commandKey).map(keyItem)
  const [active, other] = items
  return {
    subject,
    phase,
    active: active?.item ?? { id: '' },
    ...(other !== undefined && { [other.role]: other.item }),
    ...{ serial, changedAt, changedBy },
    possible: possibleIn(phase),
    hosts: living(hosts, now).length,
    lagging: lagging.slice(0, listItemsMax),
    more: lagging.length > listItemsMax
  }
}

/** Those that a forced step leaves behind. Throws E_CONFLICT for one that is not forced. */
export function assertNobodyLags(
  hosts: readonly HostTrust[],
  step: { subject: RotationSubject; action: RotationAction; force: boolean; state: TrustState; now: number }
): readonly LaggingHost[] {
  const { subject, action, force } = step
  const lagging = laggingHosts(hosts, questionOf(step, action))
  if (lagging.length === 0 || force) return lagging
  const named = lagging.slice(0, namedMax).map(({ host, reason }) => `${host}: ${reason}`)
  const rest = lagging.length > namedMax ? `; and ${lagging.length - namedMax} more` : ''
  throw new HostletError(
    'E_CONFLICT',
    `${lagging.length} hosts are not ready for "${action}" (${named.join('; ')}${rest}). Wait and look with "hostlet rotate ${subject} status", revoke hosts that are gone ("hostlet host rm"), or use --force: ${consequence(subject, action)}.`,
    { details: { lagging: lagging.length } }
  )
}

/** What is left to be done after a step, or is lost by it. */
export function consequencesOf(
  { subject, action }: { subject: RotationSubject; action: RotationAction },
  state: TrustState,
  left: readonly LaggingHost[],
  held: {
    command: { path: string; isCredential: boolean } | undefined
    authority: { path: string; isCredential: boolean } | undefined
  }
): string[] {
  const warnings: string[] = []
  if (left.length > 0)
    warnings.push(`${left.length} hosts were left behind: ${consequence(subject, action)}.`)
  if (subject === 'ca' && action === 'start')
    warnings.push(
      'ca.pem holds both CAs now: copy it to every machine that reaches the scheduler with a copy of it, before "activate".'
    )
  if (subject === 'ca' && action === 'activate')
    warnings.push(
      `New join tokens pin ${hashOfPublicKey(state.authority.active)}. Those made before work until "finish".`
    )
  if (subject === 'ca' && action === 'return')
    warnings.push('Join tokens that were made since "activate" are of no use any more: make them again.')
  if (subject === 'ca' && action === 'finish')
    warnings.push(
      'Join tokens that were made before "activate" are of no use any more. The old CA is kept to verify old signatures.'
    )
  const key = subject === 'ca' ? held.authority : held.command
  if (action === 'finish' && key?.isCredential === true && key.path.endsWith('-next'))
    warnings.push(
      `${key.path} is the key that signs now. Hand it over under the name without "-next" from the next start on, and drop the old one.`
    )
  return warnings
}

function consequence(subject: RotationSubject, action: RotationAction): string {
  if (subject === 'ca')
    return action === 'activate'
      ? 'connected hosts that do not adopt the new CA cannot connect again and must be enrolled anew; those that are away take it when they come back'
      : 'hosts whose certificate is of the CA that is dropped are cut off and must be enrolled anew, with a new token'
  return action === 'activate'
    ? 'connected hosts that do not adopt the new key refuse commands until they do; those that are away take it when they come back, before any command'
    : 'hosts that have not adopted it go on believing the old key until they come back'
}

function questionOf({ subject, state, now }: Omit<Seen, 'hosts'>, action: RotationAction): Question {
  const { active, other } = state.authority
  return {
    subject,
    action,
    rotation: subject === 'ca' ? state.authority : state.commandKey,
    authorities: { active: hashOfPublicKey(active), other: other && hashOfPublicKey(other) },
    now
  }
}

function possibleIn(phase: RotationPhase): RotationAction[] {
  return (Object.keys(transitions) as RotationAction[]).filter((action) => transitions[action].from === phase)
}

function authorityItem({ item, role }: { item: string; role: 'active' | 'next' | 'previous' }) {
  const expiresAt = new X509Certificate(item).validToDate.getTime()
  return { role, item: { id: hashOfPublicKey(item), expiresAt } }
}

function keyItem({ item, role }: { item: CommandKey; role: 'active' | 'next' | 'previous' }) {
  return { role, item: { id: item.kid } }
}
