// A whole hostlet for the figures: scheduler and enrolled agent as processes of their own, on a private libvirtd.

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { ApiClient } from '../../src/cli/api-client.ts'
import { type PrivateLibvirtd, startLibvirtd } from './private-libvirtd.ts'
import { unitEnvironment } from './unit-environment.ts'

const run = promisify(execFile)
const program = join(import.meta.dirname, '../../src/main.ts')
const START_DEADLINE_MS = 30_000
const STOP_DEADLINE_MS = 20_000
const RETRY_MS = 50

export interface Fleet extends AsyncDisposable {
  readonly libvirtd: PrivateLibvirtd
  readonly api: ApiClient
  readonly agentPid: number
  /** Where files may lie that QEMU's users have to reach, and that `file:` URLs of images may name. */
  readonly imagesDirectory: string
  readonly poolDirectory: string
  /** Prepared disks of the agent: a file that is still being made has its key beside it. */
  readonly preparedDirectory: string
  readonly agentLog: string
}

export interface FleetOptions {
  readonly metricsIntervalMs?: number
  /** Encrypted disks that the agent keeps ready; none by default. */
  readonly preparedDisks?: number
  /** Runs once libvirtd answers, before there is an agent. */
  readonly prepare?: (libvirtd: PrivateLibvirtd) => Promise<void>
}

export async function startFleet(options: FleetOptions = {}): Promise<Fleet> {
  const { metricsIntervalMs = 10_000, preparedDisks = 0, prepare } = options
  await using started = new AsyncDisposableStack()
  const libvirtd = started.use(await startLibvirtd())
  const { directory } = libvirtd
  for (const name of ['images', 'pool']) mkdirSync(join(directory, name), { mode: 0o711 })
  await prepare?.(libvirtd)
  const scheduler = await startScheduler(directory, metricsIntervalMs)
  started.defer(() => stop(scheduler.child))
  const api = started.use(clientOf(scheduler.url, directory))
  const config = agentConfig(directory, libvirtd, preparedDisks)
  await enroll(api, config)
  const agentLog = join(directory, 'agent.log')
  const startAgent = async () => {
    const child = startProgram(['agent', '--config', config], agentLog, unitEnvironment(directory))
    await untilConnected(api, { child, log: agentLog })
    return child
  }
  // The first run leaves its compiled code behind, as that after an installation does.
  await stop(await startAgent())
  const agent = await startAgent()
  started.defer(() => stop(agent))
  const owned = started.move()
  return {
    ...{ libvirtd, api, agentLog, agentPid: agent.pid ?? 0 },
    imagesDirectory: join(directory, 'images'),
    poolDirectory: join(directory, 'pool'),
    preparedDirectory: join(directory, 'agent-run/disks'),
    [Symbol.asyncDispose]: () => owned.disposeAsync()
  }
}

async function startScheduler(
  directory: string,
  metricsIntervalMs: number
): Promise<{ child: ChildProcess; url: string }> {
  const port = 20_000 + (process.pid % 20_000)
  const config = join(directory, 'scheduler.yaml')
  writeFileSync(
    config,
    `stateDirectory: ${directory}/scheduler
listen: { address: 127.0.0.1, port: ${port} }
names: [127.0.0.1]
agents: { metricsIntervalMs: ${metricsIntervalMs} }
log: { level: warn, format: json }
`
  )
  const log = join(directory, 'scheduler.log')
  const child = startProgram(['scheduler', '--config', config], log)
  const key = join(directory, 'scheduler/admin.key')
  await until(() => existsSync(key), { child, log, what: 'the scheduler makes its key' })
  return { child, url: `https://127.0.0.1:${port}` }
}

function clientOf(url: string, directory: string): ApiClient {
  const caFile = join(directory, 'scheduler/ca.pem')
  const apiKey = readFileSync(join(directory, 'scheduler/admin.key'), 'utf8').trim()
  return new ApiClient({ url: new URL(url), apiKey, ca: readFileSync(caFile, 'utf8'), caFile })
}

/** The profile `starter` has disks in clear, `sealed` encrypted ones. */
function agentConfig(directory: string, { socket }: PrivateLibvirtd, preparedDisks: number): string {
  const config = join(directory, 'agent.yaml')
  writeFileSync(
    config,
    `stateDirectory: ${directory}/agent
runtimeDirectory: ${directory}/agent-run
libvirt: { socket: ${socket} }
accelerator: tcg
pool: { path: ${directory}/pool }
preparedDisks: ${preparedDisks}
profiles:
  starter: { network: hostlet-starter, bridge: hl-starter, subnet: 10.83.0.0/20, encryption: false }
  sealed: { network: hostlet-sealed, bridge: hl-sealed, subnet: 10.83.16.0/20, encryption: true }
images: { allowFileUrls: [${directory}/images] }
log: { level: info, format: json }
`
  )
  return config
}

async function enroll(api: ApiClient, config: string): Promise<void> {
  const signal = AbortSignal.timeout(START_DEADLINE_MS)
  const created = await retried(() =>
    api.ask({ method: 'POST', path: '/v1/tokens', body: {}, signal }, 'CreatedToken')
  )
  const { token, caHash } = created
  const words = ['enroll', '--scheduler', api.connection.url.origin, '--ca-hash', caHash, '--config', config]
  await run(process.execPath, [program, ...words], { env: { ...process.env, HOSTLET_TOKEN: token } })
}

/** The key is there a moment before the port listens. */
async function retried<Value>(ask: () => Promise<Value>): Promise<Value> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await ask()
    } catch (error) {
      if (attempt === 100) throw error
      await sleep(RETRY_MS)
    }
  }
}

async function untilConnected(api: ApiClient, agent: Omit<Waiting, 'what'>): Promise<void> {
  const since = Date.now()
  const connected = async () => {
    const signal = AbortSignal.timeout(START_DEADLINE_MS)
    const { hosts } = await api.ask({ method: 'GET', path: '/v1/hosts', signal }, 'HostList')
    return hosts.some((host) => (host.connectedAt ?? 0) >= since && host.facts !== undefined)
  }
  await until(connected, { ...agent, what: 'the agent is connected' })
}

interface Waiting {
  readonly child: ChildProcess
  readonly log: string
  readonly what: string
}

async function until(holds: () => boolean | Promise<boolean>, { child, log, what }: Waiting): Promise<void> {
  const deadline = performance.now() + START_DEADLINE_MS
  while (!(await holds())) {
    const ended = child.exitCode !== null || child.signalCode !== null
    if (ended || performance.now() > deadline) {
      const tail = readFileSync(log, 'utf8').slice(-2_000)
      throw new Error(`waited in vain until ${what}${ended ? ': it ended' : ''}\n${tail}`)
    }
    await sleep(RETRY_MS)
  }
}

function startProgram(
  words: readonly string[],
  log: string,
  environment: Readonly<Record<string, string>> = {}
): ChildProcess {
  const output = openSync(log, 'a')
  return spawn('setpriv', ['--pdeathsig', 'KILL', process.execPath, program, ...words], {
    stdio: ['ignore', output, output],
    env: { ...process.env, ...environment }
  })
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGTERM')
  const killer = setTimeout(() => child.kill('SIGKILL'), STOP_DEADLINE_MS)
  await once(child, 'exit')
  clearTimeout(killer)
}
