// A real scheduler and a whole agent in this process, with a man in the middle, and a clock that hurries for both alike.

import assert from 'node:assert/strict'
import { createHash, randomUUID } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type Agent, startAgent } from '../../../src/agent/app.ts'
import { loadAgentConfig } from '../../../src/agent/config.ts'
import { MemoryNft } from '../../../src/agent/firewall/memory-nft.ts'
import { MemoryHypervisor } from '../../../src/agent/host/memory-hypervisor.ts'
import { enroll } from '../../../src/agent/identity/enroll.ts'
import { loadIdentity } from '../../../src/agent/identity/identity.ts'
import { createPrivateKey, publicHalf } from '../../../src/agent/keys/jwk.ts'
import { type Clock, systemClock } from '../../../src/lib/clock.ts'
import { createLogger } from '../../../src/lib/log-output.ts'
import type {
  CreatedToken,
  HostAudit,
  HostDetail,
  OperationReply,
  OperationView,
  VmReply
} from '../../../src/protocol/api.ts'
import { type Scheduler, startScheduler } from '../../../src/scheduler/app.ts'
import { type Ended, hostlet } from '../../cli/program.ts'
import { ApiClient } from '../../scheduler/support/api-client.ts'
import { defaultConfig } from '../../scheduler/support/test-scheduler.ts'
import { eventually } from '../isolation/eventually.ts'
import { FrameProxy } from './frame-proxy.ts'

const hostname = 'kvm-1'
const patienceMs = 120_000
/** Waits of the protocol are seconds; in between nothing happens. */
const haste = 4
const mebibyte = 1024 ** 2
/** A VM with plain disks that is reset, and one whose disks' keys lie with the scheduler. */
export const plainVm = 'plain'
export const sealedVm = 'sealed'

export class MessageFleet implements AsyncDisposable {
  readonly directory: string
  readonly clock: Clock = hasty()
  readonly hypervisor = new MemoryHypervisor({ clock: this.clock })
  /** What agent and scheduler have logged, one JSON line each. */
  readonly lines: string[] = []
  /** Operations that were asked for, and how they are to end. */
  readonly asked = new Map<string, OperationView['state']>()
  readonly #parts = new AsyncDisposableStack()
  #scheduler: Scheduler | undefined
  #proxy: FrameProxy | undefined
  #agent: Agent | undefined
  #resets = 0
  #names = 0

  private constructor(directory: string) {
    this.directory = directory
  }

  static async open(directory: string): Promise<MessageFleet> {
    const fleet = new MessageFleet(directory)
    try {
      await fleet.#start()
      return fleet
    } catch (error) {
      await fleet[Symbol.asyncDispose]()
      throw error
    }
  }

