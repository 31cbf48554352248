// A real scheduler and several whole agents in this process, with commands that flow all the while: for tests of rotation.

import assert from 'node:assert/strict'
import { createHash, X509Certificate } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Agent, startAgent } from '../../src/agent/app.ts'
import { loadAgentConfig } from '../../src/agent/config.ts'
import { MemoryNft } from '../../src/agent/firewall/memory-nft.ts'
import { MemoryHypervisor } from '../../src/agent/host/memory-hypervisor.ts'
import { enroll } from '../../src/agent/identity/enroll.ts'
import { type Identity, loadIdentity } from '../../src/agent/identity/identity.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { createLogger } from '../../src/lib/log-output.ts'
import type {
  CreatedToken,
  HostDetail,
  OperationReply,
  RotationReply,
  RotationView,
  StatusView,
  TrustView
} from '../../src/protocol/api.ts'
import { type Scheduler, startScheduler } from '../../src/scheduler/app.ts'
import type { SchedulerConfig } from '../../src/scheduler/config.ts'
import { type Ended, hostlet } from '../cli/program.ts'
import { ApiClient } from '../scheduler/support/api-client.ts'
import { defaultConfig } from '../scheduler/support/test-scheduler.ts'

const patienceMs = 120_000
const pollMs = 50

/** One host: its agent may come and go, its VM stays. */
export class FleetHost {
  readonly name: string
  readonly directory: string
  readonly hypervisor = new MemoryHypervisor({ clock: systemClock })
  readonly #fleet: TrustFleet
  #agent: Agent | undefined

  constructor(fleet: TrustFleet, name: string) {
    this.#fleet = fleet
    this.name = name
    this.directory = join(fleet.directory, name)
    mkdirSync(this.directory, { mode: 0o700 })
  }

  get stateDirectory(): string {
    return join(this.directory, 'state')
  }

  get vm(): string {
    return `vm-${this.name}`
  }

  get identity(): Identity {
    return loadIdentity(this.stateDirectory)
  }

  get serialNumber(): string {
    return new X509Certificate(this.identity.certificate).serialNumber
  }

  /** How often the VM was reset: once a command. */
  get resets(): number {
    return this.hypervisor.calls.filter((call) => call === `reset ${this.vm}`).length
  }

  async join(token: CreatedToken | undefined = undefined, options: { force?: boolean } = {}): Promise<void> {
    const { token: text, caHash } = token ?? (await this.#fleet.token())
    const { stateDirectory } = this
    const schedulerUrl = this.#fleet.scheduler.url
    await enroll({ schedulerUrl, token: text, caHash, stateDirectory, hostname: this.name, ...options })
  }

  async start(): Promise<void> {
    const path = join(this.directory, 'agent.yaml')
    const settings = {
      stateDirectory: this.stateDirectory,
      runtimeDirectory: join(this.directory, 'run'),
      backup: { policy: join(this.directory, 'no-policy.yaml') },
      preparedDisks: 0,
      profiles: {
        starter: { network: 'hl-test', bridge: 'hl-test', subnet: '10.83.0.0/20', encryption: false }
      },
      images: { allowFileUrls: [this.#fleet.directory] },
      log: { level: 'debug' }
    }
    writeFileSync(path, JSON.stringify(settings))
    const { hypervisor } = this
    this.#agent = await startAgent(loadAgentConfig(path, {}), {
      hypervisor,
      nft: new MemoryNft(),
      // Nobody waits: not for a renewal, not before the next try.
      random: () => 0,
      log: this.#fleet.log(this.name)
    })
  }

  async stop(): Promise<void> {
    await this.#agent?.stop()
    this.#agent = undefined
  }
}

export class TrustFleet implements AsyncDisposable {
  readonly directory: string
  readonly hosts: FleetHost[] = []
  /** What scheduler and agents have logged, one JSON line each. */
  readonly lines: string[] = []
  readonly #config: SchedulerConfig
  #scheduler: Scheduler | undefined
  #port = 0
  credentialsDirectory: string | undefined

