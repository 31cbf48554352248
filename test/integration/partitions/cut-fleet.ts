// A scheduler and agents as processes, each in a namespace of its own, and commands for every host all the while.

import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { CreatedToken, HostDetail, OperationReply, OperationView } from '../../../src/protocol/api.ts'
import { type Ended, environment, hostlet, mainPath } from '../../cli/program.ts'
import { ApiClient } from '../../scheduler/support/api-client.ts'
import { eventually } from '../isolation/eventually.ts'
import { CutNetwork } from './cut-network.ts'
import type { HostTask } from './host-child.ts'

const patienceMs = 120_000
const port = 7443
const heartbeatIntervalMs = 1_000
const child = join(import.meta.dirname, 'host-child.ts')

/** One host: what it is told to do, and what it did. */
export class CutHost {
  readonly name: string
  readonly directory: string
  readonly process: ChildProcess
  hostId = ''

  constructor(name: string, directory: string, process: ChildProcess) {
    this.name = name
    this.directory = directory
    this.process = process
  }

  get stateDirectory(): string {
    return join(this.directory, 'state')
  }

  get logFile(): string {
    return join(this.directory, 'log')
  }

  /** How often the agent found its scheduler gone. */
  get losses(): number {
    return readFileSync(this.logFile, 'utf8').split('scheduler away, trying again').length - 1
  }

  /** The memory that it takes now. */
  get residentBytes(): number {
    const status = readFileSync(`/proc/${this.process.pid}/status`, 'utf8')
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024
  }

  /** What its hypervisor was asked for, in order. */
  async calls(): Promise<string[]> {
    const answer = once(this.process, 'message')
    this.process.send('calls')
    return (await answer)[0] as string[]
  }
}

export class CutFleet implements AsyncDisposable {
  readonly network: CutNetwork
  readonly directory: string
  readonly hosts: CutHost[] = []
  readonly #parts = new AsyncDisposableStack()

  private constructor(network: CutNetwork, directory: string) {
    this.network = this.#parts.use(network)
    this.directory = directory
  }

