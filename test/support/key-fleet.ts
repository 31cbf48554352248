// A real scheduler and a whole agent in this process, with a policy, a recovery key and encrypted disks: for tests of where keys are.

import assert from 'node:assert/strict'
import { globSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Agent, type AgentOptions, startAgent } from '../../src/agent/app.ts'
import { loadAgentConfig } from '../../src/agent/config.ts'
import { enroll } from '../../src/agent/identity/enroll.ts'
import { createPrivateKey, type PrivateKey, publicHalf } from '../../src/agent/keys/jwk.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { createLogger } from '../../src/lib/log-output.ts'
import type { CreatedToken, HostDetail, OperationReply, VmDiskKeys, VmReply } from '../../src/protocol/api.ts'
import { type Scheduler, startScheduler } from '../../src/scheduler/app.ts'
import type { SchedulerConfig } from '../../src/scheduler/config.ts'
import { type Ended, hostlet } from '../cli/program.ts'
import { ApiClient } from '../scheduler/support/api-client.ts'
import { defaultConfig } from '../scheduler/support/test-scheduler.ts'

const patienceMs = 900_000
const pollMs = 100

export class KeyFleet implements AsyncDisposable {
  readonly directory: string
  readonly recovery: PrivateKey
  /** What agent and scheduler have logged, one JSON line each. */
  readonly lines: string[] = []
  readonly #settings: Record<string, unknown>
  readonly #agentOptions: AgentOptions
  readonly #schedulerConfig: SchedulerConfig
  #scheduler: Scheduler | undefined
  #agent: Agent | undefined
  #port = 0

  private constructor(options: {
    directory: string
    recovery: PrivateKey
    settings: Record<string, unknown>
    agent: AgentOptions
  }) {
    this.directory = options.directory
    this.recovery = options.recovery
    this.#settings = options.settings
    this.#agentOptions = options.agent
    this.#schedulerConfig = defaultConfig(join(options.directory, 'scheduler'))
  }

  /** With a scheduler that runs, and nothing enrolled. `settings` are of the agent's configuration. */
  static async open(
    directory: string,
    settings: Record<string, unknown>,
    agent: AgentOptions = {}
  ): Promise<KeyFleet> {
    const fleet = new KeyFleet({ directory, recovery: await createPrivateKey(), settings, agent })
    mkdirSync(join(directory, 'policy'), { mode: 0o700 })
    writeFileSync(fleet.recoveryPath, JSON.stringify(fleet.recovery), { mode: 0o600 })
    fleet.writePolicy({ recovery: [{ jwk: publicHalf(fleet.recovery) }] })
    await fleet.startScheduler()
    return fleet
  }

  get recoveryPath(): string {
    return join(this.directory, 'policy', 'recovery.jwk')
  }

  get stateDirectory(): string {
    return join(this.directory, 'state')
  }

