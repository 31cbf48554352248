// A real scheduler on the loopback, with its own directory and a clock that the test moves.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseConfigText } from '../../../src/lib/config-file.ts'
import type { CreatedToken } from '../../../src/protocol/api.ts'
import { type Scheduler, startScheduler } from '../../../src/scheduler/app.ts'
import { type SchedulerConfig, SchedulerConfigSchema } from '../../../src/scheduler/config.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { ApiClient } from './api-client.ts'
import { RecordingLog } from './recording-log.ts'
import { enrollAgent, type TestAgent } from './test-agent.ts'

export class TestScheduler implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'hostlet-scheduler-'))
  readonly clock: FakeClock
  readonly log = new RecordingLog()
  readonly #change: (config: SchedulerConfig) => SchedulerConfig
  readonly #agents: TestAgent[] = []
  #running: Scheduler | undefined

  private constructor(change: (config: SchedulerConfig) => SchedulerConfig, startsAt: number) {
    this.#change = change
    this.clock = new FakeClock(startsAt)
  }

  /** Its clock starts now unless told otherwise: TLS looks at the machine's own clock. */
  static async start(
    change: (config: SchedulerConfig) => SchedulerConfig = (config) => config,
    startsAt = Date.now()
  ): Promise<TestScheduler> {
    const scheduler = new TestScheduler(change, startsAt)
    await scheduler.startAgain()
    return scheduler
  }

  get running(): Scheduler {
    if (this.#running === undefined) throw new Error('the scheduler is stopped')
    return this.#running
  }

  get adminKey(): string {
    return readFileSync(join(this.directory, 'admin.key'), 'utf8').trim()
  }

  get api(): ApiClient {
    return this.apiWith(this.adminKey)
  }

  apiWith(key: string | undefined): ApiClient {
    return new ApiClient({ url: this.running.url, caFile: this.running.caFile, key })
  }

  async stop(): Promise<void> {
    await this.#running?.stop()
    this.#running = undefined
  }

  /** With the same directory, and whatever port is free. */
  async startAgain(): Promise<void> {
    this.#running = await startScheduler(this.#change(defaultConfig(this.directory)), {
      clock: this.clock,
      log: this.log
    })
  }

  async token(options: { ttlSeconds?: number } = {}): Promise<CreatedToken> {
    return this.api.post<CreatedToken>('/v1/tokens', options)
  }

  /** A host that has enrolled and not connected. */
  async enroll(hostname = 'kvm-1'): Promise<TestAgent> {
    const agent = await enrollAgent({
      api: this.apiWith(undefined),
      token: (await this.token()).token,
      hostname,
      address: () => this.running.url
    })
    this.#agents.push(agent)
    return agent
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const agent of this.#agents) agent.hangUp()
    await this.stop()
    rmSync(this.directory, { recursive: true, force: true })
  }
}

export function defaultConfig(directory: string): SchedulerConfig {
  return {
    ...parseConfigText(
      '{ names: [localhost, 127.0.0.1], vms: { retainDays: 0 } }',
      'test',
      SchedulerConfigSchema
    ),
    stateDirectory: directory,
    listen: { address: '127.0.0.1', port: 0 }
  }
}