  get proxy(): FrameProxy {
    assert.ok(this.#proxy)
    return this.#proxy
  }

  get hostId(): string {
    assert.ok(this.#agent)
    return this.#agent.hostId
  }

  get stateDirectory(): string {
    return join(this.directory, 'state')
  }

  get api(): ApiClient {
    assert.ok(this.#scheduler)
    const { url, caFile, adminKeyFile } = this.#scheduler
    return new ApiClient({ url, caFile, key: readFileSync(adminKeyFile, 'utf8').trim() })
  }

  host = async () => (await this.api.get<HostDetail>(`/v1/hosts/${this.hostId}`)).host
  vm = async (name: string) => (await this.api.get<VmReply>(`/v1/vms/${name}`)).vm

  /** Of the host's audit trail that the scheduler has signed for. */
  heads = async () => (await this.api.get<HostAudit>(`/v1/hosts/${this.hostId}/audit`)).heads.length

  /** Returns the operation's id: its end is looked at by `settled`. */
  async ask(
    path: string,
    body: unknown = {},
    { method = 'POST', end = 'done' }: { method?: string; end?: OperationView['state'] } = {}
  ): Promise<string> {
    const { status, body: reply } = await this.api.ask({ method, path, json: body })
    assert.ok(status < 300, `${path}: ${JSON.stringify(reply)}`)
    const { id } = (reply as OperationReply).operation
    this.asked.set(id, end)
    return id
  }

  async ended(id: string): Promise<OperationView> {
    for (const signal = AbortSignal.timeout(patienceMs); !signal.aborted; ) {
      const { operation } = await this.api.get<OperationReply>(`/v1/operations/${id}/wait?timeoutMs=30000`)
      if (operation.finishedAt !== undefined) return operation
    }
    throw new Error(`operation ${id} does not end:\n${this.lines.slice(-20).join('')}`)
  }

  async reset(): Promise<string> {
    this.#resets++
    return await this.ask(`/v1/vms/${plainVm}/reboot`, { force: true })
  }

  /** A name that no VM had yet. */
  newName(): string {
    this.#names++
    return `passing-${this.#names}`
  }

  async provision(name: string, profile: string, end: OperationView['state'] = 'done'): Promise<string> {
    const path = join(this.directory, 'small.img')
    const bytes = Buffer.alloc(64 * 1024, 'image')
    writeFileSync(path, bytes)
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    const image = { url: `file://${path}`, sha256, format: 'raw' }
    const sizes = { cpus: 1, memoryBytes: 64 * mebibyte, rootDiskBytes: mebibyte }
    const specification = { name, profile, image, ...sizes }
    return await this.ask('/v1/vms', { host: this.hostId, specification }, { end })
  }

  /** Everything that was asked for has had its end, the right one; nothing was done twice; and both sides agree on what is. */
  async settled(vms: readonly string[] = [plainVm, sealedVm]): Promise<void> {
    const asked = [...this.asked]
    this.asked.clear()
    for (const [id, end] of asked) {
      const { state, verb, error } = await this.ended(id)
      assert.equal(state, end, `${verb} ${id}: ${JSON.stringify(error)}`)
    }
    const resets = this.hypervisor.calls.filter((call) => call === `reset ${plainVm}`).length
    assert.equal(resets, this.#resets, 'each reset was done once')
    await this.#eventually('the host to be connected', async () => (await this.host()).state === 'connected')
    await this.#eventually('everything to be acknowledged', () => this.#unacknowledged() === 0)
    for (const vm of vms) {
      const known = await this.hypervisor.findVm(vm, { signal: AbortSignal.timeout(patienceMs) })
      await this.#eventually(`${vm} to be ${known?.state} for the scheduler`, async () => {
        return (await this.vm(vm)).state === known?.state
      })
    }
  }

  /** Once more as it is in earnest: a VM with its keys. */
  async tearDownSealed(): Promise<void> {
    await this.ask(`/v1/vms/${sealedVm}`, undefined, { method: 'DELETE' })
    await this.settled([plainVm])
    assert.equal(this.hypervisor.secrets.size, 0)
  }

  /** The host has no condition but of backups, its books are whole, and nothing of all this was a bug. */
  async assertWell(): Promise<void> {
    const trail = ['audit', 'verify', '--state-directory', this.stateDirectory, '--scheduler']
    await this.#eventually(
      'the audit trail to be whole',
      async () => (await this.hostlet(...trail)).status === 0
    )
    const bugs = this.lines.filter((line) => line.includes('E_INTERNAL'))
    assert.deepEqual(bugs, [])
    await this.#eventually('no condition about the audit trail or the identity', async () => {
      const { conditions } = await this.host()
      return !conditions.some(({ id }) => /audit|clone|identity|certificate|trust/.test(id))
    })
  }

  /** What an operator types. */
  hostlet(...words: readonly string[]): Promise<Ended> {
    assert.ok(this.#scheduler)
    const { url, caFile, adminKeyFile } = this.#scheduler
    return hostlet(words, {
      HOSTLET_SCHEDULER: url,
      HOSTLET_CA_FILE: caFile,
      HOSTLET_API_KEY_FILE: adminKeyFile
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent?.stop()
    await this.#proxy?.[Symbol.asyncDispose]()
    await this.#scheduler?.stop()
    await this.#parts.disposeAsync()
  }

  async #start(): Promise<void> {
    const { directory, clock, stateDirectory } = this
    const config = defaultConfig(join(directory, 'scheduler'))
    const agents = { heartbeatIntervalMs: 2_000, metricsIntervalMs: 2_000 }
    this.#scheduler = await startScheduler({ ...config, agents }, { clock, log: this.#log('scheduler') })
    const { url } = this.#scheduler
    const { token, caHash } = await this.api.post<CreatedToken>('/v1/tokens')
    await enroll({ schedulerUrl: url, token, caHash, stateDirectory, hostname, clock })
    const identity = () => loadIdentity(stateDirectory)
    this.#proxy = await FrameProxy.listen({
      schedulerDirectory: config.stateDirectory,
      schedulerUrl: url,
      identity
    })
    await this.#startAgent()
    await this.#eventually('the host to be connected', async () => {
      const { state, facts } = await this.host()
      return state === 'connected' && facts?.secretsKey !== undefined
    })
    await this.provision(plainVm, 'plain')
    await this.provision(sealedVm, 'sealed')
    await this.settled()
  }

  async #startAgent(): Promise<void> {
    const { directory, hypervisor, clock, stateDirectory } = this
    const policy = join(directory, 'policy', 'policy.yaml')
    mkdirSync(join(directory, 'policy'), { mode: 0o700 })
    const recovery = [{ jwk: publicHalf(await createPrivateKey()) }]
    const repositories = { main: { url: 'file:///nonexistent' } }
    writeFileSync(policy, JSON.stringify({ repositories, recovery }), { mode: 0o600 })
    const settings = {
      stateDirectory,
      runtimeDirectory: join(directory, 'run'),
      schedulerUrls: [this.proxy.url],
      backup: { policy },
      keys: 'scheduler',
      preparedDisks: 1,
      profiles: {
        plain: { network: 'hl-plain', bridge: 'hl-plain', subnet: '10.83.0.0/20', encryption: false },
        sealed: { network: 'hl-sealed', bridge: 'hl-sealed', subnet: '10.84.0.0/20', encryption: true }
      },
      images: { allowFileUrls: [directory] }
    }
    const path = join(directory, 'agent.yaml')
    writeFileSync(path, JSON.stringify(settings))
    this.#agent = await startAgent(loadAgentConfig(path, {}), {
      hypervisor,
      clock,
      nft: new MemoryNft(),
      log: this.#log('agent'),
      // It never waits before it tries again.
      random: () => 0
    })
  }

  /** Keys of a VM that is gone, in the agent's own records: it tells of them with its next connection. */
  noteKeysGone(): void {
    using database = new DatabaseSync(this.#databasePath)
    const insert = database.prepare('INSERT INTO disk_keys_gone (uuid, id, since) VALUES (?, ?, ?)')
    insert.run(randomUUID(), '', this.clock.now())
  }

  get #databasePath(): string {
    return join(this.stateDirectory, 'agent.db')
  }

  /** Results and ends of keys that the scheduler has yet to acknowledge. */
  #unacknowledged(): number {
    using database = new DatabaseSync(this.#databasePath, { readOnly: true })
    const row = database
      .prepare(
        `SELECT (SELECT count(*) FROM commands WHERE acknowledged = 0 AND result IS NOT NULL)
           + (SELECT count(*) FROM disk_keys_gone) AS count`
      )
      .get()
    return Number(row?.count)
  }

  async #eventually(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
    await eventually(holds, () => `${what}:\n${this.lines.slice(-20).join('')}`, patienceMs)
  }

  #log(of: string) {
    return createLogger({
      format: 'json',
      level: 'debug',
      stream: { write: (line) => this.lines.push(`${of} ${line}`) }
    })
  }
}

/** The time of now, from now on faster than it is. */
function hasty(): Clock {
  const start = Date.now()
  return {
    now: () => start + (Date.now() - start) * haste,
    monotonic: () => performance.now() * haste,
    sleep: (ms, signal) => systemClock.sleep(ms / haste, signal),
    timer: (ms, callback) => systemClock.timer(ms / haste, callback)
  }
}