  constructor(directory: string, change: (config: SchedulerConfig) => SchedulerConfig = (config) => config) {
    this.directory = directory
    const config = defaultConfig(join(directory, 'scheduler'))
    this.#config = change({ ...config, agents: { heartbeatIntervalMs: 1_000, metricsIntervalMs: 60_000 } })
  }

  /** With a scheduler and so many hosts that are connected, each with a VM that runs. */
  static async open(
    directory: string,
    hosts: number,
    change?: (config: SchedulerConfig) => SchedulerConfig
  ): Promise<TrustFleet> {
    const fleet = new TrustFleet(directory, change)
    try {
      await fleet.startScheduler()
      await Promise.all(Array.from({ length: hosts }, (_, index) => fleet.addHost(`kvm-${index + 1}`)))
      return fleet
    } catch (error) {
      await fleet[Symbol.asyncDispose]()
      throw error
    }
  }

  get scheduler(): Scheduler {
    assert.ok(this.#scheduler, 'the scheduler is stopped')
    return this.#scheduler
  }

  get stateDirectory(): string {
    return this.#config.stateDirectory
  }

  get api(): ApiClient {
    const { url, caFile, adminKeyFile } = this.scheduler
    return new ApiClient({ url, caFile, key: readFileSync(adminKeyFile, 'utf8').trim() })
  }

  async startScheduler(): Promise<void> {
    const { credentialsDirectory } = this
    this.#scheduler = await startScheduler(
      { ...this.#config, listen: { address: '127.0.0.1', port: this.#port } },
      { clock: systemClock, log: this.log('scheduler'), credentialsDirectory }
    )
    this.#port = this.#scheduler.port
  }

  async stopScheduler(): Promise<void> {
    await this.#scheduler?.stop()
    this.#scheduler = undefined
  }

  async addHost(name: string): Promise<FleetHost> {
    const host = new FleetHost(this, name)
    this.hosts.push(host)
    await host.join()
    await host.start()
    await this.connected(host)
    await this.#provision(host)
    return host
  }

  async #provision(host: FleetHost): Promise<void> {
    const bytes = Buffer.alloc(64 * 1024, 'image')
    const path = join(this.directory, 'small.img')
    writeFileSync(path, bytes)
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    const image = { url: `file://${path}`, sha256, format: 'raw' }
    const sizes = { cpus: 1, memoryBytes: 64 * 1024 ** 2, rootDiskBytes: 1024 ** 2 }
    const specification = { name: host.vm, profile: 'starter', image, ...sizes }
    const { operation } = await this.api.post<OperationReply>('/v1/vms', { host: host.name, specification })
    const ended = await this.#ended(operation.id)
    assert.equal(ended.state, 'done', JSON.stringify(ended))
  }

  async #ended(id: string): Promise<OperationReply['operation']> {
    for (;;) {
      const path = `/v1/operations/${id}/wait?timeoutMs=30000`
      const { operation } = await this.api.get<OperationReply>(path)
      if (operation.finishedAt !== undefined) return operation
    }
  }

  token = () => this.api.post<CreatedToken>('/v1/tokens')
  trust = () => this.api.get<TrustView>('/v1/trust')
  host = async (id: string) => (await this.api.get<HostDetail>(`/v1/hosts/${id}`)).host

  async rotation(subject: RotationView['subject']): Promise<RotationView> {
    const found = (await this.trust()).rotations.find((each) => each.subject === subject)
    assert.ok(found)
    return found
  }

  /** Hosts renew at once where a step has them renew. */
  step(subject: RotationView['subject'], action: string, body: object = {}): Promise<RotationReply> {
    const within = subject === 'ca' ? { renewWithinSeconds: 0 } : {}
    return this.api.post<RotationReply>(`/v1/rotations/${subject}/${action}`, { ...within, ...body })
  }

