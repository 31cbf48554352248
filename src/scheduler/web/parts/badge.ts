// States as coloured words: the colour says how bad it is, the word says what it is.

import { html } from 'htm/preact'
import type { OperationView, VmView } from '../../../protocol/api.ts'

export type Tone = 'ok' | 'busy' | 'warning' | 'bad' | 'quiet'

const tones: Readonly<Record<string, Tone>> = {
  // VMs
  running: 'ok',
  paused: 'warning',
  stopping: 'busy',
  stopped: 'quiet',
  crashed: 'bad',
  suspended: 'warning',
  unknown: 'warning',
  pending: 'busy',
  retained: 'quiet',
  missing: 'bad',
  // Hosts
  new: 'busy',
  connected: 'ok',
  draining: 'warning',
  away: 'bad',
  revoked: 'quiet',
  // Services
  healthy: 'ok',
  unhealthy: 'bad',
  // Conditions and drift
  info: 'quiet',
  warning: 'warning',
  critical: 'bad'
}

const operationTones: Readonly<Record<OperationView['state'], Tone>> = {
  waiting: 'quiet',
  sent: 'busy',
  running: 'busy',
  done: 'ok',
  failed: 'bad',
  expired: 'bad'
}

export function Badge({ state, tone, title }: { state: string; tone?: Tone; title?: string }) {
  return html`<span class=${`badge ${tone ?? tones[state] ?? 'quiet'}`} title=${title}>${state}</span>`
}

export function OperationBadge({ operation }: { operation: OperationView }) {
  const { state, awaits, error } = operation
  if (awaits !== undefined) return html`<${Badge} state="awaits approval" tone="warning" />`
  if (error?.code === 'E_CANCELLED') return html`<${Badge} state="cancelled" tone="quiet" />`
  return html`<${Badge} state=${state} tone=${operationTones[state]} />`
}

/** Beside the state: what of it is old, or not as wanted. */
export function VmBadge({ vm }: { vm: VmView }) {
  const isAsWanted = vm.wanted === vm.state || (vm.state !== 'running' && vm.state !== 'stopped')
  return html`<span class="badges">
    <${Badge} state=${vm.state} title=${vm.reason} />
    ${!isAsWanted && html`<${Badge} state=${`wanted ${vm.wanted}`} tone="warning" />`}
    ${!vm.fresh && vm.state !== 'pending' && html`<${Badge} state="last known" tone="quiet" title=${vm.reason} />`}
    ${(vm.drift?.length ?? 0) > 0 && html`<${Badge} state="drift" tone="warning" />`}
    ${vm.health?.some(({ state }) => state === 'unhealthy') && html`<${Badge} state="unhealthy" />`}
  </span>`
}
