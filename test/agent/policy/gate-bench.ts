// A host with the real dispatcher and verbs, the hypervisor in memory, and a policy that the test writes.

import { randomUUID } from 'node:crypto'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Host } from '../../../src/agent/host/host.ts'
import { CommandVerifier } from '../../../src/agent/operations/command-verifier.ts'
import { Dispatcher } from '../../../src/agent/operations/dispatch.ts'
import type { CommandNote } from '../../../src/agent/operations/gate.ts'
import { Journal } from '../../../src/agent/operations/journal.ts'
import { HostGate } from '../../../src/agent/policy/host-gate.ts'
import { verbs } from '../../../src/agent/verbs/registry.ts'
import type { ErrorReport } from '../../../src/errors.ts'
import { type Clock, systemClock } from '../../../src/lib/clock.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import type { CommandClaims } from '../../../src/protocol/command.ts'
import type { AgentMessage } from '../../../src/protocol/messages.ts'
import type { PolicyForecast } from '../../../src/protocol/plan.ts'
import type { VmSpecification } from '../../../src/protocol/vm.ts'
import { claimsOf, createSigner, hostId, type Signer } from '../../support/signed-commands.ts'
import { type Bench, makeBench } from '../verbs/bench.ts'

/** `accepted`, or what the refusal says. */
export type Answer = 'accepted' | ErrorReport

export class GateBench implements AsyncDisposable {
  readonly bench: Bench
  readonly signer: Signer
  readonly sent: AgentMessage[] = []
  /** What the trail was told. */
  readonly notes: CommandNote[] = []
  /** Added to the machine's clock. */
  aheadMs = 0
  #generation = 0
  #journal: Journal
  #dispatcher: Dispatcher<Host>
  #gate: HostGate

  private constructor(bench: Bench, signer: Signer) {
    this.bench = bench
    this.signer = signer
    mkdirSync(join(bench.directory, 'policy'), { mode: 0o700 })
    mkdirSync(this.stateDirectory, { recursive: true })
    this.#journal = this.#openJournal()
    this.#gate = this.#openGate()
    this.#dispatcher = this.#openDispatcher()
  }

  static async create(): Promise<GateBench> {
    const bench = await makeBench()
    await bench.host.prepare()
    return new GateBench(bench, await createSigner())
  }

  readonly clock: Clock = { ...systemClock, now: () => systemClock.now() + this.aheadMs }

  get policyPath(): string {
    return join(this.bench.directory, 'policy', 'policy.yaml')
  }

  get stateDirectory(): string {
    return join(this.bench.directory, 'state')
  }

  get fault(): string | undefined {
    return this.#gate.fault
  }

  policy(commands: Record<string, unknown>): void {
    this.write(JSON.stringify({ commands }))
  }

  write(text: string, mode = 0o600): void {
    writeFileSync(this.policyPath, text)
    chmodSync(this.policyPath, mode)
  }

  /** As after a restart: what is on disk, and nothing else. `lost`: without the database. */
  async restart({ lost = false }: { lost?: boolean } = {}): Promise<void> {
    await this.#close()
    if (lost) writeFileSync(join(this.stateDirectory, 'agent.db'), '')
    this.#journal = this.#openJournal()
    this.#gate = this.#openGate()
    this.#dispatcher = this.#openDispatcher()
  }

  /** A VM that runs, made past all rules. */
  async makeVm(name: string, changes: Partial<VmSpecification> = {}): Promise<VmSpecification> {
    const specification = this.bench.specification({ name, uuid: randomUUID(), ...changes })
    const { hypervisor } = this.bench
    const wait = { signal: AbortSignal.timeout(10_000) }
    const taken = (await hypervisor.listVms(wait)).length
    const placement = {
      ...{ uid: 1_900_000_000 + taken, macAddress: `52:54:00:00:00:0${taken}`, network: 'hl-net' },
      ...{ address: `10.90.0.${10 + taken}`, rootVolume: `vm-${name}-root.qcow2`, dataVolume: null }
    }
    const definition = { specification, placement, generation: 1, wanted: 'stopped', seedPath: null } as const
    await hypervisor.define(definition, wait)
    return specification
  }

  async vms(): Promise<string[]> {
    const vms = await this.bench.hypervisor.listVms({ signal: AbortSignal.timeout(10_000) })
    return vms.map(({ specification: { name } }) => name).sort()
  }

