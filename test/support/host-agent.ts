// A whole agent that has enrolled at a real scheduler, with its hypervisor and packet filter in memory.

import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Agent, startAgent } from '../../src/agent/app.ts'
import { loadAgentConfig } from '../../src/agent/config.ts'
import { MemoryNft } from '../../src/agent/firewall/memory-nft.ts'
import { MemoryHypervisor } from '../../src/agent/host/memory-hypervisor.ts'
import { enroll } from '../../src/agent/identity/enroll.ts'
import { type Clock, systemClock } from '../../src/lib/clock.ts'
import { createLogger } from '../../src/lib/log-output.ts'
import type { TestScheduler } from '../scheduler/support/test-scheduler.ts'

const machineDefault = 'a'.repeat(64)

export class HostAgent implements AsyncDisposable {
  // In memory, as a host's runtime directory is.
  readonly directory = mkdtempSync('/dev/shm/hostlet-host-')
  readonly #lines: Record<string, unknown>[] = []
  readonly #waiting = new Set<() => void>()
  #agent: Agent | undefined
  #hypervisor: MemoryHypervisor | undefined

  /** Of the last start. */
  get hypervisor(): MemoryHypervisor {
    if (this.#hypervisor === undefined) throw new Error('the agent was not started')
    return this.#hypervisor
  }

  get stateDirectory(): string {
    return join(this.directory, 'state')
  }

  static async enroll(
    scheduler: TestScheduler,
    { hostname = 'kvm-1', clock }: { hostname?: string; clock?: Clock } = {}
  ): Promise<HostAgent> {
    const host = new HostAgent()
    const { token, caHash } = await scheduler.token()
    await enroll({
      schedulerUrl: scheduler.running.url,
      ...{ token, caHash, hostname },
      stateDirectory: host.stateDirectory,
      machine: machineDefault,
      ...(clock && { clock })
    })
    return host
  }

  /** Another machine that was given a copy of this one's state directory. */
  copy(): HostAgent {
    const other = new HostAgent()
    cpSync(this.stateDirectory, other.stateDirectory, { recursive: true })
    return other
  }

  async start(
    scheduler: TestScheduler,
    {
      machine = machineDefault,
      clock = systemClock,
      settings = {}
    }: { machine?: string; clock?: Clock; settings?: Readonly<Record<string, unknown>> } = {}
  ): Promise<void> {
    const path = join(this.directory, 'agent.yaml')
    writeFileSync(
      path,
      JSON.stringify({
        stateDirectory: this.stateDirectory,
        runtimeDirectory: join(this.directory, 'run'),
        // The port changes when the scheduler of a test starts again.
        schedulerUrls: [`${scheduler.running.url.replace('https', 'wss')}/v1/agent`],
        ...settings
      })
    )
    const config = loadAgentConfig(path, {})
    const log = createLogger({
      format: 'json',
      level: 'debug',
      stream: { write: (line) => this.#note(line) }
    })
    const hypervisor = new MemoryHypervisor({ clock })
    this.#hypervisor = hypervisor
    this.#agent = await startAgent(config, { hypervisor, log, machine, clock, nft: new MemoryNft() })
  }

  async stop(): Promise<void> {
    await this.#agent?.stop()
    this.#agent = undefined
  }

  /** Lines of the log with that message, the oldest first; each has its fields and `message`. */
  logged(message: string): Record<string, unknown>[] {
    return this.#lines.filter((line) => line.message === message)
  }

  /** Resolves when the log has such a line. */
  async untilLogged(message: string): Promise<Record<string, unknown>> {
    for (;;) {
      const [found] = this.logged(message)
      if (found !== undefined) return found
      await new Promise<void>((resolve) => this.#waiting.add(resolve))
    }
  }

  get log(): string {
    return this.#lines.map((line) => JSON.stringify(line)).join('\n')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
    rmSync(this.directory, { recursive: true, force: true })
  }

  #note(line: string): void {
    this.#lines.push(JSON.parse(line) as Record<string, unknown>)
    for (const resolve of this.#waiting) resolve()
    this.#waiting.clear()
  }
}
