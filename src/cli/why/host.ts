// Why a host is not as it should be: away, without libvirt, drained, or with a condition.

import { clockSkewMsMax } from '../../protocol/command.ts'
import { forbiddingConditions } from '../../scheduler/placement/candidate.ts'
import { formatDuration, formatTime } from '../quantities.ts'
import type { Finding, HostFacts, OperationFacts, Why } from './facts.ts'

export interface HostContext {
  readonly now: number
  /** Those on it that have not ended. */
  readonly operations: readonly OperationFacts[]
}

export function explainHost(host: HostFacts, context: HostContext): Why {
  const { id, state, since } = host
  const troubles = hostTroubles(host, context.now)
  const findings = [...troubles, ...foreignFindings(host), ...operationFindings(context.operations)]
  return {
    kind: 'host',
    name: id,
    state,
    ...(since !== undefined && { since }),
    says: headline(host),
    findings,
    next: nextOf(host, troubles, context.operations)
  }
}

function headline({ id, state, reason, libvirt, drainingSince, conditions }: HostFacts): string {
  if (state !== 'connected')
    return `host ${id} is ${state === 'new' ? 'not connected yet' : state}: ${reason ?? 'the reason is not known'}`
  if (libvirt === 'away') return `host ${id} does not reach its libvirt; its VMs run on`
  if (drainingSince !== undefined) return `host ${id} is drained: it takes no new work, its VMs run on`
  const critical = conditions.filter(({ severity }) => severity === 'critical')
  if (critical.length > 0)
    return `host ${id} is in ${criticalText(critical.map((condition) => condition.id))}`
  const warnings = conditions.filter(({ severity }) => severity === 'warning').length
  if (warnings === 0) return `host ${id} is well`
  return `host ${id} works, and ${warnings === 1 ? '1 condition wants' : `${warnings} conditions want`} a look`
}

function criticalText(ids: readonly string[]): string {
  const what = ids.length === 1 ? 'a critical condition' : `${ids.length} critical conditions`
  const effect = ids.some((id) => forbiddingConditions.has(id)) ? '; it gets no new VMs meanwhile' : ''
  return `${what}: ${ids.join(', ')}${effect}`
}

/** What may keep a host or a VM on it from working. The worst first. */
export function hostTroubles(host: HostFacts, now: number): Finding[] {
  const { conditions, drainingSince, libvirt, libvirtReason, clockSkewMs, certificateExpiresAt } = host
  const found: Finding[] = conditions.map(({ id, message, since, severity }) => ({
    text: `${id}: ${message}`,
    since,
    severity
  }))
  if (libvirt === 'away' && libvirtReason !== undefined)
    found.push({ text: `libvirt is away: ${libvirtReason}`, severity: 'critical' })
  if (drainingSince !== undefined)
    found.push({ text: 'it is drained: it takes no new work', since: drainingSince, severity: 'warning' })
  if (clockSkewMs !== undefined && Math.abs(clockSkewMs) >= clockSkewMsMax && !has(conditions, 'clock-skew'))
    found.push({
      text: `its clock is ${formatDuration(Math.abs(clockSkewMs))} ${clockSkewMs > 0 ? 'ahead' : 'behind'}: look at "timedatectl" there`,
      severity: 'critical'
    })
  if (certificateExpiresAt !== undefined && certificateExpiresAt < now && !has(conditions, 'certificate'))
    found.push({
      text: `its certificate expired at ${formatTime(certificateExpiresAt)}; the agent renews it when it connects, within the grace of the scheduler`,
      severity: 'warning'
    })
  return found.sort((a, b) => rankOf(a) - rankOf(b))
}

function has(conditions: HostFacts['conditions'], id: string): boolean {
  return conditions.some((condition) => condition.id === id)
}

function rankOf({ severity = 'info' }: Finding): number {
  return ['critical', 'warning', 'info'].indexOf(severity)
}

/** Domains that carry something of ours and are left alone. */
function foreignFindings({ foreign }: HostFacts): Finding[] {
  return foreign
    .filter(({ reason }) => reason !== 'other')
    .map(({ name, reason, detail }) => ({
      text: `domain ${name} is quarantined (${reason}${detail === undefined ? '' : `: ${detail}`}) and never touched`,
      severity: 'warning'
    }))
}

function operationFindings(operations: readonly OperationFacts[]): Finding[] {
  return operations.map(({ id, verb, vm, state, since, wait }) => ({
    text: `${verb}${vm === undefined ? '' : ` of ${vm}`} (${id}): ${state}${wait === undefined ? '' : `, waits for ${wait.what}`}`,
    since
  }))
}

function nextOf(
  host: HostFacts,
  troubles: readonly Finding[],
  operations: readonly OperationFacts[]
): string[] {
  const { id, state, libvirt, drainingSince } = host
  if (state === 'revoked')
    return [
      'enroll the machine anew: hostlet host token',
      `or forget its VMs: hostlet vm forget --host ${id}`
    ]
  if (state === 'new') return ['systemctl status hostlet   on the host', 'hostlet logs   on the host']
  if (state === 'away')
    return [
      'hostlet status   on the host says why it does not connect',
      'hostlet logs -n 50 -p warning   on the host',
      'VMs run on meanwhile'
    ]
  if (libvirt === 'away') return ['systemctl status libvirtd   on the host', 'hostlet doctor   on the host']
  const conditions = troubles.filter(({ severity }) => severity === 'critical' || severity === 'warning')
  return [
    ...(drainingSince === undefined ? [] : [`hostlet host resume ${id}   has it take work again`]),
    ...(conditions.length > (drainingSince === undefined ? 0 : 1)
      ? ['hostlet doctor   on the host looks closer, once you did as is said above']
      : []),
    ...(operations.some(({ wait }) => wait !== undefined)
      ? ['hostlet why OPERATION   for one that waits']
      : [])
  ]
}
