// What the dashboard is looked at with: a real scheduler, a real agent whose hypervisor is in memory, and hosts that say what the test wants.

import assert from 'node:assert/strict'
import { createHash, randomUUID } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startAgent } from '../../../src/agent/app.ts'
import { loadAgentConfig } from '../../../src/agent/config.ts'
import { MemoryNft } from '../../../src/agent/firewall/memory-nft.ts'
import { MemoryHypervisor } from '../../../src/agent/host/memory-hypervisor.ts'
import { enroll } from '../../../src/agent/identity/enroll.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import { createLogger } from '../../../src/lib/log-output.ts'
import type { ApiTier, CreatedKey, CreatedToken, OperationReply } from '../../../src/protocol/api.ts'
import type { VmSummary } from '../../../src/protocol/vm.ts'
import { type Scheduler, startScheduler } from '../../../src/scheduler/app.ts'
import { ApiClient } from '../../scheduler/support/api-client.ts'
import { RecordingLog } from '../../scheduler/support/recording-log.ts'
import {
  backupRecord,
  backupReport,
  hostFacts,
  hostSample,
  metricsSample,
  vmSample,
  vmSummary
} from '../../scheduler/support/samples.ts'
import { enrollAgent, type TestAgent } from '../../scheduler/support/test-agent.ts'
import { defaultConfig } from '../../scheduler/support/test-scheduler.ts'

/** Would run if it became markup: `window.hurt` tells. */
export const hostile = '<img src=x onerror="window.hurt=1">\u202e<script>window.hurt=2</script>'
/** Of the VMs that the made-up host has. */
export const crowdCount = 230

