// Scheduler and agent of this run, and the operator's commands to them, each by the real command line.

import { execFile } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { ApiClient } from '../../src/cli/api-client.ts'
import { Daemon } from './daemon.ts'
import { agentConfig, envFile, schedulerConfig } from './files.ts'
import { freeSubnet, type Settings } from './settings.ts'

const commandTimeoutMs = 240_000
const pollMs = 100

export class Fleet {
  readonly settings: Settings
  readonly signal: AbortSignal
  #url = ''
  #scheduler: Daemon | undefined
  #agent: Daemon | undefined
  #client: ApiClient | undefined

  constructor(settings: Settings, signal: AbortSignal) {
    this.settings = settings
    this.signal = signal
  }

  /** The API, for what is looked at often. Throws before the scheduler runs. */
  get client(): ApiClient {
    if (this.#client === undefined) throw new Error('the scheduler was not started')
    return this.#client
  }

  async startScheduler(): Promise<string> {
    const { settings } = this
    // QEMU runs as another user and opens its seed by name: it may pass through.
    mkdirSync(settings.runtimeDirectory, { recursive: true, mode: 0o711 })
    for (const directory of [settings.directory, settings.agentState])
      mkdirSync(directory, { recursive: true, mode: 0o700 })
    mkdirSync(settings.logDirectory, { recursive: true })
    for (const name of ['agent', 'scheduler']) writeFileSync(`${settings.logDirectory}/${name}.log`, '')
    const port = await freePort()
    this.#url = `https://127.0.0.1:${port}`
    writeFileSync(settings.schedulerConfig, schedulerConfig(settings, port))
    writeFileSync(settings.agentConfig, agentConfig(settings, freeSubnet(settings.name)))
    writeFileSync(settings.envFile, envFile(settings, this.#url))
    this.#scheduler = new Daemon(settings, 'scheduler', ['scheduler', '--config', settings.schedulerConfig])
    await this.until(async () => (await this.#connect()) !== undefined, 'the scheduler to serve')
    return `listens on ${this.#url}`
  }

  startAgent(): void {
    this.#agent = new Daemon(this.settings, 'agent', ['agent', '--config', this.settings.agentConfig])
  }

  /** Runs a command as an operator would and returns its JSON. Throws with what it says on its error stream. */
  async hostlet(
    words: readonly string[],
    options: { json?: boolean; signal?: AbortSignal } = {}
  ): Promise<unknown> {
    const json = options.json ?? true
    const all = [this.settings.main, ...words, ...(json ? ['-o', 'json'] : [])]
    const { status, stdout, stderr } = await execute(this.settings.node, all, {
      env: { PATH: process.env.PATH, HOME: this.settings.directory, ...this.environment() },
      signal: options.signal ?? this.signal
    })
    if (status !== 0) throw new Error(`"hostlet ${words.slice(0, 3).join(' ')}" failed: ${errorOf(stderr)}`)
    return json ? JSON.parse(stdout) : stdout
  }

  environment(): Readonly<Record<string, string>> {
    return {
      HOSTLET_SCHEDULER: this.#url,
      HOSTLET_API_KEY_FILE: `${this.settings.schedulerState}/admin.key`,
      HOSTLET_CA_FILE: `${this.settings.schedulerState}/ca.pem`
    }
  }

  /** Looks often until it holds. Throws at the deadline, when a daemon ends, and the signal's reason. */
  async until(holds: () => Promise<boolean>, what: string, timeoutMs = 60_000): Promise<void> {
    const deadlineMs = performance.now() + timeoutMs
    while (!(await holds())) {
      this.#scheduler?.assertRuns()
      this.#agent?.assertRuns()
      if (performance.now() > deadlineMs) throw new Error(`waited ${timeoutMs / 1_000} s in vain for ${what}`)
      await sleep(pollMs, undefined, { signal: this.signal })
    }
  }

  /** Every VM through the ordinary way while both sides still run, then both sides. Never throws: the cleaner looks after the rest. */
  async takeDown(): Promise<void> {
    if (this.#agent !== undefined && this.#client !== undefined) await this.#removeVms()
    this.#client?.[Symbol.dispose]()
    await this.#agent?.end()
    await this.#scheduler?.end()
  }

  async #removeVms(): Promise<void> {
    // Not the run's own signal, which may be why we are here.
    const signal = AbortSignal.timeout(commandTimeoutMs)
    try {
      // With one side dead nobody would answer: what it left goes through libvirt at once.
      this.#scheduler?.assertRuns()
      this.#agent?.assertRuns()
      const { vms } = await this.client.ask({ method: 'GET', path: '/v1/vms', signal }, 'VmList')
      // A VM without an image was not asked for here, but found on the host: it is somebody else's.
      for (const { name, state, image } of vms)
        if (state !== 'missing' && image !== undefined)
          await this.hostlet(['vm', 'rm', name, '--now', '--yes'], { signal })
    } catch (error) {
      console.error(
        `    a VM did not go the ordinary way (${(error as Error).message}); removing it through libvirt`
      )
    }
  }

  /** Undefined while the scheduler does not answer yet. */
  async #connect(): Promise<ApiClient | undefined> {
    const { HOSTLET_API_KEY_FILE: keyFile = '', HOSTLET_CA_FILE: caFile = '' } = this.environment()
    try {
      const [apiKey, ca] = [readFileSync(keyFile, 'utf8').trim(), readFileSync(caFile, 'utf8')]
      const client = new ApiClient({ url: new URL(this.#url), apiKey, ca, caFile })
      await client.ask({ method: 'GET', path: '/v1/status', signal: this.signal }, 'StatusView')
      this.#client = client
    } catch (error) {
      if (this.signal.aborted) throw error
    }
    return this.#client
  }
}

function execute(
  program: string,
  words: readonly string[],
  options: { env: NodeJS.ProcessEnv; signal: AbortSignal }
): Promise<{ status: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      program,
      [...words],
      { ...options, timeout: commandTimeoutMs },
      (_error, stdout, stderr) => {
        if (options.signal.aborted) reject(options.signal.reason)
        else resolve({ status: child.exitCode, stdout, stderr })
      }
    )
  })
}

function errorOf(stderr: string): string {
  const last = stderr.trimEnd().split('\n').at(-1) ?? ''
  try {
    const { error } = JSON.parse(last) as { error: { code: string; message: string } }
    return `${error.code}: ${error.message}`
  } catch {
    return stderr.trim().replaceAll('\n', ' ') || 'it said nothing'
  }
}

/** Asked of the kernel and given back: the scheduler's configuration has to name it before it listens. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
}
