// A fleet as it may look on a working day: real scheduler, made-up hosts with VMs, history, conditions, operations and backups.

import { randomUUID } from 'node:crypto'
import type { OperationReply } from '../../src/protocol/api.ts'
import type { Condition, VmEvent } from '../../src/protocol/messages.ts'
import type { HostSample, MetricsSample, VmSample } from '../../src/protocol/metrics.ts'
import type { HostFacts, VmSummary } from '../../src/protocol/vm.ts'
import { backupRecord, backupReport, gibibyte, hostFacts } from '../scheduler/support/samples.ts'
import type { TestAgent } from '../scheduler/support/test-agent.ts'
import { TestScheduler } from '../scheduler/support/test-scheduler.ts'

const mebibyte = 1024 ** 2
const sampleMs = 10_000
/** Samples of one message. */
const batch = 60
const profiles = ['starter', 'starter', 'starter', 'premium', 'enterprise'] as const
const kinds = ['web', 'db', 'cache', 'build', 'mail', 'shop', 'wiki', 'queue'] as const

export interface DemoOptions {
  readonly hosts?: number
  readonly vmsPerHost?: number
  /** Of samples, for the first host and the VMs that are on it; the others have their newest alone. */
  readonly historyMs?: number
}

export interface DemoHost {
  readonly agent: TestAgent
  readonly vms: VmSummary[]
  readonly load: number
}

export class DemoFleet implements AsyncDisposable {
  readonly scheduler: TestScheduler
  readonly hosts: DemoHost[] = []

  private constructor(scheduler: TestScheduler) {
    this.scheduler = scheduler
  }

  static async open(options: DemoOptions = {}): Promise<DemoFleet> {
    const { hosts = 12, vmsPerHost = 16, historyMs = 0 } = options
    const fleet = new DemoFleet(await TestScheduler.start())
    for (let index = 0; index < hosts; index++) await fleet.#addHost(index, { vmsPerHost, historyMs })
    return fleet
  }

  /** Asks for a backup of the host's second VM, which then is half done. */
  async beginBackup(host: DemoHost): Promise<{ id: string; to(ratio: number): Promise<void> }> {
    const vm = host.vms[1]?.name ?? ''
    const { operation } = await this.scheduler.api.post<OperationReply>(`/v1/vms/${vm}/backup`, {
      target: 'main'
    })
    await host.agent.nextCommand()
    host.agent.acknowledge(operation.id)
    const to = async (ratio: number) => {
      host.agent.send({
        type: 'progress',
        command: operation.id,
        at: Date.now(),
        step: 'copy disks',
        stepIndex: 2,
        steps: 5,
        ratio,
        transfer: {
          doneBytes: Math.round(ratio * 18 * gibibyte),
          totalBytes: 18 * gibibyte,
          bytesPerSecond: 212 * mebibyte,
          remainingMs: Math.round((1 - ratio) * 87_000)
        }
      })
      await host.agent.sync()
    }
    return { id: operation.id, to }
  }

  /** The host opens the console that was asked for of one of its VMs, once it is asked; its guest then sends so much. */
  async answerConsole(host: DemoHost, output: string): Promise<void> {
    const { claims } = await host.agent.nextCommand()
    const { vm, session, mode } = claims.arguments
    host.agent.acknowledge(claims.id)
    const times = { idleMs: 900_000, longestMs: 8 * 3_600_000, attachMs: 30_000 }
    host.agent.finish(claims.id, { vm, session, mode, ...times })
    await host.agent.nextFrame('credit')
    host.agent.sendFrame({ type: 'data', session: String(session), data: Buffer.from(output) })
  }

  /** One operation that failed and one that is done. */
  async pastOperations(host: DemoHost): Promise<void> {
    const [first, , third] = host.vms
    const failing = await this.scheduler.api.post<OperationReply>(`/v1/vms/${third?.name}/backup`, {
      target: 'main'
    })
    await host.agent.nextCommand()
    host.agent.acknowledge(failing.operation.id)
    host.agent.fail(failing.operation.id, {
      code: 'E_TIMEOUT',
      message: `repository main did not answer within 30 s while VM ${third?.name} was copied. Look whether its server is reachable, then ask again.`
    })
    const reboot = await this.scheduler.api.post<OperationReply>(`/v1/vms/${first?.name}/reboot`, {})
    await host.agent.nextCommand()
    host.agent.acknowledge(reboot.operation.id)
    const now = Date.now()
    host.agent.send({
      type: 'result',
      result: {
        command: reboot.operation.id,
        outcome: 'done',
        value: {},
        startedAt: now - 21_400,
        finishedAt: now
      }
    })
    await host.agent.sync()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.scheduler[Symbol.asyncDispose]()
  }