  /** Takes a step once no host lags behind. */
  async stepWhenReady(subject: RotationView['subject'], action: string): Promise<RotationReply> {
    await this.ready(subject)
    return await this.step(subject, action)
  }

  async ready(subject: RotationView['subject']): Promise<void> {
    await this.until(`all hosts to be ready (${subject})`, async () => {
      return (await this.rotation(subject)).lagging.length === 0
    })
  }

  async connected(...hosts: readonly FleetHost[]): Promise<void> {
    for (const { name, identity } of hosts)
      await this.until(
        `${name} to be connected`,
        async () => (await this.host(identity.hostId)).state === 'connected'
      )
  }

  /** Asks for a reset; resolves with the operation's end. */
  async reset(host: FleetHost): Promise<OperationReply['operation']> {
    const { operation } = await this.api.post<OperationReply>(`/v1/vms/${host.vm}/reboot`, { force: true })
    return await this.#ended(operation.id)
  }

  openOperations = async () => (await this.api.get<StatusView>('/v1/status')).operations.open

  /** What an operator types. */
  hostlet(...words: readonly string[]): Promise<Ended> {
    const { url, caFile, adminKeyFile } = this.scheduler
    const environment = {
      HOSTLET_SCHEDULER: url,
      HOSTLET_CA_FILE: caFile,
      HOSTLET_API_KEY_FILE: adminKeyFile
    }
    return hostlet(words, environment)
  }

  async until(what: string, holds: () => Promise<boolean> | boolean): Promise<void> {
    const signal = AbortSignal.timeout(patienceMs)
    while (!(await holds())) {
      assert.ok(!signal.aborted, `waited in vain for ${what}:\n${this.lines.slice(-20).join('')}`)
      await systemClock.sleep(pollMs)
    }
  }

  log(of: string) {
    return createLogger({
      format: 'json',
      level: 'debug',
      stream: { write: (line) => this.lines.push(`${of} ${line}`) }
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const host of this.hosts) await host.stop()
    await this.stopScheduler()
  }
}

/** Commands without a pause, one after the other on each host, until told to stop. */
export class Traffic {
  readonly #fleet: TrustFleet
  readonly #flows: Promise<void>[]
  readonly #ended = new Map<FleetHost, OperationReply['operation'][]>()
  #isOn = true

  constructor(fleet: TrustFleet, hosts: readonly FleetHost[] = fleet.hosts) {
    this.#fleet = fleet
    for (const host of hosts) this.#ended.set(host, [])
    this.#flows = hosts.map((host) => this.#flow(host))
  }

  get count(): number {
    return [...this.#ended.values()].reduce((sum, ended) => sum + ended.length, 0)
  }

  /** Every host has ended so many more. */
  async more(count: number): Promise<void> {
    const before = new Map([...this.#ended].map(([host, ended]) => [host, ended.length]))
    await this.#fleet.until(`${count} more commands on each host`, () =>
      [...this.#ended].every(([host, ended]) => ended.length >= (before.get(host) ?? 0) + count)
    )
  }

  /** All that were asked for are done, each once. Resolves with their number. */
  async finish(): Promise<number> {
    this.#isOn = false
    await Promise.all(this.#flows)
    for (const [host, ended] of this.#ended) {
      for (const operation of ended)
        assert.equal(operation.state, 'done', `${host.name}: ${JSON.stringify(operation)}`)
      assert.equal(
        host.resets,
        ended.length,
        `${host.name} did another number of commands than it was asked for`
      )
    }
    const refusals = this.#fleet.lines.filter((line) => /command (refused|was refused)/.test(line))
    assert.deepEqual(refusals, [])
    return this.count
  }

  async #flow(host: FleetHost): Promise<void> {
    while (this.#isOn) this.#ended.get(host)?.push(await this.#fleet.reset(host))
  }
}
