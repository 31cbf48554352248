// An agent without its socket: journal, dispatcher, host and outbox on real files, in a world outside of its process.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { BackupRecords } from '../../../src/agent/backups/records.ts'
import type { HostIdentity } from '../../../src/agent/backups/repositories.ts'
import { acknowledgeBackups, keepReport } from '../../../src/agent/backups/schedule-join.ts'
import { BootRecord } from '../../../src/agent/host/boot-record.ts'
import { createHost, type Host, type HostConfig } from '../../../src/agent/host/host.ts'
import { HostKeeper } from '../../../src/agent/host-keeper.ts'
import { noteVms } from '../../../src/agent/inventory/join.ts'
import { KnownVms } from '../../../src/agent/inventory/known-vms.ts'
import { ledgerOf } from '../../../src/agent/inventory/ledger.ts'
import { EscrowRecords } from '../../../src/agent/keys/escrow-records.ts'
import {
  acknowledgeErasures,
  ErasureRecords,
  keepErasure
} from '../../../src/agent/lifecycle/erasure-records.ts'
import { CommandVerifier } from '../../../src/agent/operations/command-verifier.ts'
import type { AgentDatabase } from '../../../src/agent/operations/database.ts'
import { Dispatcher } from '../../../src/agent/operations/dispatch.ts'
import { Journal } from '../../../src/agent/operations/journal.ts'
import { Turns } from '../../../src/agent/operations/turns.ts'
import { HostGate } from '../../../src/agent/policy/host-gate.ts'
import { profileOf } from '../../../src/agent/profiles.ts'
import { Outbox } from '../../../src/agent/session/outbox.ts'
import { Trail } from '../../../src/agent/trail/trail.ts'
import { verbs } from '../../../src/agent/verbs/registry.ts'
import { openStore } from '../../../src/backup/repository/open-store.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import type { CommandKey } from '../../../src/protocol/enrollment.ts'
import type { AgentMessage } from '../../../src/protocol/messages.ts'
import { hostId } from '../../support/signed-commands.ts'
import type { AgentStart } from './calls.ts'
import type { Gate } from './gate.ts'
import type { RemoteWorld } from './remote.ts'
import { requireWholeTrail } from './trail.ts'

/** What all agents of a campaign share, in a file. */
export interface Fixture {
  readonly identity: HostIdentity
  readonly commandKey: CommandKey
  readonly recovery: unknown
  /** Directory of images. */
  readonly images: string
}

export interface Finish {
  /** Operations and results that are left. */
  readonly open: number
  readonly draining: boolean
}

export interface Campaigner {
  receive(jws: string): void
  /** Has the agent begin the erase of a VM whose time is over, as it does by itself. */
  erase(vm: string): Promise<void>
  acknowledge(command: string): void
  /** Connects: what waits goes out. */
  attach(): void
  /** How many operations were left by an earlier run of it. */
  readonly unfinished: number
  /** Ends once nothing runs any more. */
  finish(): Promise<Finish>
}

