// A whole agent on a hypervisor in memory with one VM, whose local socket may be asked; its operations stand still when told to.

import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Agent, startAgent } from '../../src/agent/app.ts'
import { MemoryNft } from '../../src/agent/firewall/memory-nft.ts'
import { MemoryHypervisor } from '../../src/agent/host/memory-hypervisor.ts'
import { AgentSocket } from '../../src/cli/local/agent-socket.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import type { CommandClaims } from '../../src/protocol/command.ts'
import { localSocketName } from '../../src/protocol/local.ts'
import { enrollHost, openTestFleet, type TestFleet } from './enrolled-host.ts'
import { claimsOf, vmUuid } from './signed-commands.ts'

const waitMs = 30_000
const pollMs = 20

export class LocalHost implements AsyncDisposable {
  readonly hypervisor: MemoryHypervisor
  readonly fleet: TestFleet
  readonly socket: AgentSocket
  readonly #directory: string
  readonly #agent: Agent
  readonly #stack: AsyncDisposableStack
  #gate = Promise.withResolvers<void>()

  private constructor(of: {
    hypervisor: MemoryHypervisor
    fleet: TestFleet
    agent: Agent
    directory: string
    stack: AsyncDisposableStack
  }) {
    this.hypervisor = of.hypervisor
    this.fleet = of.fleet
    this.#agent = of.agent
    this.#directory = of.directory
    this.#stack = of.stack
    this.socket = new AgentSocket(join(of.directory, 'run', localSocketName))
    this.#gate.resolve()
    const annotate = this.hypervisor.annotate.bind(this.hypervisor)
    this.hypervisor.annotate = async (...given) => {
      await this.#gate.promise
      return await annotate(...given)
    }
  }

  static async start(): Promise<LocalHost> {
    await using stack = new AsyncDisposableStack()
    const directory = mkdtempSync('/dev/shm/hostlet-local-')
    stack.defer(() => rmSync(directory, { recursive: true, force: true }))
    const fleet = await openTestFleet()
    stack.use(fleet.scheduler)
    const hypervisor = new MemoryHypervisor({ clock: systemClock })
    await defineVm(hypervisor)
    const { config } = await enrollHost(fleet, directory, { metrics: { intervalMs: 1_000 } })
    const log = { ...silentLogger, setLevel: () => undefined }
    const agent = stack.use(await startAgent(config, { hypervisor, log, nft: new MemoryNft() }))
    await fleet.scheduler.until(() => fleet.scheduler.of('inventory').length > 0)
    return new LocalHost({ hypervisor, fleet, agent, directory, stack: stack.move() })
  }

  get path(): string {
    return this.socket.path
  }

  /** Operations stop where they write down what is wanted of a VM, until `goOn`. */
  standStill(): void {
    this.#gate = Promise.withResolvers<void>()
  }

  goOn(): void {
    this.#gate.resolve()
  }

  /** Asks for it as the scheduler does; resolves once it was taken. Its id. */
  async command(verb: string, generation: number): Promise<string> {
    const subject = { vm: 'web-1', uuid: vmUuid, generation }
    const claims: CommandClaims = claimsOf(Date.now(), { verb, subject, arguments: { vm: 'web-1' } })
    const { scheduler, signer } = this.fleet
    scheduler.send({ type: 'command', jws: await signer.sign(claims) })
    await scheduler.until(() => scheduler.of('ack').some(({ command }) => command === claims.id))
    return claims.id
  }

  async ended(id: string): Promise<void> {
    const { scheduler } = this.fleet
    await scheduler.until(() => scheduler.of('result').some(({ result }) => result.command === id))
  }

  status() {
    return this.socket.ask('/v1/status', 'LocalStatus', AbortSignal.timeout(waitMs))
  }

  operations(query: string) {
    return this.socket.ask(`/v1/operations?${query}`, 'LocalOperations', AbortSignal.timeout(waitMs))
  }

  /** Asks until it is so. */
  async until(holds: (status: Awaited<ReturnType<LocalHost['status']>>) => boolean) {
    const deadline = AbortSignal.timeout(waitMs)
    for (;;) {
      const status = await this.status()
      if (holds(status)) return status
      deadline.throwIfAborted()
      await sleep(pollMs)
    }
  }

  async stop(): Promise<void> {
    this.goOn()
    await this.#agent.stop()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.goOn()
    await this.#stack.disposeAsync()
    rmSync(this.#directory, { recursive: true, force: true })
  }
}

async function defineVm(hypervisor: MemoryHypervisor): Promise<void> {
  hypervisor.open()
  const image = { url: 'file:///image', sha256: '0'.repeat(64), format: 'raw' } as const
  const sizes = { cpus: 1, memoryBytes: 64 * 1024 ** 2, rootDiskBytes: 1024 ** 2 }
  const network = { network: 'hl-net', macAddress: '52:54:00:00:00:01', address: '10.90.0.2' }
  const definition = {
    specification: { name: 'web-1', uuid: vmUuid, profile: 'starter', image, ...sizes },
    placement: { uid: 1_900_000_000, ...network, rootVolume: 'web-1-root.qcow2', dataVolume: null },
    generation: 1,
    wanted: 'stopped',
    seedPath: null
  } as const
  await hypervisor.define(definition, { signal: AbortSignal.timeout(waitMs) })
}
