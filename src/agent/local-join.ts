// The local socket, joined to the parts that it tells of. Other parts mount what they have to show in `localRoutes`.

import type { LocalStatus } from '../protocol/local.ts'
import type { BackupScheduler } from './backups/schedule.ts'
import type { HealthMonitor } from './health/monitor.ts'
import type { Host } from './host/host.ts'
import { validityOf } from './identity/certificates.ts'
import type { Renewal } from './identity/renewal.ts'
import type { LocalRoute } from './local/server.ts'
import { type Seen, statusRoutes } from './local/status.ts'
import type { Exporter } from './metrics/exporter.ts'
import type { Dispatcher } from './operations/dispatch.ts'
import type { Turns } from './operations/turns.ts'
import type { HostParts } from './parts.ts'
import type { Session } from './session/session.ts'

export interface LocalPeers {
  readonly seen: Seen
  readonly turns: Turns
  readonly session: Session
  readonly dispatcher: Dispatcher<Host>
  readonly health: HealthMonitor
  readonly schedules: BackupScheduler
  readonly renewal: Renewal
  readonly exporter: Exporter
}

/** Everything that the socket answers. */
export function localRoutes(parts: HostParts, peers: LocalPeers): readonly LocalRoute[] {
  const { clock, identity, journal, hypervisor } = parts
  const { seen, turns, session, dispatcher, health, schedules, renewal, exporter } = peers
  const routes = statusRoutes({
    host: identity.value.hostId,
    clock,
    startedAt: clock.now(),
    seen,
    journal,
    queue: turns,
    scheduler: () => session.standing,
    hypervisor: () => hypervisor.status(),
    certificate: () => certificateOf(identity.value.certificate, renewal),
    drainingSince: () => dispatcher.drainingSince,
    conditions: () => health.conditions(),
    backups: () => schedules.health(),
    nextBackupAt: (uuid) => schedules.nextAt(uuid)
  })
  return [...routes, { path: '/metrics', handle: () => exporter.handle() }]
}

/** One that cannot be read is told of by a condition. */
function certificateOf(certificate: string, { dueAt }: Renewal): LocalStatus['certificate'] {
  try {
    return { expiresAt: validityOf(certificate).to, renewsAt: Math.round(dueAt) }
  } catch {
    return {}
  }
}