  async #addHost(
    index: number,
    { vmsPerHost, historyMs }: Required<Omit<DemoOptions, 'hosts'>>
  ): Promise<void> {
    const random = seeded(index + 1)
    const agent = await this.scheduler.enroll(
      `kvm-${['ber', 'fra', 'muc'][index % 3]}-${Math.floor(index / 3) + 1}`
    )
    await agent.connect()
    const vms = Array.from({ length: vmsPerHost }, (_, number) => vmOf(index, number, random))
    const host = { agent, vms, load: 0.15 + 0.7 * random() }
    this.hosts.push(host)
    agent.sendInventory({ facts: factsOf(agent.id), vms })
    sendHeartbeat(agent, conditionsOf(index))
    sendSamples(host, index === 0 ? historyMs : 0)
    if (index === 0) await sendEvents(host)
    agent.send({
      type: 'backups',
      reports: vms.slice(0, 4).map((vm, number) => backupOf(agent.id, vm, number))
    })
    await agent.sync()
    if (index === 5) await agent.disconnect()
  }
}

function factsOf(id: string): HostFacts {
  return {
    ...hostFacts(id, 256 * gibibyte),
    cpus: 64,
    cpuModel: 'AMD EPYC 7543P',
    operatingSystem: 'Debian 12 (bookworm)',
    kernel: '6.1.0-28-amd64',
    bootedAt: Date.now() - 41 * 86_400_000,
    poolCapacityBytes: 7_200 * gibibyte,
    poolAvailableBytes: 3_100 * gibibyte
  }
}

function vmOf(host: number, number: number, random: () => number): VmSummary {
  const cpus = [1, 2, 2, 4, 8][Math.floor(random() * 5)] ?? 2
  const isOff = number % 9 === 8
  return {
    name: `${kinds[number % kinds.length]}-${host * 20 + number + 1}`,
    uuid: randomUUID(),
    state: isOff ? 'stopped' : 'running',
    reason: isOff ? 'shutdown' : 'booted',
    wanted: isOff && host !== 2 ? 'stopped' : 'running',
    generation: 3,
    profile: profiles[Math.floor(random() * profiles.length)] ?? 'starter',
    cpus,
    memoryBytes: cpus * 2 * gibibyte,
    address: `10.83.${host}.${10 + number}`,
    macAddress: `52:54:00:00:${hex(host)}:${hex(number)}`,
    startedAt: Date.now() - Math.floor(random() * 30 * 86_400_000),
    ...(host === 0 &&
      number === 1 && { health: [{ name: 'https', state: 'healthy', since: Date.now() - 7_200_000 }] }),
    ...(host === 1 && number === 3 && { drift: [drift()] })
  }
}

function drift(): NonNullable<VmSummary['drift']>[number] {
  return {
    id: 'memory',
    title: 'memory is not as recorded',
    recorded: '4 GiB',
    actual: '2 GiB',
    since: Date.now() - 4_000_000,
    severity: 'warning',
    repair: 'ask',
    next: 'Put it right with "hostlet vm repair".'
  }
}

function conditionsOf(index: number): Condition[] {
  const hour = 3_600_000
  if (index === 3)
    return [
      {
        id: 'pool-silent',
        severity: 'critical',
        message:
          'pool hostlet has not answered for 4 min. Its VMs cannot be started or stopped; look at the storage behind /srv/vms.',
        since: Date.now() - 240_000
      }
    ]
  if (index === 7)
    return [
      {
        id: 'backup-overdue',
        severity: 'warning',
        message:
          '2 VMs have had no backup for longer than their schedules say: db-142, mail-145. See "hostlet backup runs --failed".',
        since: Date.now() - 5 * hour
      }
    ]
  if (index === 4)
    return [
      {
        id: 'pool-nearly-full',
        severity: 'warning',
        message: 'pool hostlet has 4 % left. Free some with "hostlet host clean", or add storage.',
        since: Date.now() - 9 * hour
      }
    ]
  return []
}

function sendHeartbeat(agent: TestAgent, conditions: Condition[]): void {
  agent.send({
    type: 'heartbeat',
    sentAt: Date.now(),
    operationsRunning: 0,
    operationsWaiting: 0,
    hypervisor: 'connected',
    conditions
  })
}

function sendSamples(host: DemoHost, historyMs: number): void {
  const now = Date.now()
  const count = Math.max(1, Math.floor(historyMs / sampleMs))
  const samples = Array.from({ length: count }, (_, index) =>
    sampleOf(host, now - (count - 1 - index) * sampleMs)
  )
  for (let begin = 0; begin < samples.length; begin += batch)
    host.agent.send({ type: 'metrics', samples: samples.slice(begin, begin + batch) })
}