export async function openAgent(
  { directory, neverReady }: AgentStart,
  {
    gate,
    world,
    fixture,
    send
  }: { gate: Gate; world: RemoteWorld; fixture: Fixture; send(message: AgentMessage): void }
): Promise<Campaigner> {
  await gate.begin()
  const clock = systemClock
  const log = silentLogger
  const journal = new Journal(join(directory, 'state', 'agent.db'), { clock })
  gateDatabase(journal.database, gate)
  const trail = await Trail.open({
    stateDirectory: join(directory, 'state'),
    identity: () => ({ hostId, commandKeys: [fixture.commandKey] }),
    clock,
    log
  })
  await requireWholeTrail(directory)
  const known = new KnownVms({ database: journal.database, clock })
  const records = new BackupRecords({ database: journal.database, clock })
  const erasures = new ErasureRecords({ database: journal.database })
  const { hypervisor, nft } = world
  const host = createHost({
    config: configOf(directory, fixture),
    hypervisor,
    nft,
    hostId,
    agentVersion: '0.1.0',
    clock,
    log,
    bootRecord: new BootRecord({ directory: join(directory, 'run'), bootId: 'boot-1' }),
    probes: { tcp: async () => !neverReady, http: async () => !neverReady },
    availableMemoryBytes: () => 1024 ** 4,
    qemuLogDirectory: join(directory, 'logs'),
    escrow: new EscrowRecords({ database: journal.database }),
    ledger: ledgerOf(journal, known),
    backups: {
      good: records,
      instance: `${process.pid}`,
      workers: 1,
      identity: () => fixture.identity,
      openStore: gatedStore(gate)
    }
  })
  await host.prepare()
  const outbox = new Outbox({
    results: () => dispatcher.unacknowledged(),
    backups: () => records.unacknowledged(),
    erasures: () => erasures.unacknowledged(),
    metrics: { take: () => [] },
    disk: journal.database
  })
  const { signal: lookSignal } = new AbortController()
  let noted: Promise<unknown> = Promise.resolve()
  const turns = new Turns()
  const keeper = new HostKeeper({
    host,
    clock,
    log,
    journal,
    turns,
    onReady: () => {
      noted = host.vms.list({ signal: lookSignal }).then((vms) => noteVms(known, vms, log))
    }
  })
  const gateOfHost = new HostGate({
    policyPath: join(directory, 'policy', 'policy.yaml'),
    stateDirectory: join(directory, 'state'),
    verbs,
    hypervisor,
    commandKeys: () => [fixture.commandKey],
    clock,
    log
  })
  const dispatcher = new Dispatcher<Host>({
    host,
    verbs,
    journal,
    clock,
    log,
    readiness: keeper,
    turns,
    gate: gateOfHost,
    trail,
    onEnd: (entry, result) => {
      if (keepReport(records, entry, result)) queueMicrotask(() => outbox.tellBackups())
      if (keepErasure(erasures, entry, result)) queueMicrotask(() => outbox.tellErasures())
    },
    verifier: new CommandVerifier({ hostId, keys: () => [fixture.commandKey], clock }),
    generationOf: async ({ vm, uuid }, signal) => {
      const record = await hypervisor.findVm(vm, { signal })
      return record?.specification.uuid === uuid ? record.generation : 0
    },
    emit: (message) => outbox.post(message),
    concurrencyMax: 4,
    transfersMax: 2,
    waitingMax: 16
  })
  const unfinished = journal.unfinished().length
  dispatcher.resume()
  keeper.begin()
  const wire = {
    isOpen: true,
    bufferedBytes: 0,
    send: (message: AgentMessage) => {
      gate.requireLiving()
      send(message)
      gate.passedSync(`send ${message.type}`)
      if (message.type === 'backups')
        acknowledgeBackups(
          message.reports.map(({ id }) => id),
          { records, reports: outbox, log }
        )
      if (message.type === 'erasures')
        acknowledgeErasures(
          message.certificates.map(({ id }) => id),
          { erasures, reports: outbox, log }
        )
    }
  }
  return {
    unfinished,
    receive: (jws) => void dispatcher.receive(jws),
    acknowledge: (command) => dispatcher.acknowledge(command),
    attach: () => outbox.attach(wire),
    erase: async (vm) => {
      const record = await hypervisor.findVm(vm, { signal: AbortSignal.timeout(30_000) })
      const known = dispatcher.localOperations()[0]
      if (known !== undefined) return void (await known.ended)
      if (record === undefined) return
      const { name, uuid } = record.specification
      const subject = { vm: name, uuid, generation: record.generation }
      await (await dispatcher.begin({ verb: 'vm.erase', subject, arguments: { vm } })).ended
    },
    finish: async () => {
      while (dispatcher.running + dispatcher.waiting > 0) await clock.sleep(5)
      await keeper[Symbol.asyncDispose]()
      await noted
      // Rules that are still to be applied are a part of the end.
      await host.firewall.refresh({ signal: AbortSignal.timeout(30_000) })
      await dispatcher.stop(1_000)
      await host.close()
      const open =
        journal.unfinished().length +
        dispatcher.unacknowledged().length +
        records.unacknowledged().length +
        erasures.unacknowledged().length
      const draining = dispatcher.drainingSince !== undefined
      await trail[Symbol.asyncDispose]()
      await requireWholeTrail(directory)
      await journal[Symbol.asyncDispose]()
      await gate.living()
      return { open, draining }
    }
  }
}

