// A real scheduler on the loopback with a host that answers as the test says, for commands in processes of their own.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import type { CreatedToken } from '../../src/protocol/api.ts'
import { type Scheduler, startScheduler } from '../../src/scheduler/app.ts'
import { ApiClient } from '../scheduler/support/api-client.ts'
import { enrollAgent, type TestAgent } from '../scheduler/support/test-agent.ts'
import { defaultConfig } from '../scheduler/support/test-scheduler.ts'
import { type Ended, hostlet } from './program.ts'

export class TestFleet implements AsyncDisposable {
  readonly scheduler: Scheduler
  readonly agent: TestAgent
  readonly #directory: string

  private constructor(parts: { scheduler: Scheduler; agent: TestAgent; directory: string }) {
    this.scheduler = parts.scheduler
    this.agent = parts.agent
    this.#directory = parts.directory
  }

  static async start(): Promise<TestFleet> {
    const directory = mkdtempSync(join(tmpdir(), 'hostlet-cli-fleet-'))
    const options = { clock: systemClock, log: silentLogger }
    const scheduler = await startScheduler(defaultConfig(directory), options)
    const key = readFileSync(scheduler.adminKeyFile, 'utf8').trim()
    const { url, caFile } = scheduler
    const { token } = await new ApiClient({ url, caFile, key }).post<CreatedToken>('/v1/tokens')
    const api = new ApiClient({ url, caFile, key: undefined })
    const agent = await enrollAgent({ api, token, hostname: 'kvm-1', address: () => url })
    await agent.connect()
    agent.sendInventory()
    await agent.sync()
    return new TestFleet({ scheduler, agent, directory })
  }

  get environment(): Record<string, string> {
    const { url, caFile, adminKeyFile } = this.scheduler
    return { HOSTLET_SCHEDULER: url, HOSTLET_CA_FILE: caFile, HOSTLET_API_KEY_FILE: adminKeyFile }
  }

  hostlet(...words: readonly string[]): Promise<Ended> {
    return hostlet(words, this.environment)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.agent.hangUp()
    await this.scheduler.stop()
    rmSync(this.#directory, { recursive: true, force: true })
  }
}
