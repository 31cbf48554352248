// How far an operation is: a bar over all of its steps, and in words what it does now.

import { html } from 'htm/preact'
import type { OperationView } from '../../../protocol/api.ts'
import { bytes, bytesPerSecond, duration } from '../format.ts'

export function Progress({ operation }: { operation: OperationView }) {
  const { state, verb } = operation
  if (state !== 'running' && state !== 'sent' && state !== 'waiting') return null
  const ratio = ratioOf(operation)
  const percent = Math.round(ratio * 100)
  return html`<span class="progress">
    <span
      class=${`progress-bar ${state}`}
      role="progressbar"
      aria-label=${`Progress of ${verb}`}
      aria-valuemin="0"
      aria-valuemax="100"
      aria-valuenow=${percent}
    ><span style=${{ width: `${percent}%` }}></span></span>
    <span class="progress-text">${stepText(operation)}</span>
  </span>`
}

/** Over all steps, each as long as any other. */
export function ratioOf({ steps, stepIndex = 0, ratio = 0 }: OperationView): number {
  return steps === undefined ? 0 : Math.min(1, (stepIndex + ratio) / steps)
}

export function stepText(operation: OperationView): string {
  const { state, step, stepIndex, steps, ratio, note, transfer } = operation
  if (step === undefined) return state === 'running' ? 'begun' : 'waits for its host'
  const parts = [`${(stepIndex ?? 0) + 1}/${steps ?? '?'} ${step}`]
  if (ratio !== undefined) parts.push(`${Math.round(ratio * 100)} %`)
  if (transfer !== undefined) {
    parts.push(
      `${bytes(transfer.doneBytes)} of ${bytes(transfer.totalBytes)}`,
      bytesPerSecond(transfer.bytesPerSecond)
    )
    if (transfer.remainingMs !== undefined) parts.push(`${duration(transfer.remainingMs)} left`)
  }
  if (note !== undefined) parts.push(note)
  return parts.join(' · ')
}
