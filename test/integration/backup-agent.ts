// The whole agent as a process of its own on this machine's libvirt, with a repository, a policy and a recovery key: for tests that kill it.

import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { saveIdentity } from '../../src/agent/identity/identity.ts'
import { createPrivateKey, type PrivateKey, publicHalf } from '../../src/agent/keys/jwk.ts'
import { systemClock } from '../../src/lib/clock.ts'
import type { VmBackupResult } from '../../src/protocol/backup.ts'
import type { CommandResult, CommandSubject } from '../../src/protocol/command.ts'
import type { VmSpecification } from '../../src/protocol/vm.ts'
import { type LibvirtFixture, openLibvirtFixture } from '../contract/libvirt-fixture.ts'
import { openTestFleet } from '../support/enrolled-host.ts'
import { claimsOf, type Signer } from '../support/signed-commands.ts'
import type { TestAuthority } from '../support/test-authority.ts'
import type { TestScheduler } from '../support/test-scheduler.ts'
import { guestPath, guestSpecification } from './provision-host.ts'

const program = join(import.meta.dirname, '../../src/main.ts')
const killPoints = pathToFileURL(join(import.meta.dirname, 'backup-kill-points.ts')).href
export const target = 'main'
const patienceMs = 420_000
const pollMs = 100
const lastLines = 12

export interface BackupAgentOptions {
  readonly hostId?: string
  /** Of another host of the same fleet. */
  readonly authority?: TestAuthority
  readonly recovery?: PrivateKey
  /** Of another host, whose backups this one is to restore. */
  readonly repository?: string
  readonly scratchReserveBytes?: number
  /** Of its configuration, instead of what it has otherwise. */
  readonly settings?: (fixture: LibvirtFixture) => Record<string, unknown>
}

export class BackupAgent implements AsyncDisposable {
  readonly fixture: LibvirtFixture
  readonly scheduler: TestScheduler
  readonly authority: TestAuthority
  readonly recovery: PrivateKey
  readonly repository: string
  readonly hostId: string
  readonly #signer: Signer
  readonly #parts: AsyncDisposableStack
  readonly #generations = new Map<string, number>()
  #child: ChildProcess | undefined

  private constructor(
    parts: AsyncDisposableStack,
    options: {
      fixture: LibvirtFixture
      scheduler: TestScheduler
      signer: Signer
      authority: TestAuthority
      recovery: PrivateKey
      repository: string
      hostId: string
    }
  ) {
    this.#parts = parts
    this.fixture = options.fixture
    this.scheduler = options.scheduler
    this.#signer = options.signer
    this.authority = options.authority
    this.recovery = options.recovery
    this.repository = options.repository
    this.hostId = options.hostId
  }

  /** Everything but the process: see `spawn`. */
  static async open(options: BackupAgentOptions = {}): Promise<BackupAgent> {
    await using parts = new AsyncDisposableStack()
    const fixture = await openLibvirtFixture()
    parts.defer(() => fixture.dispose())
    const { hostId = 'host-1' } = options
    const { authority, scheduler, signer } = await openTestFleet(options)
    parts.use(scheduler)
    const recovery = options.recovery ?? (await createPrivateKey())
    const repository = options.repository ?? join(fixture.directory, 'repository')
    const { directory } = fixture
    mkdirSync(join(directory, 'policy'), { mode: 0o700 })
    mkdirSync(repository, { mode: 0o700, recursive: true })
    saveIdentity(
      join(directory, 'state'),
      await authority.identity({ hostId, commandKeys: [signer.publicKey] })
    )
    writeFileSync(join(directory, 'ca.pem'), authority.certificate)
    writeFileSync(join(directory, 'recovery.jwk'), JSON.stringify(recovery), { mode: 0o600 })
    const owned = { fixture, scheduler, signer, authority, recovery, repository, hostId }
    const agent = new BackupAgent(parts.move(), owned)
    agent.#writeConfig(options)
    agent.writePolicy()
    return agent
  }

  get directory(): string {
    return this.fixture.directory
  }

