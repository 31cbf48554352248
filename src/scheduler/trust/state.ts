// Where the rotation of a key or a CA is, as data: its phases, the steps between them, and what hosts are told in each.

import { HostletError } from '../../errors.ts'
import type { rotationActions, rotationPhases, rotationSubjects } from '../../protocol/api.ts'
import type { CommandKey } from '../../protocol/enrollment.ts'
import { authoritiesMax, type TrustStatement } from '../../protocol/trust.ts'

export type RotationSubject = (typeof rotationSubjects)[number]
export type RotationPhase = (typeof rotationPhases)[number]
export type RotationAction = (typeof rotationActions)[number]

export interface Rotation<Item> {
  readonly phase: RotationPhase
  /** The one that signs. */
  readonly active: Item
  /** `prepared`: the one that is to sign next. `activated`: the one that signed before. Hosts believe both. */
  readonly other: Item | undefined
  /** Of the statement that told hosts of this phase. */
  readonly serial: number
  readonly changedAt: number
  readonly changedBy: string
}

/** All that the scheduler keeps of it; private keys lie elsewhere. */
export interface TrustState {
  readonly serial: number
  readonly commandKey: Rotation<CommandKey>
  /** PEM. */
  readonly authority: Rotation<string>
  /** PEM of CAs that were dropped, the oldest first. */
  readonly retired: readonly string[]
  readonly renewWithinMs: number
}

/** Which phase each step leaves and which one it enters. */
export const transitions: Readonly<
  Record<RotationAction, { readonly from: RotationPhase; readonly to: RotationPhase }>
> = {
  start: { from: 'idle', to: 'prepared' },
  activate: { from: 'prepared', to: 'activated' },
  finish: { from: 'activated', to: 'idle' },
  return: { from: 'activated', to: 'prepared' },
  abort: { from: 'prepared', to: 'idle' }
}

export interface Change<Item> {
  readonly action: RotationAction
  /** For `start`. */
  readonly next: Item | undefined
  readonly serial: number
  readonly at: number
  readonly by: string
}

/** Throws E_CONFLICT, naming what may be done now, for a step that its phase does not allow. */
export function assertPossible(phase: RotationPhase, action: RotationAction, subject: RotationSubject): void {
  if (transitions[action].from === phase) return
  const possible = Object.entries(transitions).filter(([, { from }]) => from === phase)
  const words = possible.map(([name]) => `"hostlet rotate ${subject} ${name}"`).join(' or ')
  throw new HostletError(
    'E_CONFLICT',
    `the rotation of the ${nameOf(subject)} is ${phase}: ${action} is not possible now. Possible: ${words}.`,
    { details: { phase } }
  )
}

/** The rotation after a step that is possible, and what hosts stop to believe with it. */
export function stepped<Item>(
  rotation: Rotation<Item>,
  { action, next, serial, at, by }: Change<Item>
): { rotation: Rotation<Item>; dropped: Item | undefined } {
  const { active, other } = rotation
  const changed = { phase: transitions[action].to, serial, changedAt: at, changedBy: by }
  if (action === 'start') return { rotation: { ...changed, active, other: next }, dropped: undefined }
  if (action === 'finish' || action === 'abort')
    return { rotation: { ...changed, active, other: undefined }, dropped: other }
  return { rotation: { ...changed, active: other ?? active, other: active }, dropped: undefined }
}

/** What hosts are told in this state. */
export function statementOf(state: TrustState, trustDomain: string, issuedAt: number): TrustStatement {
  const { serial, commandKey, authority, retired, renewWithinMs } = state
  const live = withRoles(authority).map(({ item, role }) => ({ certificate: item, role }))
  const room = authoritiesMax - live.length
  return {
    trustDomain,
    serial,
    issuedAt,
    commandKeys: withRoles(commandKey).map(({ item, role }) => ({ key: item, role })),
    authorities: [
      ...live,
      ...retired.slice(-room).map((certificate) => ({ certificate, role: 'retired' as const }))
    ],
    renewWithinMs
  }
}

/** What hosts believe now, the active one first. */
export function withRoles<Item>({ phase, active, other }: Rotation<Item>) {
  const second = phase === 'prepared' ? ('next' as const) : ('previous' as const)
  return [
    { item: active, role: 'active' as const },
    ...(other === undefined ? [] : [{ item: other, role: second }])
  ]
}

export function nameOf(subject: RotationSubject): string {
  return subject === 'ca' ? 'CA' : 'command key'
}
