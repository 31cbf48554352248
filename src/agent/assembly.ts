// The parts of the agent, joined: each knows of the others only what is said here.

import type { HostletError } from '../errors.ts'
import type { DriftItem } from '../protocol/drift.ts'
import type { AgentMessageOf } from '../protocol/messages.ts'
import { createSchedules, keepReport, prunedTogether } from './backups/schedule-join.ts'
import { consoleNotes } from './console/notes.ts'
import { DriftWatch } from './drift/watch.ts'
import { HealthMonitor } from './health/monitor.ts'
import type { Host } from './host/host.ts'
import type { Hypervisor, Wait } from './host/hypervisor.ts'
import { HostKeeper } from './host-keeper.ts'
import { validityOf } from './identity/certificates.ts'
import { Renewal } from './identity/renewal.ts'
import { TrustKeeper } from './identity/trust-keeper.ts'
import { adoptedNames, noteVms, withDrift } from './inventory/join.ts'
import { awaitingKeys, keysOnline } from './keys/escrow-join.ts'
import { ErasureRecords, keepErasure } from './lifecycle/erasure-records.ts'
import { Retention } from './lifecycle/retention.ts'
import type { Seen } from './local/status.ts'
import { localRoutes } from './local-join.ts'
import { AgentTallies } from './metrics/agent-tallies.ts'
import { MetricsBuffer } from './metrics/buffer.ts'
import { Sampler } from './metrics/sampler.ts'
import { createExporter, serveMetrics } from './metrics-join.ts'
import { CommandVerifier } from './operations/command-verifier.ts'
import { Dispatcher } from './operations/dispatch.ts'
import { Turns } from './operations/turns.ts'
import type { HostParts } from './parts.ts'
import { HostGate } from './policy/host-gate.ts'
import { SharesKeeper } from './resources/shares-keeper.ts'
import { Handover } from './session/handover.ts'
import { reportHealth } from './session/health-events.ts'
import { InventoryReporter, type InventorySources } from './session/inventory.ts'
import { Outbox } from './session/outbox.ts'
import type { Session } from './session/session.ts'
import { VmEvents } from './session/vm-events.ts'
import { createSession, isOwnMachine, urlsOf } from './session-join.ts'
import { verbs } from './verbs/registry.ts'

/** Refusals, our own and the scheduler's, after which a renewal may help. */
const renewableReasons: ReadonlySet<unknown> = new Set(['expired', 'expired-certificate'])

/** How long operations may take to come to a stop between two steps. */
export const stopGraceMs = 15_000

export interface Work {
  begin(): void
  /** Opens the port of the metrics, where the configuration has one. */
  openMetrics(): Promise<void>
  line(): string
  isWell(): boolean
}

