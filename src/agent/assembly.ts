// The parts of the agent, joined: each knows of the others only what is said here.

import { randomUUID } from 'node:crypto'
import { asHostletError } from '../errors.ts'
import type { Clock } from '../lib/clock.ts'
import type { OutputLogger } from '../lib/log-output.ts'
import { release } from '../lib/release.ts'
import { type AgentMessageOf, protocolVersion } from '../protocol/messages.ts'
import type { BackupRecords } from './backups/records.ts'
import { acknowledgeBackups, createSchedules, keepReport, prunedTogether } from './backups/schedule-join.ts'
import type { AgentConfig } from './config.ts'
import { HealthMonitor } from './health/monitor.ts'
import type { Host } from './host/host.ts'
import type { Hypervisor, Wait } from './host/hypervisor.ts'
import { HostKeeper } from './host-keeper.ts'
import { checkIdentity, tlsSettings } from './identity/certificates.ts'
import type { Identity } from './identity/identity.ts'
import { Renewal } from './identity/renewal.ts'
import { awaitingKeys, keysOnline } from './keys/escrow-join.ts'
import { acknowledgeErasures, ErasureRecords, keepErasure } from './lifecycle/erasure-records.ts'
import { Retention } from './lifecycle/retention.ts'
import { MetricsBuffer } from './metrics/buffer.ts'
import { Sampler } from './metrics/sampler.ts'
import { CommandVerifier } from './operations/command-verifier.ts'
import { Dispatcher } from './operations/dispatch.ts'
import type { Journal } from './operations/journal.ts'
import { Turns } from './operations/turns.ts'
import { SharesKeeper } from './resources/shares-keeper.ts'
import { reportHealth } from './session/health-events.ts'
import { InventoryReporter, type InventorySources } from './session/inventory.ts'
import { Outbox } from './session/outbox.ts'
import { Session, type SessionOptions } from './session/session.ts'
import { openSocket } from './session/socket.ts'
import { VmEvents } from './session/vm-events.ts'
import { verbs } from './verbs/registry.ts'

/** How long operations may take to come to a stop between two steps. */
export const stopGraceMs = 15_000

export interface Parts {
  readonly config: AgentConfig
  readonly clock: Clock
  readonly log: OutputLogger
  readonly random: () => number
  readonly identity: CurrentIdentity
  readonly journal: Journal
  /** For tests; a socket over TLS otherwise. */
  readonly connect?: SessionOptions['connect']
}

export interface HostParts extends Parts {
  readonly records: BackupRecords
  readonly hypervisor: Hypervisor
  readonly host: Host
}

export interface Work {
  begin(): void
  line(): string
  isWell(): boolean
}

/** The identity that renewal replaces while the agent runs. */
export interface CurrentIdentity {
  value: Identity
}