  get caPath(): string {
    return join(this.directory, 'ca.pem')
  }

  get recoveryPath(): string {
    return join(this.directory, 'recovery.jwk')
  }

  writePolicy(changes: Record<string, unknown> = {}): void {
    const policy = {
      repositories: { [target]: { url: pathToFileURL(this.repository).href } },
      recovery: [{ jwk: publicHalf(this.recovery) }],
      ...changes
    }
    writeFileSync(join(this.directory, 'policy', 'policy.yaml'), JSON.stringify(policy), { mode: 0o600 })
  }

  /** Resolves once it is connected and has looked at the host. */
  async spawn(): Promise<void> {
    const { scheduler } = this
    const inventories = scheduler.of('inventory').length
    const log = openSync(this.#logPath, 'a')
    this.#child = spawn(
      process.execPath,
      ['--import', killPoints, program, 'agent', '--config', join(this.directory, 'agent.yaml')],
      {
        stdio: ['ignore', log, log],
        env: {
          PATH: process.env.PATH,
          HOSTLET_LOG_FORMAT: 'json',
          HOSTLET_TEST_KILL_FILE: this.#killPath,
          HOSTLET_TEST_HOLD_FILE: this.#holdPath
        }
      }
    )
    closeSync(log)
    await this.until(() => scheduler.of('inventory').length > inventories, 'the agent to look at its host')
  }

