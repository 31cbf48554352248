// The connection to the scheduler, joined to the parts that it speaks for.

import { randomUUID } from 'node:crypto'
import { asHostletError, type HostletError } from '../errors.ts'
import type { Clock } from '../lib/clock.ts'
import type { OutputLogger } from '../lib/log-output.ts'
import { release } from '../lib/release.ts'
import { type AgentMessageOf, protocolVersion } from '../protocol/messages.ts'
import { acknowledgeBackups } from './backups/schedule-join.ts'
import type { HealthMonitor } from './health/monitor.ts'
import type { Host } from './host/host.ts'
import type { Hypervisor } from './host/hypervisor.ts'
import { checkIdentity, tlsSettings } from './identity/certificates.ts'
import { checkMachine } from './identity/machine.ts'
import type { TrustKeeper } from './identity/trust-keeper.ts'
import { acknowledgeErasures, type ErasureRecords } from './lifecycle/erasure-records.ts'
import { waitingOperations } from './local/operations.ts'
import type { Sampler } from './metrics/sampler.ts'
import type { Dispatcher } from './operations/dispatch.ts'
import type { Turns } from './operations/turns.ts'
import type { HostParts, Parts } from './parts.ts'
import type { Outbox } from './session/outbox.ts'
import { Session } from './session/session.ts'
import { openSocket } from './session/socket.ts'
import { ConnectionNotes } from './trail/connection-notes.ts'
import { verbs } from './verbs/registry.ts'

export interface SessionPeers {
  readonly outbox: Outbox
  readonly dispatcher: Dispatcher<Host>
  readonly turns: Turns
  readonly health: HealthMonitor
  readonly sampler: Sampler
  readonly erasures: ErasureRecords
  readonly trust: TrustKeeper
  /** What the last connection was opened with. */
  readonly opened: { certificate: string }
  onOnline(): void
  onRefused(error: HostletError): void
}

export function createSession(
  parts: HostParts,
  { outbox, dispatcher, turns, health, sampler, erasures, trust, opened, onOnline, onRefused }: SessionPeers
): Session {
  const { clock, log, random, identity, machine, hypervisor, host, records } = parts
  const instance = randomUUID()
  const connections = new ConnectionNotes(parts.trail)
  return new Session({
    urls: urlsOf(parts),
    clock,
    log,
    random,
    outbox,
    connect: (url, handlers) => {
      checkMachine(identity.value, machine)
      checkIdentity(identity.value, clock.now())
      opened.certificate = identity.value.certificate
      const watched = connections.watched(url, handlers)
      return parts.connect?.(url, watched) ?? openSocket(url, tlsSettings(identity.value), watched)
    },
    hello: () => ({ ...helloOf(identity.value.hostId, instance, clock), trustSerial: trust.serial }),
    heartbeat: () => ({
      type: 'heartbeat',
      ...waitsOf(turns, hypervisor),
      sentAt: clock.now(),
      operationsRunning: dispatcher.running,
      operationsWaiting: dispatcher.waiting,
      hypervisor: hypervisor.status().state,
      ...(dispatcher.drainingSince !== undefined && { drainingSince: dispatcher.drainingSince }),
      conditions: health.conditions()
    }),
    onCommand: (jws, approvals) => void dispatcher.receive(jws, approvals, outbox.refusing()),
    onResultAcknowledged: (command) => acknowledge(dispatcher, command, log),
    onBackupsAcknowledged: (operations) => acknowledgeBackups(operations, { records, reports: outbox, log }),
    onErasuresAcknowledged: (ids) => acknowledgeErasures(ids, { erasures, reports: outbox, log }),
    onDiskKeys: (answer) => host.keys.escrow?.take(answer),
    onTrust: (statements) => outbox.post(trust.take(statements)),
    onIntervals: ({ metricsIntervalMs }) => sampler.setInterval(metricsIntervalMs),
    onBytes: (data) => host.consoleSessions.receive(data),
    onOffline: () => host.consoleSessions.disconnected(),
    onAudit: (message) => void parts.trail.takeAnswer(message),
    onWelcome: (sentAt) => health.noteSchedulerClock(sentAt),
    onClock: (sentAt, heartbeatSentAt) => health.noteSchedulerClock(sentAt, heartbeatSentAt),
    onOnline: () => {
      connections.online()
      onOnline()
    },
    onRefused
  })
}

/** Absent where nothing waits. */
function waitsOf(queue: Turns, hypervisor: Hypervisor): Pick<AgentMessageOf<'heartbeat'>, 'waits'> {
  const waits = waitingOperations({ queue, hypervisor: () => hypervisor.status() })
  return waits.length === 0 ? {} : { waits }
}

export function isOwnMachine({ identity, machine }: Parts): boolean {
  try {
    checkMachine(identity.value, machine)
    return true
  } catch {
    // The session says why, and does not connect.
    return false
  }
}

export function urlsOf({ config, identity }: Parts): readonly string[] {
  return config.schedulerUrls ?? identity.value.schedulerUrls
}

function helloOf(hostId: string, instance: string, clock: Clock): AgentMessageOf<'hello'> {
  return {
    type: 'hello',
    protocol: protocolVersion,
    agentVersion: release,
    hostId,
    instance,
    sentAt: clock.now(),
    verbs: verbs.map(({ name }) => name)
  }
}

/** A journal that cannot be written now keeps the result: it is sent and acknowledged again. */
function acknowledge(dispatcher: Dispatcher<Host>, command: string, log: OutputLogger): void {
  try {
    dispatcher.acknowledge(command)
  } catch (error) {
    log.warn({ command, error: asHostletError(error) }, 'acknowledgement could not be recorded')
  }
}