/** Every write of the journal passes the gate once it is on disk; within a transaction, once all of it is. */
function gateDatabase(database: AgentDatabase, gate: Gate): void {
  const { run, transaction, get, all } = database
  let within = 0
  database.run = (sql, ...values) => {
    gate.requireLiving()
    const changes = run.call(database, sql, ...values)
    if (within === 0) gate.passedSync(`journal: ${sql.trim().slice(0, 40)}`)
    return changes
  }
  database.transaction = (work) => {
    gate.requireLiving()
    within++
    try {
      transaction.call(database, work)
    } finally {
      within--
    }
    if (within === 0) gate.passedSync('journal: a transaction')
  }
  database.get = (sql, ...values) => {
    gate.requireLiving()
    return get.call(database, sql, ...values)
  }
  database.all = (sql, ...values) => {
    gate.requireLiving()
    return all.call(database, sql, ...values)
  }
}

/** Objects are written below descriptors, whose paths tell no agent: the store itself passes the gate. */
function gatedStore(gate: Gate): typeof openStore {
  return async (...args) => {
    const store = await openStore(...args)
    return {
      description: store.description,
      get: (...each) => store.get(...each),
      getEnd: (...each) => store.getEnd(...each),
      list: (...each) => store.list(...each),
      close: () => store.close(),
      put: async (name, ...each) => {
        await gate.living()
        await store.put(name, ...each)
        await gate.passed(`put ${name}`)
      },
      remove: async (name, ...each) => {
        await gate.living()
        await store.remove(name, ...each)
        await gate.passed(`remove ${name}`)
      }
    }
  }
}

function configOf(directory: string, { images }: Fixture): HostConfig {
  const clear = { network: 'hl-net', bridge: 'hlnet', subnet: '10.90.0.0/24', encryption: false }
  const sealed = { network: 'hl-sealed', bridge: 'hlsealed', subnet: '10.91.0.0/24', encryption: true }
  return {
    stateDirectory: join(directory, 'state'),
    runtimeDirectory: join(directory, 'run'),
    profiles: { starter: profileOf(clear), sealed: profileOf(sealed) },
    vmUids: { first: 1_900_000_000, count: 16 },
    images: { allowFileUrls: [images], cacheBytesMax: 1024 ** 3 },
    stop: { graceMs: 0 },
    readyTimeoutMs: 60_000,
    // Days are seconds: a VM that is kept for one may be erased soon, one that is kept for thousands not.
    retainDayMs: 1_000,
    backup: { policy: join(directory, 'policy', 'policy.yaml'), compressionLevel: 1, freezeMs: 1_000 }
  }
}

/** Where an agent of the directory may put backups, and who can open them. */
export function writePolicy(
  directory: string,
  { recovery }: Pick<Fixture, 'recovery'>,
  { max = 1 }: { max?: number } = {}
): void {
  const policy = {
    repositories: { main: { url: `file://${directory}/repository` } },
    exportDirectories: [`${directory}/exports`],
    recovery: [{ jwk: recovery }],
    // One that is sent again after a kill is no second one.
    commands: {
      rates: ['vm.provision', 'vm.reimage', 'vm.restore'].map((verb) => ({
        verbs: [verb],
        max,
        per: '1h'
      }))
    }
  }
  writeFileSync(join(directory, 'policy', 'policy.yaml'), JSON.stringify(policy), { mode: 0o600 })
}