function sampleOf({ vms, load, agent }: DemoHost, at: number): MetricsSample {
  const isFull = agent.id.includes('fra-2')
  const busy = Math.min(0.97, load * (0.75 + 0.25 * wave(at, 1_900_000) + 0.18 * wave(at, 240_000, agent.id)))
  const host: HostSample = {
    cpuUsedRatio: busy,
    cpuStealRatio: 0.004 + 0.004 * wave(at, 90_000),
    loadAverage1m: busy * 64,
    memoryTotalBytes: 256 * gibibyte,
    memoryAvailableBytes: Math.round(256 * gibibyte * (0.62 - 0.5 * load - 0.02 * wave(at, 1_300_000))),
    swapUsedBytes: 0,
    poolCapacityBytes: 7_200 * gibibyte,
    poolAvailableBytes: Math.round(7_200 * gibibyte * (isFull ? 0.04 : 1 - load * 0.8)),
    receiveBytesTotal: 1,
    transmitBytesTotal: 1,
    receiveBytesPerSecond: 38 * mebibyte * (0.5 + load + 0.4 * wave(at, 420_000)),
    transmitBytesPerSecond: 71 * mebibyte * (0.5 + load + 0.4 * wave(at, 510_000)),
    diskReadBytesPerSecond: 24 * mebibyte * (0.6 + 0.4 * wave(at, 300_000)),
    diskWriteBytesPerSecond: 55 * mebibyte * (0.6 + 0.4 * wave(at, 610_000)),
    uptimeSeconds: 41 * 86_400
  }
  return { at, host, vms: vms.filter(({ state }) => state === 'running').map((vm) => vmSampleOf(vm, at)) }
}

function vmSampleOf({ name, uuid, cpus, memoryBytes }: VmSummary, at: number): VmSample {
  const busy = 0.08 + 0.3 * (1 + wave(at, 700_000, name)) + 0.12 * wave(at, 61_000, uuid)
  return {
    name,
    uuid,
    state: 'running',
    cpuSecondsTotal: 1,
    cpuCoresUsed: cpus * Math.min(1, Math.max(0.01, busy)),
    memoryMaximumBytes: memoryBytes,
    memoryResidentBytes: Math.round(memoryBytes * (0.82 + 0.03 * wave(at, 2_000_000, name))),
    memoryAvailableBytes: Math.round(memoryBytes * (0.4 + 0.15 * wave(at, 1_700_000, name))),
    diskReadBytesPerSecond: mebibyte * (2.2 + 2 * wave(at, 130_000, name)),
    diskWriteBytesPerSecond: mebibyte * (4.5 + 3 * wave(at, 230_000, name)),
    receiveBytesPerSecond: mebibyte * (1.6 + 1.2 * wave(at, 170_000, name)),
    transmitBytesPerSecond: mebibyte * (3.1 + 2.2 * wave(at, 390_000, name)),
    uptimeSeconds: 86_400
  }
}

async function sendEvents({ agent, vms }: DemoHost): Promise<void> {
  const kindsOfEvents: readonly VmEvent['kind'][] = [
    'started',
    'ready',
    'shutdown',
    'started',
    'ready',
    'rebooted'
  ]
  for (const [index, kind] of kindsOfEvents.entries()) {
    const vm = vms[index % 4]
    if (vm === undefined) continue
    const state = kind === 'shutdown' ? 'stopped' : 'running'
    const at = Date.now() - (kindsOfEvents.length - index) * 410_000
    agent.send({
      type: 'event',
      at,
      vm: vm.name,
      uuid: vm.uuid,
      kind,
      state,
      detail: kind === 'ready' ? 'port 443 answers' : 'asked for'
    })
  }
  // Events change what is known of a VM: the inventory has the last word.
  agent.sendInventory({ facts: factsOf(agent.id), vms })
}

function backupOf(host: string, { name, uuid }: VmSummary, number: number) {
  const at = Date.now() - (number + 1) * 5_400_000
  const record = backupRecord(host, {
    vm: name,
    uuid,
    snapshot: randomUUID(),
    at,
    kind: number === 0 ? 'full' : 'incremental',
    durationMs: 48_000 + number * 9_000,
    readBytes: (number === 0 ? 22 : 1.3 + number) * gibibyte,
    storedBytes: Math.round((number === 0 ? 9.4 : 0.4 + number / 5) * gibibyte),
    sequence: number + 1
  })
  return backupReport(
    randomUUID(),
    { ...record, readBytes: Math.round(record.readBytes) },
    { finishedAt: at + record.durationMs }
  )
}

/** -1 to 1, slowly, and for each name elsewhere. */
function wave(at: number, period: number, name = ''): number {
  let shift = 0
  for (const character of name) shift = (shift * 31 + character.charCodeAt(0)) % 1_000
  const angle = (at / period + shift / 1_000) * 2 * Math.PI
  return 0.65 * Math.sin(angle) + 0.25 * Math.sin(angle * 3.7 + shift) + 0.1 * Math.sin(angle * 11.3)
}

function seeded(seed: number): () => number {
  let state = seed * 2_654_435_761
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 4_294_967_296
    return state / 4_294_967_296
  }
}

function hex(value: number): string {
  return value.toString(16).padStart(2, '0')
}