/** Joins the parts, which know of one another only what is said here. What must be ended is put on the stack. */
export function assemble(parts: HostParts, stack: AsyncDisposableStack): Work {
  const { config, clock, log, random, identity, journal, hypervisor, host, records } = parts
  const buffer = new MetricsBuffer({ samplesMax: config.metrics.bufferMax })
  const erasures = new ErasureRecords({ database: journal.database })
  const outbox = new Outbox({
    results: () => dispatcher.unacknowledged(),
    backups: () => records.unacknowledged(),
    erasures: () => erasures.unacknowledged(),
    metrics: buffer
  })
  const inventory = createInventory(parts, (message) => {
    outbox.post(message)
    keeper.seen(message.vms)
  })
  const turns = new Turns()
  const keeper = new HostKeeper({
    host,
    clock,
    log,
    journal: prunedTogether(journal, records),
    hold: (vm, signal) => turns.hold(vm, signal),
    onReconciled: (failed) => host.keys.watch.noteAwaited(awaitingKeys(failed)),
    onReady: () => {
      shares.ready()
      host.keys.watch.look()
      schedules.refresh()
      retention.refresh()
      void inventory.refresh()
    }
  })
  // While libvirt is away there is nothing to see, and its return brings a look.
  const lookAnew = () => {
    if (keeper.isReady()) void inventory.refresh()
  }
  const dispatcher = createDispatcher(parts, {
    readiness: keeper,
    turns,
    outbox,
    onChanged: () => {
      host.keys.watch.look()
      schedules.refresh()
      retention.refresh()
      void inventory.refresh()
    },
    onBackup: () => {
      schedules.refresh()
      outbox.tellBackups()
    },
    onErasure: () => outbox.tellErasures(),
    erasures
  })
  const schedules = createSchedules({
    ...parts,
    readiness: keeper,
    reports: outbox,
    operations: dispatcher,
    runsAtOnceMax: config.backup.concurrencyMax
  })
  const vms = (wait: Wait) => hypervisor.listVms(wait)
  const retention = new Retention({ vms, readiness: keeper, operations: dispatcher, clock, log })
  const health = new HealthMonitor({
    clock,
    log,
    hypervisor,
    journal,
    leftovers: () => dispatcher.leftovers,
    seedsInMemory: () => host.seeds.inMemory,
    firewall: () => host.firewall.fault,
    backups: () => schedules.health(),
    keys: () => host.keys.watch.health(),
    identity: () => identity.value
  })
  const sampler = new Sampler({
    hypervisor,
    clock,
    log,
    intervalMs: config.metrics.intervalMs,
    onSample: (sample) => {
      buffer.push(sample)
      health.notePool(sample.host)
      outbox.pump()
    }
  })
  const onOnline = () => {
    lookAnew()
    keysOnline(host.keys, keeper, log)
  }
  const peers = { outbox, dispatcher, health, sampler, erasures, onOnline }
  const session = createSession(parts, peers)
  host.keys.line.attach({ isOnline: () => session.isOnline, post: (message) => outbox.post(message) })
  const renewal = new Renewal(identity.value, {
    stateDirectory: config.stateDirectory,
    urls: urlsOf(parts),
    clock,
    log,
    random,
    onRenewed: (renewed) => {
      identity.value = renewed
    }
  })
  const events = new VmEvents({ hypervisor, clock, log, post: (event) => outbox.post(event), lookAnew })
  const shares = new SharesKeeper(host.resources)
  stack.use(shares)
  stack.use(reportHealth({ probes: host.health, clock, post: (event) => outbox.post(event), lookAnew }))
  stack.use(keeper)
  stack.use(inventory)
  stack.defer(() => session.stop())
  stack.defer(() => dispatcher.stop(stopGraceMs))
  stack.use(schedules)
  stack.use(retention)
  stack.defer(() => sampler.stop())
  stack.use(renewal)
  stack.use(events)
  stack.use(hypervisor.onEvent((event) => events.take(event)))
  stack.use(hypervisor.onEvent((event) => shares.note(event)))
  stack.use(hypervisor.addStartGate(host.resources.gate))
  stack.use(hypervisor.onStatus(() => session.beat()))
  stack.use(host.keys.onRotated(lookAnew))
  return {
    begin: () => {
      dispatcher.resume()
      schedules.begin()
      retention.begin()
      keeper.begin()
      hypervisor.open()
      sampler.start()
      renewal.start()
      session.start()
    },
    line: () => statusLine(session, hypervisor, keeper, dispatcher),
    isWell: () => health.selfCheck()
  }
}

function createInventory(
  { clock, log, hypervisor, host }: HostParts,
  post: (message: AgentMessageOf<'inventory'>) => void
): InventoryReporter {
  const sources: InventorySources = {
    facts: (wait) => host.facts.read(wait),
    vms: (wait) => host.vms.list(wait),
    foreign: (wait) => hypervisor.listForeign(wait)
  }
  return new InventoryReporter({ clock, log, sources, post })
}

