// The operations of this host as its local socket tells them: the journal's entries, with where each stands now.

import type { TransferProgress } from '../../protocol/backup.ts'
import type { LocalOperation } from '../../protocol/local.ts'
import type { OperationWait, WaitingOperation } from '../../protocol/waiting.ts'
import { waitsMax } from '../../protocol/waiting.ts'
import type { HypervisorStatus } from '../host/hypervisor.ts'
import type { JournalEntry } from '../operations/journal.ts'
import type { Standing } from '../operations/standing.ts'

/** What is known of those that have not ended. */
export interface Queue {
  standings(): readonly Standing[]
}

export interface Waits {
  readonly queue: Queue
  hypervisor(): HypervisorStatus
}

/** What an operation waits for; undefined when it waits for nothing. */
export function waitOf(standing: Standing, { queue, hypervisor }: Waits): OperationWait | undefined {
  const { lock, place, since } = standing
  if (lock !== undefined) return lockWait(standing, lock, queue.standings())
  if (place !== undefined)
    return { kind: 'place', since, what: `a place for ${placeName(place.lane)}`, ahead: place.ahead ?? 0 }
  const status = hypervisor()
  // What has no lock touches no VM.
  if (status.state === 'connected' || standing.keys[0]?.startsWith('none:')) return undefined
  return { kind: 'libvirt', since: Math.max(since, status.since), what: 'libvirt to answer', ahead: 0 }
}

/** Of the operations that wait, what for: a bounded number. */
export function waitingOperations(waits: Waits): WaitingOperation[] {
  const found = waits.queue.standings().flatMap((standing) => {
    const wait = waitOf(standing, waits)
    return wait === undefined ? [] : [{ command: standing.id, wait }]
  })
  return found.slice(0, waitsMax)
}

function lockWait(
  { since }: Standing,
  { key, number }: NonNullable<Standing['lock']>,
  all: readonly Standing[]
): OperationWait | undefined {
  const holder = all.find(({ held }) => held.has(key))
  const ahead = all.filter(({ lock }) => lock?.key === key && lock.number < number).length
  return {
    kind: 'lock',
    since,
    what: lockName(key),
    ...(holder && { holder: holder.id, ...(holder.verb !== '' && { holderVerb: holder.verb }) }),
    ahead
  }
}

const lockNames: Readonly<Record<string, (name: string) => string>> = {
  vm: (name) => `VM ${name}`,
  backup: (name) => `the backups of ${name}`,
  host: () => 'the host as a whole',
  image: (name) => `image ${name.slice(0, 16)}`
}

function lockName(key: string): string {
  const at = key.indexOf(':')
  const [kind, name] = [key.slice(0, at), key.slice(at + 1)]
  return (lockNames[kind]?.(name) ?? key).slice(0, 256)
}

const places: Readonly<Record<string, string>> = {
  work: 'operations ("operations.concurrencyMax")',
  transfer: 'transfers ("backup.concurrencyMax")',
  urgent: 'stops and teardowns',
  control: 'cancellations',
  host: 'what waits for the host'
}

function placeName(lane = ''): string {
  return places[lane] ?? 'operations'
}

export function localOperation(
  entry: JournalEntry,
  standing: Standing | undefined,
  waits: Waits
): LocalOperation {
  const { id, claims, origin, acceptedAt, startedAt, finishedAt, attempts, cancelled, failure } = entry
  const error = entry.result?.error ?? failure
  return {
    id,
    verb: claims.verb,
    ...(claims.subject && { vm: claims.subject.vm }),
    origin,
    state: stateOf(entry, standing),
    acceptedAt,
    ...(startedAt !== undefined && { startedAt }),
    ...(finishedAt !== undefined && { finishedAt }),
    attempts,
    ...(cancelled && { cancelled }),
    ...(standing && whereItIs(standing, waits)),
    ...(error && { error })
  }
}

function stateOf({ state }: JournalEntry, standing: Standing | undefined): LocalOperation['state'] {
  if (state === 'done' || state === 'failed' || state === 'undoing') return state
  return standing?.isRunning && state === 'running' ? 'running' : 'waiting'
}

function whereItIs(standing: Standing, waits: Waits): Partial<LocalOperation> {
  const { report, trouble } = standing
  const wait = waitOf(standing, waits)
  return {
    ...(report && {
      step: report.step.slice(0, 256),
      stepIndex: report.stepIndex,
      steps: report.steps,
      ...(Number.isFinite(report.ratio) && { ratio: report.ratio }),
      ...(report.note !== undefined && { note: report.note }),
      ...(report.transfer && { transfer: whole(report.transfer) })
    }),
    ...(wait && { wait }),
    ...(trouble && { trouble })
  }
}

/** Rates and rests are divisions. */
function whole(transfer: TransferProgress): TransferProgress {
  const pairs = Object.entries(transfer).filter(([, value]) => Number.isFinite(value))
  return Object.fromEntries(
    pairs.map(([key, value]) => [key, Math.max(0, Math.round(value))])
  ) as TransferProgress
}