  /** From the acceptance of the next command on, the agent kills itself before its nth effect on the world. */
  killBefore(effect: number): void {
    writeFileSync(this.#killPath, String(effect))
  }

  /** Takes that back. False when it was too late: the agent is dead or about to be. */
  letLive(): boolean {
    try {
      rmSync(this.#killPath)
      return true
    } catch {
      return false
    }
  }

  /** Sends the command and has the agent stand still right after its backup job has begun. `goOn` lets it go on. */
  async holdIn(command: { id: string; jws: string }): Promise<void> {
    writeFileSync(this.#holdPath, '')
    this.send(command)
    const stat = `/proc/${this.#child?.pid}/stat`
    const stands = () => / T /.test(readFileSync(stat, 'utf8'))
    await this.until(() => stands() || this.resultOf(command) !== undefined, 'the backup job to begin')
    rmSync(this.#holdPath)
    assert.ok(stands(), `the backup ended before its job began: ${JSON.stringify(this.resultOf(command))}`)
  }

  goOn(): void {
    this.#child?.kill('SIGCONT')
  }

  async kill(): Promise<void> {
    this.#child?.kill('SIGKILL')
    await this.ended()
  }

  async ended(): Promise<void> {
    const child = this.#child
    if (child !== undefined && child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  }

  get runs(): boolean {
    return this.#child?.exitCode === null && this.#child.signalCode === null
  }

  /** A command as its scheduler signed it: sent again after a crash it is the same. */
  async sign(
    verb: string,
    args: Record<string, unknown>,
    about?: { vm: string; uuid: string }
  ): Promise<{ id: string; jws: string }> {
    const generation = about && (this.#generations.get(about.uuid) ?? 0) + 1
    if (about && generation) this.#generations.set(about.uuid, generation)
    const subject = about && ({ vm: about.vm, uuid: about.uuid, generation } as CommandSubject)
    const { subject: _other, ...claims } = claimsOf(Date.now(), { verb, arguments: args })
    const jws = await this.#signer.sign({ ...claims, audience: this.hostId, ...(subject && { subject }) })
    return { id: claims.id, jws }
  }

  send({ jws }: { jws: string }): void {
    this.scheduler.send({ type: 'command', jws })
  }

  resultOf({ id }: { id: string }): CommandResult | undefined {
    const { scheduler } = this
    // One that could not be read is refused without its id; commands here go out one at a time.
    const refusal = scheduler.of('refusal').find(({ command = id }) => command === id)
    if (refusal) return { outcome: 'failed', error: refusal.error } as CommandResult
    return scheduler.of('result').find(({ result }) => result.command === id)?.result
  }

  progressOf({ id }: { id: string }, step: string): boolean {
    return this.scheduler.of('progress').some((message) => message.command === id && message.step === step)
  }

  /** Waits for a message in the log of the agent. */
  async said(message: string): Promise<void> {
    const line = `"message":"${message}"`
    await this.until(() => readFileSync(this.#logPath, 'utf8').includes(line), line)
  }

  async awaitResult(command: { id: string }): Promise<CommandResult> {
    await this.until(() => this.resultOf(command) !== undefined, 'a result')
    return this.resultOf(command) as CommandResult
  }

  /** The value of a verb that must succeed. */
  async do(
    verb: string,
    args: Record<string, unknown>,
    about?: { vm: string; uuid: string }
  ): Promise<Record<string, unknown>> {
    const command = await this.sign(verb, args, about)
    this.send(command)
    const result = await this.awaitResult(command)
    assert.equal(result.outcome, 'done', `${verb}: ${JSON.stringify(result.error)}${this.lastWords()}`)
    return result.value ?? {}
  }

  /** The code and message of a verb that must fail. */
  async failure(
    verb: string,
    args: Record<string, unknown>,
    about?: { vm: string; uuid: string }
  ): Promise<{ code: string; message: string }> {
    const command = await this.sign(verb, args, about)
    this.send(command)
    const { outcome, error } = await this.awaitResult(command)
    assert.ok(outcome === 'failed' && error, `${verb} succeeded although it should not have`)
    return error
  }

  async backUp(vm: string, args: Record<string, unknown> = {}): Promise<VmBackupResult['record']> {
    const value = await this.do('vm.backup', { vm, target, ...args })
    return (value as unknown as VmBackupResult).record
  }

  /** A guest that answers, with its address. */
  async addGuest(
    name: string,
    changes: Partial<VmSpecification> = {}
  ): Promise<{ vm: string; uuid: string; address: string }> {
    const uuid = randomUUID()
    const vm = `${this.fixture.prefix}-${name}`
    const specification = guestSpecification({ name: vm, uuid, ...changes })
    const { address } = await this.do('vm.provision', { specification }, { vm, uuid })
    return { vm, uuid, address: String(address) }
  }

  /** Also ends when the agent has, which is then told with its last words. */
  async until(holds: () => boolean | Promise<boolean>, what: string): Promise<void> {
    const signal = AbortSignal.timeout(patienceMs)
    while (!(await holds())) {
      assert.ok(this.runs, `the agent ended while the test waited for ${what}:${this.lastWords()}`)
      assert.ok(!signal.aborted, `waited in vain for ${what}:${this.lastWords()}`)
      await systemClock.sleep(pollMs, AbortSignal.any([]))
    }
  }

  lastWords(): string {
    return `\n${readFileSync(this.#logPath, 'utf8').trimEnd().split('\n').slice(-lastLines).join('\n')}`
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill()
    await this.#parts.disposeAsync()
  }

  get #logPath(): string {
    return join(this.directory, 'agent.log')
  }

  get #killPath(): string {
    return join(this.directory, 'kill-before')
  }

  get #holdPath(): string {
    return join(this.directory, 'hold')
  }

  #writeConfig({ scratchReserveBytes = 64 * 1024 ** 2, settings: own }: BackupAgentOptions): void {
    const { directory, scheduler, fixture } = this
    const { name, bridge, subnet } = fixture.network
    const settings = {
      stateDirectory: join(directory, 'state'),
      runtimeDirectory: join(directory, 'run'),
      schedulerUrls: [scheduler.socketUrl],
      accelerator: 'tcg',
      pool: fixture.pool,
      profiles: { starter: { network: name, bridge, subnet, encryption: false } },
      network: { table: name },
      vmUids: { first: fixture.uid, count: 64 },
      images: { allowFileUrls: [dirname(guestPath)] },
      backup: { policy: join(directory, 'policy', 'policy.yaml'), scratchReserveBytes },
      ...own?.(fixture)
    }
    writeFileSync(join(directory, 'agent.yaml'), JSON.stringify(settings))
  }
}