  get hostId(): string {
    assert.ok(this.#agent, 'the agent is not started')
    return this.#agent.hostId
  }

  get api(): ApiClient {
    const { url, caFile, adminKeyFile } = this.scheduler
    return new ApiClient({ url, caFile, key: readFileSync(adminKeyFile, 'utf8').trim() })
  }

  get scheduler(): Scheduler {
    assert.ok(this.#scheduler, 'the scheduler is stopped')
    return this.#scheduler
  }

  writePolicy(changes: Record<string, unknown>): void {
    const policy = { repositories: { main: { url: 'file:///nonexistent' } }, ...changes }
    writeFileSync(this.#policyPath, JSON.stringify(policy), { mode: 0o600 })
  }

  async startScheduler(): Promise<void> {
    const listen = { address: '127.0.0.1', port: this.#port }
    this.#scheduler = await startScheduler(
      { ...this.#schedulerConfig, listen },
      { clock: systemClock, log: this.#log() }
    )
    this.#port = this.#scheduler.port
  }

  async stopScheduler(): Promise<void> {
    await this.#scheduler?.stop()
    this.#scheduler = undefined
  }

  /** The machine joins, with a new id where it had one before. */
  async enroll(): Promise<void> {
    const { token, caHash } = await this.api.post<CreatedToken>('/v1/tokens')
    const { url } = this.scheduler
    const { stateDirectory } = this
    await enroll({ schedulerUrl: url, token, caHash, stateDirectory, hostname: 'kvm-1', force: true })
  }

  /** Resolves once it is connected and has told what is on the host; or at once where the scheduler is away. */
  async startAgent(): Promise<void> {
    const path = join(this.directory, 'agent.yaml')
    const { stateDirectory } = this
    const settings = {
      ...this.#settings,
      stateDirectory,
      runtimeDirectory: join(this.directory, 'run'),
      backup: { policy: this.#policyPath },
      preparedDisks: 0,
      log: { level: 'debug' }
    }
    writeFileSync(path, JSON.stringify(settings))
    this.#agent = await startAgent(loadAgentConfig(path, {}), { ...this.#agentOptions, log: this.#log() })
    if (this.#scheduler === undefined) return
    await this.until('the host to be connected', async () => {
      const { host } = await this.host()
      return host.state === 'connected' && host.facts?.secretsKey !== undefined
    })
  }

  async stopAgent(): Promise<void> {
    await this.#agent?.stop()
    this.#agent = undefined
  }

  host = () => this.api.get<HostDetail>(`/v1/hosts/${this.hostId}`)
  keys = (vm: string) => this.api.get<VmDiskKeys>(`/v1/vms/${vm}/disk-keys`)
  vm = async (name: string) => (await this.api.get<VmReply>(`/v1/vms/${name}`)).vm

  /** Resolves with the operation's end, whatever that is. */
  async ended(path: string, body: unknown, method = 'POST'): Promise<OperationReply['operation']> {
    const { body: reply, status } = await this.api.ask({ method, path, json: body })
    assert.ok(status < 300, JSON.stringify(reply))
    let { operation } = reply as OperationReply
    await this.until(`the end of ${path}`, async () => {
      operation = (await this.api.get<OperationReply>(`/v1/operations/${operation.id}`)).operation
      return operation.finishedAt !== undefined
    })
    return operation
  }

  async done(path: string, body: unknown, method = 'POST'): Promise<OperationReply['operation']> {
    const operation = await this.ended(path, body, method)
    assert.equal(operation.state, 'done', JSON.stringify(operation.error))
    return operation
  }

  async until(what: string, holds: () => Promise<boolean> | boolean): Promise<void> {
    const signal = AbortSignal.timeout(patienceMs)
    while (!(await holds())) {
      assert.ok(!signal.aborted, `waited in vain for ${what}:\n${this.lines.slice(-12).join('')}`)
      await systemClock.sleep(pollMs)
    }
  }

  async condition(id: string): Promise<string | undefined> {
    const { host } = await this.host()
    return host.conditions.find((condition) => condition.id === id)?.message
  }

  /** What an operator types. */
  hostlet(...words: readonly string[]): Promise<Ended> {
    const { url, caFile, adminKeyFile } = this.scheduler
    return hostlet(words, {
      HOSTLET_SCHEDULER: url,
      HOSTLET_CA_FILE: caFile,
      HOSTLET_API_KEY_FILE: adminKeyFile
    })
  }

  /** Paths of files of agent and scheduler, and "log", that hold one of the texts. */
  holding(texts: readonly string[], folders = ['state', 'run', 'scheduler']): string[] {
    const paths = folders.flatMap((folder) => globSync(join(this.directory, folder, '**')))
    const files = paths.filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile())
    const has = (content: string) => texts.some((text) => content.includes(text))
    return [
      ...files.filter((path) => has(readFileSync(path).toString('latin1'))),
      ...(has(this.lines.join('')) ? ['log'] : [])
    ]
  }

  loseStateDirectory(): void {
    rmSync(this.stateDirectory, { recursive: true })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopAgent()
    await this.stopScheduler()
  }

  get #policyPath(): string {
    return join(this.directory, 'policy', 'policy.yaml')
  }

  #log() {
    return createLogger({
      format: 'journal',
      level: 'debug',
      stream: { write: (line) => this.lines.push(line) }
    })
  }
}