  claims(
    verb: string,
    vm: Pick<VmSpecification, 'name' | 'uuid'> | undefined,
    rest: Record<string, unknown> = {}
  ): CommandClaims {
    const { subject: _other, ...claims } = claimsOf(this.clock.now(), { verb, arguments: rest })
    if (vm === undefined) return claims
    const generation = 100 + this.#generation++
    const named = 'specification' in rest ? rest : { vm: vm.name, ...rest }
    return { ...claims, subject: { vm: vm.name, uuid: vm.uuid, generation }, arguments: named }
  }

  async ask(
    verb: string,
    vm: Pick<VmSpecification, 'name' | 'uuid'> | undefined,
    rest: Record<string, unknown> = {}
  ): Promise<Answer> {
    return await this.send(await this.signer.sign(this.claims(verb, vm, rest)))
  }

  /** What a plan of the command says of the policy; `refused` where it forbids plans as well. */
  async forecast(
    verb: string,
    vm: Pick<VmSpecification, 'name' | 'uuid'> | undefined,
    rest: Record<string, unknown> = {}
  ): Promise<PolicyForecast> {
    const { subject, arguments: asked } = this.claims(verb, vm, rest)
    const about = subject && { subject: { vm: subject.vm, uuid: subject.uuid } }
    const claims = this.claims('operation.plan', undefined, { verb, arguments: asked, ...about })
    const answer = await this.send(await this.signer.sign(claims))
    if (answer !== 'accepted') return { verdict: 'refused', text: answer.message }
    const found = this.sent.find(
      (message) => message.type === 'result' && message.result.command === claims.id
    )
    if (found?.type !== 'result') throw new Error('the plan has no result')
    const { policy } = found.result.value as { policy: PolicyForecast }
    return policy
  }

  /** How the host answers a signed command. */
  async send(jws: string, approvals: readonly string[] = []): Promise<Answer> {
    const { id } = JSON.parse(Buffer.from(jws.split('.')[1] ?? '', 'base64url').toString())
    const before = this.sent.length
    await this.#dispatcher.receive(jws, approvals)
    const isAnswer = (message: AgentMessage) =>
      (message.type === 'ack' || message.type === 'refusal') && message.command === id
    // What only looks acknowledges together with its answer.
    while (!this.sent.slice(before).some(isAnswer)) await new Promise(setImmediate)
    const answer = this.sent.slice(before).find(isAnswer)
    return answer?.type === 'refusal' ? answer.error : 'accepted'
  }

  /** The same for one whose signature is not known: its refusal names no command. */
  async sendUnknown(jws: string, approvals: readonly string[] = []): Promise<Answer> {
    const before = this.sent.length
    await this.#dispatcher.receive(jws, approvals)
    // What an earlier operation still tells is no answer to this one.
    const answer = this.sent.slice(before).find(({ type }) => type === 'refusal' || type === 'ack')
    return answer?.type === 'refusal' ? answer.error : 'accepted'
  }

  /** Waits until nothing runs or waits any more. */
  async idle(): Promise<void> {
    while (this.#dispatcher.running + this.#dispatcher.waiting > 0) await systemClock.sleep(5)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close()
    await this.bench[Symbol.asyncDispose]()
  }

  async #close(): Promise<void> {
    await this.idle()
    await this.#dispatcher.stop(5_000)
    this.#journal[Symbol.dispose]()
  }

  #openJournal(): Journal {
    return new Journal(join(this.stateDirectory, 'agent.db'), { clock: this.clock })
  }

  #openGate(): HostGate {
    const { policyPath, stateDirectory, clock, bench } = this
    const commandKeys = () => [this.signer.publicKey]
    const { hypervisor } = bench
    return new HostGate({
      policyPath,
      stateDirectory,
      verbs,
      hypervisor,
      commandKeys,
      clock,
      log: silentLogger
    })
  }

  #openDispatcher(): Dispatcher<Host> {
    const { clock, bench } = this
    return new Dispatcher<Host>({
      host: bench.host,
      verbs,
      journal: this.#journal,
      clock,
      log: silentLogger,
      gate: this.#gate,
      trail: { note: async (note) => void this.notes.push(note) },
      readiness: { isReady: () => true, untilReady: async (signal) => signal.throwIfAborted() },
      verifier: new CommandVerifier({ hostId, keys: () => [this.signer.publicKey], clock }),
      generationOf: async () => 0,
      emit: (message) => this.sent.push(message),
      concurrencyMax: 4,
      waitingMax: 64
    })
  }
}