export class DashboardFleet implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'hostlet-dashboard-'))
  readonly log = new RecordingLog()
  /** Of the real agent, and of what its guests say on their consoles. */
  readonly hypervisor = new MemoryHypervisor({ clock: systemClock })
  readonly #parts = new AsyncDisposableStack()
  #scheduler: Scheduler | undefined
  #crowd: TestAgent | undefined

  private constructor() {
    this.#parts.defer(() => rmSync(this.directory, { recursive: true, force: true }))
  }

  static async open(): Promise<DashboardFleet> {
    const fleet = new DashboardFleet()
    try {
      await fleet.#startScheduler()
      await fleet.#startAgent()
      await fleet.#addCrowd()
      return fleet
    } catch (error) {
      await fleet[Symbol.asyncDispose]()
      throw error
    }
  }

  get url(): string {
    return this.#scheduler?.url ?? ''
  }

  get adminKey(): string {
    return readFileSync(this.#scheduler?.adminKeyFile ?? '', 'utf8').trim()
  }

  get api(): ApiClient {
    return new ApiClient({ url: this.url, caFile: this.#scheduler?.caFile ?? '', key: this.adminKey })
  }

  /** The host that says what the test wants; its VMs are vm-0, vm-1 and so on. */
  get crowd(): TestAgent {
    return this.#crowd ?? assert.fail('there is no such host')
  }

  async key(tier: ApiTier, note: string): Promise<string> {
    return (await this.api.post<CreatedKey>('/v1/keys', { tier, note })).text
  }

  /** Asks for something of a VM of the made-up host, which has then taken it. */
  async begin(path: string, body: unknown = {}): Promise<string> {
    const { operation } = await this.api.post<OperationReply>(path, body)
    await this.crowd.nextCommand()
    this.crowd.acknowledge(operation.id)
    await this.crowd.sync()
    return operation.id
  }

  async progress(command: string, ratio: number): Promise<void> {
    const at = Date.now()
    this.crowd.send({
      ...{ type: 'progress', command, at, step: 'copy disks', stepIndex: 1, steps: 2, ratio, note: hostile },
      transfer: { doneBytes: Math.round(ratio * 1e9), totalBytes: 1e9, bytesPerSecond: 1e8 }
    })
    await this.crowd.sync()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.disposeAsync()
  }

  async #startScheduler(): Promise<void> {
    const config = { ...defaultConfig(join(this.directory, 'scheduler')) }
    const agents = { heartbeatIntervalMs: 60_000, metricsIntervalMs: 1_000 }
    const { log } = this
    this.#scheduler = await startScheduler({ ...config, agents }, { clock: systemClock, log })
    this.#parts.defer(() => this.#scheduler?.stop())
  }

  /** With a VM that runs: real-1. */
  async #startAgent(): Promise<void> {
    const directory = join(this.directory, 'host')
    mkdirSync(directory, { mode: 0o700 })
    const stateDirectory = join(directory, 'state')
    const image = this.#image(directory)
    const settings = {
      ...{ stateDirectory, runtimeDirectory: join(directory, 'run'), preparedDisks: 0 },
      backup: { policy: join(directory, 'no-policy.yaml') },
      profiles: {
        starter: { network: 'hl-test', bridge: 'hl-test', subnet: '10.83.0.0/20', encryption: false }
      },
      images: { allowFileUrls: [directory] }
    }
    const path = join(directory, 'agent.yaml')
    writeFileSync(path, JSON.stringify(settings))
    const { token, caHash } = await this.api.post<CreatedToken>('/v1/tokens')
    await enroll({ schedulerUrl: this.url, token, caHash, stateDirectory, hostname: 'kvm-real' })
    const agent = await startAgent(loadAgentConfig(path, {}), {
      hypervisor: this.hypervisor,
      nft: new MemoryNft(),
      log: createLogger({ format: 'json', level: 'debug', stream: { write: () => undefined } }),
      random: () => 0.1
    })
    this.#parts.defer(() => agent.stop())
    const sizes = { cpus: 1, memoryBytes: 64 * 1024 ** 2, rootDiskBytes: 1024 ** 2 }
    const { operation } = await this.api.post<OperationReply>('/v1/vms', {
      host: 'kvm-real',
      specification: { name: 'real-1', profile: 'starter', image, ...sizes }
    })
    const ended = await this.api.get<OperationReply>(`/v1/operations/${operation.id}/wait?timeoutMs=60000`)
    assert.equal(ended.operation.state, 'done', JSON.stringify(ended.operation))
  }

  #image(directory: string) {
    const path = join(directory, 'small.img')
    const bytes = Buffer.alloc(64 * 1024, 'image')
    writeFileSync(path, bytes)
    return { url: `file://${path}`, sha256: createHash('sha256').update(bytes).digest('hex'), format: 'raw' }
  }

  /** A host with many VMs, which tries to get markup into whatever it may name. */
  async #addCrowd(): Promise<void> {
    const { api } = this
    const { token } = await api.post<CreatedToken>('/v1/tokens', { note: hostile })
    const anonymous = new ApiClient({ url: this.url, caFile: this.#scheduler?.caFile ?? '' })
    const agent = await enrollAgent({ api: anonymous, token, hostname: hostile, address: () => this.url })
    this.#crowd = agent
    this.#parts.defer(() => agent.hangUp())
    await agent.connect()
    const vms = Array.from({ length: crowdCount }, (_, index) => crowdVm(index))
    agent.sendInventory({
      facts: { ...hostFacts(agent.id), hostname: hostile, cpuModel: hostile, kernel: hostile },
      vms,
      foreign: [{ name: hostile, uuid: randomUUID(), state: 'running', reason: 'other', detail: hostile }]
    })
    const condition = { severity: 'critical', message: hostile, since: Date.now() - 60_000 } as const
    agent.send({
      ...{ type: 'heartbeat', sentAt: Date.now(), operationsRunning: 0, operationsWaiting: 0 },
      hypervisor: 'connected',
      conditions: [{ id: hostile, ...condition }]
    })
    sendHistory(agent, vms)
    const [first] = vms
    assert.ok(first)
    const event = {
      at: Date.now(),
      vm: first.name,
      uuid: first.uuid,
      kind: 'started',
      state: 'running'
    } as const
    agent.send({ type: 'event', ...event, detail: hostile })
    agent.send({ type: 'backups', reports: backupsOf(agent.id, first) })
    await agent.sync()
  }
}

function crowdVm(index: number): VmSummary {
  const drift = {
    ...{ id: 'memory', title: hostile, recorded: hostile, actual: hostile, since: Date.now(), next: hostile },
    ...({ severity: 'warning', repair: 'ask' } as const)
  }
  return vmSummary({
    name: `vm-${index}`,
    uuid: randomUUID(),
    reason: hostile,
    address: `10.83.${Math.floor(index / 200)}.${10 + (index % 200)}`,
    ...(index === 0 && { drift: [drift] })
  })
}

function sendHistory(agent: TestAgent, vms: readonly VmSummary[]): void {
  const now = Date.now()
  const [first] = vms
  const samples = Array.from({ length: 60 }, (_, index) => ({
    ...metricsSample(now - (59 - index) * 10_000, [
      vmSample({
        name: first?.name ?? '',
        uuid: first?.uuid ?? '',
        cpuCoresUsed: 0.5,
        diskReadBytesPerSecond: 1e6
      })
    ]),
    host: hostSample({ cpuUsedRatio: index / 100 })
  }))
  agent.send({ type: 'metrics', samples })
}

function backupsOf(host: string, { name, uuid }: VmSummary) {
  const record = backupRecord(host, { vm: name, uuid, at: Date.now() - 60_000, snapshot: randomUUID() })
  const { record: _none, ...failed } = backupReport(randomUUID(), record)
  return [
    backupReport(randomUUID(), record),
    { ...failed, error: { code: 'E_TIMEOUT' as const, message: hostile } }
  ]
}