interface SessionPeers {
  readonly outbox: Outbox
  readonly dispatcher: Dispatcher<Host>
  readonly health: HealthMonitor
  readonly sampler: Sampler
  readonly erasures: ErasureRecords
  onOnline(): void
}

function createSession(
  parts: HostParts,
  { outbox, dispatcher, health, sampler, erasures, onOnline }: SessionPeers
): Session {
  const { clock, log, random, identity, hypervisor, host, records } = parts
  const instance = randomUUID()
  return new Session({
    urls: urlsOf(parts),
    clock,
    log,
    random,
    outbox,
    connect: (url, handlers) => {
      checkIdentity(identity.value, clock.now())
      if (parts.connect !== undefined) return parts.connect(url, handlers)
      return openSocket(url, tlsSettings(identity.value), handlers)
    },
    hello: () => helloOf(identity.value.hostId, instance, clock),
    heartbeat: () => ({
      type: 'heartbeat',
      sentAt: clock.now(),
      operationsRunning: dispatcher.running,
      operationsWaiting: dispatcher.waiting,
      hypervisor: hypervisor.status().state,
      conditions: health.conditions()
    }),
    onCommand: (jws, approvals) => void dispatcher.receive(jws, approvals),
    onResultAcknowledged: (command) => acknowledge(dispatcher, command, log),
    onBackupsAcknowledged: (operations) => acknowledgeBackups(operations, { records, reports: outbox, log }),
    onErasuresAcknowledged: (ids) => acknowledgeErasures(ids, { erasures, reports: outbox, log }),
    onDiskKeys: (answer) => host.keys.escrow?.take(answer),
    onIntervals: ({ metricsIntervalMs }) => sampler.setInterval(metricsIntervalMs),
    onWelcome: (sentAt) => health.noteSchedulerClock(sentAt),
    onOnline
  })
}

function urlsOf({ config, identity }: Parts): readonly string[] {
  return config.schedulerUrls ?? identity.value.schedulerUrls
}

interface DispatcherPeers {
  readonly turns: Turns
  readonly readiness: HostKeeper
  readonly outbox: Outbox
  onChanged(): void
  readonly erasures: ErasureRecords
  /** A backup has ended, well or not. */
  onBackup(): void
  /** A VM was erased that no command asked for. */
  onErasure(): void
}

function createDispatcher(
  { config, clock, log, random, identity, journal, hypervisor, host, records }: HostParts,
  { readiness, turns, outbox, erasures, onChanged, onBackup, onErasure }: DispatcherPeers
): Dispatcher<Host> {
  return new Dispatcher<Host>({
    host,
    verbs,
    journal,
    clock,
    log,
    random,
    readiness,
    turns,
    onChanged,
    onEnd: (entry, result) => {
      if (keepReport(records, entry, result)) queueMicrotask(onBackup)
      if (keepErasure(erasures, entry, result)) queueMicrotask(onErasure)
    },
    verifier: new CommandVerifier({
      hostId: identity.value.hostId,
      keys: () => identity.value.commandKeys,
      clock
    }),
    generationOf: async ({ vm, uuid }, signal) => {
      const record = await hypervisor.findVm(vm, { signal })
      return record?.specification.uuid === uuid ? record.generation : 0
    },
    emit: (message) => outbox.post(message),
    concurrencyMax: config.operations.concurrencyMax,
    transfersMax: config.backup.concurrencyMax,
    waitingMax: config.operations.waitingMax
  })
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

/** For `systemctl status`: where the agent is connected, what runs. */
function statusLine(
  session: Session,
  hypervisor: Hypervisor,
  keeper: HostKeeper,
  dispatcher: Dispatcher<Host>
): string {
  const scheduler = session.isOnline ? `Connected to ${session.peer}` : 'Scheduler away'
  const vms = hypervisor.status().state === 'connected' ? `${keeper.vms} VMs` : 'libvirt away'
  const operations = dispatcher.running + dispatcher.waiting
  return `${scheduler}; ${vms}; ${operations} operations`
}