  /** With hosts that are connected, each with a VM that runs. */
  static async open(directory: string, names: readonly string[]): Promise<CutFleet> {
    const fleet = new CutFleet(await CutNetwork.open(names), directory)
    try {
      await fleet.#startScheduler()
      await Promise.all(names.map((name) => fleet.#addHost(name)))
      return fleet
    } catch (error) {
      await fleet[Symbol.asyncDispose]()
      throw error
    }
  }

  get api(): ApiClient {
    const url = `https://${this.network.managementAddress}:${port}`
    return new ApiClient({ url, caFile: this.#schedulerFile('ca.pem'), key: this.#adminKey })
  }

  host(name: string): CutHost {
    const found = this.hosts.find((host) => host.name === name)
    assert.ok(found)
    return found
  }

  async stateOf(name: string): Promise<string> {
    const { host } = await this.api.get<HostDetail>(`/v1/hosts/${this.host(name).hostId}`)
    return host.state
  }

  async shown(state: string, ...names: readonly string[]): Promise<void> {
    for (const name of names)
      await eventually(async () => (await this.stateOf(name)) === state, `${name} to be ${state}`, patienceMs)
  }

  async ask(method: string, path: string, json: unknown): Promise<string> {
    const { status, body } = await this.api.ask({ method, path, json })
    assert.equal(status, 202, JSON.stringify(body))
    return (body as OperationReply).operation.id
  }

  async ended(id: string): Promise<OperationView> {
    const path = `/v1/operations/${id}/wait?timeoutMs=30000`
    for (const signal = AbortSignal.timeout(patienceMs); !signal.aborted; ) {
      const { operation } = await this.api.get<OperationReply>(path)
      if (operation.finishedAt !== undefined) return operation
    }
    throw new Error(`operation ${id} does not end`)
  }

  async provision(host: CutHost, vm: string): Promise<string> {
    const { image } = this
    const sizes = { cpus: 1, memoryBytes: 64 * 1024 ** 2, rootDiskBytes: 1024 ** 2 }
    const specification = { name: vm, profile: 'starter', image, ...sizes }
    return await this.ask('POST', '/v1/vms', { host: host.hostId, specification })
  }

  get image() {
    const path = join(this.directory, 'small.img')
    const bytes = Buffer.alloc(64 * 1024, 'image')
    if (!existsSync(path)) writeFileSync(path, bytes)
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    return { url: `file://${path}`, sha256, format: 'raw' }
  }

  /** What an operator types, with the scheduler at hand. */
  hostlet(...words: readonly string[]): Promise<Ended> {
    return hostlet(words, {
      HOSTLET_SCHEDULER: this.api.url,
      HOSTLET_CA_FILE: this.#schedulerFile('ca.pem'),
      HOSTLET_API_KEY_FILE: this.#schedulerFile('admin.key')
    })
  }

  /** Hosts go first, as they would say farewell. */
  async stop(): Promise<void> {
    await Promise.all(
      this.hosts.map(async ({ process }) => {
        const exited = once(process, 'exit')
        process.send('stop')
        assert.deepEqual(await exited, [0, null])
      })
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#parts.disposeAsync()
  }

  get #adminKey(): string {
    return readFileSync(this.#schedulerFile('admin.key'), 'utf8').trim()
  }

  #schedulerFile(name: string): string {
    return join(this.directory, 'scheduler', name)
  }

  async #startScheduler(): Promise<void> {
    const { network, directory } = this
    const config = join(directory, 'scheduler.yaml')
    const settings = {
      stateDirectory: join(directory, 'scheduler'),
      listen: { port },
      names: [network.managementAddress, network.schedulerAddress],
      advertise: [`https://${network.schedulerAddress}:${port}`],
      vms: { retainDays: 0 },
      agents: { heartbeatIntervalMs, metricsIntervalMs: 1_000 },
      log: { format: 'json' }
    }
    writeFileSync(config, JSON.stringify(settings))
    const words = [process.execPath, mainPath, 'scheduler', '--config', config]
    this.#spawn('scheduler', words, { log: join(directory, 'scheduler.log') })
    await eventually(
      async () => {
        if (!existsSync(this.#schedulerFile('admin.key'))) return false
        return await this.api.ask({ path: '/healthz' }).then(
          ({ status }) => status === 200,
          () => false
        )
      },
      `the scheduler: ${join(directory, 'scheduler.log')}`
    )
  }

  async #addHost(name: string): Promise<void> {
    const directory = join(this.directory, name)
    mkdirSync(directory, { mode: 0o700 })
    const config = join(directory, 'agent.yaml')
    const settings = {
      stateDirectory: join(directory, 'state'),
      runtimeDirectory: join(directory, 'run'),
      backup: { policy: join(directory, 'no-policy.yaml') },
      preparedDisks: 0,
      profiles: {
        starter: { network: 'hl-test', bridge: 'hl-test', subnet: '10.83.0.0/20', encryption: false }
      },
      images: { allowFileUrls: [this.directory] }
    }
    writeFileSync(config, JSON.stringify(settings))
    const { token, caHash } = await this.api.post<CreatedToken>('/v1/tokens')
    const schedulerUrl = `https://${this.network.schedulerAddress}:${port}`
    const logFile = join(directory, 'log')
    const task: HostTask = { hostname: name, schedulerUrl, token, caHash, config, logFile }
    const words = [process.execPath, child, JSON.stringify(task)]
    const host = new CutHost(name, directory, this.#spawn(name, words, { log: logFile }))
    const [{ hostId }] = (await once(host.process, 'message')) as [{ hostId: string }]
    host.hostId = hostId
    this.hosts.push(host)
    await this.shown('connected', name)
    const { state, error } = await this.ended(await this.provision(host, name))
    assert.equal(state, 'done', JSON.stringify(error))
  }

  #spawn(name: string, words: readonly string[], { log }: { log: string }): ChildProcess {
    const [program = '', ...rest] = this.network.inside(name, ...words)
    const output = openSync(log, 'a', 0o600)
    const spawned = spawn(program, rest, {
      env: environment(),
      stdio: ['ignore', output, output, 'ipc']
    })
    closeSync(output)
    this.#parts.defer(async () => {
      if (spawned.exitCode !== null || spawned.signalCode !== null) return
      const exited = once(spawned, 'exit')
      spawned.kill('SIGKILL')
      await exited
    })
    return spawned
  }
}