/** Joins the parts, which know of one another only what is said here. What must be ended is put on the stack. */
export function assemble(parts: HostParts, stack: AsyncDisposableStack): Work {
  const { config, clock, log, random, identity, journal, hypervisor, host, records, known, trail } = parts
  const buffer = new MetricsBuffer({ samplesMax: config.metrics.bufferMax })
  const tallies = new AgentTallies()
  const erasures = new ErasureRecords({ database: journal.database })
  const outbox = new Outbox({
    results: () => dispatcher.unacknowledged(),
    backups: () => records.unacknowledged(),
    erasures: () => erasures.unacknowledged(),
    metrics: buffer,
    disk: journal.database
  })
  const turns = new Turns(clock)
  const seen: Seen = {}
  const inventory = createInventory(
    parts,
    (message) => {
      outbox.post(message)
      keeper.seen(message.vms)
      noteVms(known, message.vms, log)
      seen.inventory = message
    },
    { isReady: () => keeper.isReady(), driftOf: (uuid) => drift.of(uuid) }
  )
  const keeper = new HostKeeper({
    host,
    clock,
    log,
    journal: prunedTogether(journal, records),
    turns,
    onReconciled: (failed) => {
      host.keys.watch.noteAwaited(awaitingKeys(failed))
      seen.notStarted = failed
    },
    onReady: () => {
      shares.ready()
      host.keys.watch.look()
      schedules.refresh()
      retention.refresh()
      drift.refresh()
      void inventory.refresh()
    }
  })
  // While libvirt is away there is nothing to see, and its return brings a look.
  const lookAnew = () => {
    if (keeper.isReady()) void inventory.refresh()
  }
  const gate = createGate(parts)
  const dispatcher = createDispatcher(parts, {
    gate,
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
    onDrain: () => {
      session.beat()
      schedules.refresh()
    },
    erasures,
    tallies
  })
  const schedules = createSchedules({
    ...parts,
    readiness: keeper,
    reports: outbox,
    operations: dispatcher,
    runsAtOnceMax: config.backup.concurrencyMax,
    isPaused: () => dispatcher.drainingSince !== undefined
  })
  const drift = new DriftWatch({
    host,
    readiness: keeper,
    operations: dispatcher,
    clock,
    log,
    post: (event) => outbox.post(event),
    onChanged: lookAnew
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
    trail: () => trail.fault(),
    machine: parts.machine,
    inventory: () => ({
      drift: drift.health(),
      orphans: host.orphans.counts,
      adopted: adoptedNames(known, clock)
    }),
    policy: () => gate.fault,
    localSocket: () => parts.local?.fault,
    trust: () => trust.fault,
    identity: () => identity.value
  })
  const sampler = new Sampler({
    hypervisor,
    clock,
    log,
    intervalMs: config.metrics.intervalMs,
    onSample: (sample) => {
      buffer.push(sample)
      seen.sample = sample
      health.notePool(sample.host)
      outbox.pump()
    }
  })
  const onOnline = () => {
    tallies.connected()
    lookAnew()
    keysOnline(host.keys, keeper, log)
    trail.online((message) => outbox.post(message))
  }
  const onRefused = ({ details }: HostletError) => {
    if (renewableReasons.has(details.reason)) renewal.hurry()
  }
  const trust = new TrustKeeper({
    identity,
    stateDirectory: config.stateDirectory,
    log,
    onAdopted: () => {
      renewal.reconsider()
      trail.noteIdentity()
    }
  })
  const opened = { certificate: '' }
  const peers = { outbox, dispatcher, turns, health, sampler, erasures, trust, opened, onOnline, onRefused }
  const session = createSession(parts, peers)
  host.consoleSessions.attach(session, consoleNotes(trail))
  host.keys.line.attach({ isOnline: () => session.isOnline, post: (message) => outbox.post(message) })
  const handover = new Handover({
    session,
    clock,
    log,
    isCurrent: () => opened.certificate === identity.value.certificate,
    isQuiet: () => dispatcher.running + dispatcher.waiting + host.consoleSessions.size === 0
  })
  const renewal = new Renewal(identity, {
    stateDirectory: config.stateDirectory,
    urls: urlsOf(parts),
    clock,
    log,
    random,
    onRenewed: (renewed, before) => {
      session.nudge()
      handover.begin(validityOf(before.certificate).to)
      trail.record('identity.renewed', { expiresAt: validityOf(renewed.certificate).to })
      trail.noteIdentity()
    }
  })
  const events = new VmEvents({ hypervisor, clock, log, post: (event) => outbox.post(event), lookAnew })
  const exporter = createExporter(parts, {
    ...{ tallies, seen, buffer, sampler, health, schedules, session, dispatcher }
  })
  const told = { seen, turns, session, dispatcher, health, schedules, renewal, exporter }
  parts.local?.mount(localRoutes(parts, told))
  const shares = new SharesKeeper(host.resources)
  stack.use(shares)
  stack.use(reportHealth({ probes: host.health, clock, post: (event) => outbox.post(event), lookAnew }))
  stack.use(keeper)
  stack.use(inventory)
  stack.defer(() => session.stop())
  stack.use(host.consoleSessions)
  stack.defer(() => dispatcher.stop(stopGraceMs))
  stack.use(schedules)
  stack.use(retention)
  stack.use(drift)
  stack.defer(() => sampler.stop())
  stack.use(renewal)
  stack.use(events)
  stack.use(handover)
  stack.use(hypervisor.onEvent((event) => events.take(event)))
  stack.use(hypervisor.onEvent((event) => shares.note(event)))
  stack.use(hypervisor.onEvent((event) => drift.note(event)))
  stack.use(hypervisor.addStartGate(host.resources.gate))
  stack.use(hypervisor.onStatus(() => session.beat()))
  stack.use(host.keys.onRotated(lookAnew))
  stack.use(host.keys.onRotated(() => trail.record('keys.rotated')))
  stack.use(
    host.orphans.onRemoved(({ kind: what, name }) => trail.record('leftover.removed', { what, name }))
  )
  return {
    begin: () => {
      // A copy of this host's state on another machine knows nothing of what has become of its operations.
      if (isOwnMachine(parts)) dispatcher.resume()
      schedules.begin()
      retention.begin()
      drift.begin()
      keeper.begin()
      hypervisor.open()
      sampler.start()
      // A copy must not renew: it would take the certificate from the host that it was copied from.
      if (isOwnMachine(parts)) renewal.start()
      session.start()
    },
    openMetrics: async () => {
      const listener = await serveMetrics(parts, exporter)
      if (listener !== undefined) stack.use(listener)
    },
    line: () => statusLine(session, hypervisor, keeper, dispatcher),
    isWell: () => health.selfCheck()
  }
}

function createInventory(
  { clock, log, hypervisor, host }: HostParts,
  post: (message: AgentMessageOf<'inventory'>) => void,
  of: { isReady(): boolean; driftOf(uuid: string): readonly DriftItem[] | undefined }
): InventoryReporter {
  const sources: InventorySources = {
    facts: (wait) => host.facts.read(wait),
    vms: async (wait) => (await host.vms.list(wait)).map((vm) => withDrift(vm, of.driftOf(vm.uuid))),
    foreign: (wait) => hypervisor.listForeign(wait)
  }
  return new InventoryReporter({ clock, log, sources, post, isReady: of.isReady })
}

function createGate({ config, clock, log, identity, hypervisor, trail }: HostParts): HostGate {
  return new HostGate({
    policyPath: config.backup.policy,
    stateDirectory: config.stateDirectory,
    verbs,
    hypervisor,
    commandKeys: () => identity.value.commandKeys,
    clock,
    log,
    onPolicy: (seen) => trail.record('policy', { ...seen })
  })
}

interface DispatcherPeers {
  readonly gate: HostGate
  readonly turns: Turns
  readonly readiness: HostKeeper
  readonly outbox: Outbox
  onChanged(): void
  readonly erasures: ErasureRecords
  readonly tallies: AgentTallies
  /** A backup has ended, well or not. */
  onBackup(): void
  /** A VM was erased that no command asked for. */
  onErasure(): void
  onDrain(): void
}

function createDispatcher(
  { config, clock, log, random, identity, journal, hypervisor, host, records, trail }: HostParts,
  {
    gate,
    turns,
    readiness,
    outbox,
    erasures,
    tallies,
    onChanged,
    onBackup,
    onErasure,
    onDrain
  }: DispatcherPeers
): Dispatcher<Host> {
  return new Dispatcher<Host>({
    host,
    verbs,
    journal,
    clock,
    log,
    random,
    gate,
    readiness,
    turns,
    trail,
    onChanged,
    onDrain,
    onEnd: (entry, result) => {
      tallies.ended(entry, result)
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
