// What every world of this process shares, made once before chance is taken out of it: keys, certificates, empty databases,
// configurations and an image.

import { createHash } from 'node:crypto'
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ensureHostKey } from '../../src/agent/backups/host-key.ts'
import { type AgentConfig, loadAgentConfig } from '../../src/agent/config.ts'
import { type Identity, saveIdentity } from '../../src/agent/identity/identity.ts'
import { HostKey } from '../../src/agent/keys/host-key.ts'
import { Journal } from '../../src/agent/operations/journal.ts'
import { parseConfigText } from '../../src/lib/config-file.ts'
import type { ImageReference } from '../../src/protocol/vm.ts'
import { type SchedulerConfig, SchedulerConfigSchema } from '../../src/scheduler/config.ts'
import { CommandSigner } from '../../src/scheduler/identity/command-signer.ts'
import { SqliteStore } from '../../src/scheduler/store/sqlite-store.ts'
import { createSigner, type Signer } from '../support/signed-commands.ts'
import { TestAuthority } from '../support/test-authority.ts'
import { epochMs } from './virtual-time.ts'

const yearMs = 365 * 86_400_000
export const hostNames = ['h1', 'h2', 'h3'] as const
/** How often a machine may be enrolled anew. */
export const enrollmentsMax = 4

export interface Fixtures extends Disposable {
  /** In memory; worlds make their own directories in it. */
  readonly directory: string
  readonly authority: string
  readonly signer: CommandSigner
  /** A key that no host knows. */
  readonly stranger: Signer
  readonly image: ImageReference
  readonly imageContent: Buffer
  readonly agentConfig: AgentConfig
  readonly schedulerConfig: SchedulerConfig
  identity(hostId: string): Identity
  /** A state directory as enrollment leaves it. */
  makeState(path: string, hostId: string): void
  makeStore(path: string): void
}

export function hostIdOf(host: string, enrollment: number): string {
  return enrollment === 0 ? host : `${host}-${enrollment}`
}

export async function makeFixtures(): Promise<Fixtures> {
  const directory = mkdtempSync('/dev/shm/hostlet-simulation-')
  const signer = await CommandSigner.open(directory)
  const authority = await TestAuthority.create()
  const identities = new Map<string, Identity>()
  for (const host of hostNames)
    for (let enrollment = 0; enrollment < enrollmentsMax; enrollment++) {
      const hostId = hostIdOf(host, enrollment)
      const life = { from: epochMs - yearMs, to: epochMs + 9 * yearMs }
      identities.set(hostId, await authority.identity({ hostId, commandKeys: [signer.publicKey], ...life }))
    }
  const state = join(directory, 'empty-state')
  await makeEmptyState(state)
  const store = join(directory, 'empty-store')
  mkdirSync(store)
  const schedulerConfig = schedulerConfigOf(store)
  await new SqliteStore(store, schedulerConfig).close()
  const imageContent = Buffer.alloc(4_096, 'image ')
  const identity = (hostId: string) => identities.get(hostId) as Identity
  return {
    directory,
    authority: authority.certificate,
    signer,
    stranger: await createSigner(signer.publicKey.kid),
    image: {
      url: 'https://images.example.org/small.img',
      sha256: createHash('sha256').update(imageContent).digest('hex'),
      format: 'raw'
    },
    imageContent,
    agentConfig: agentConfigOf(directory),
    schedulerConfig,
    identity,
    makeState: (path, hostId) => {
      cpSync(state, path, { recursive: true })
      saveIdentity(path, identity(hostId))
    },
    makeStore: (path) => {
      mkdirSync(path)
      for (const name of ['scheduler.db', 'observed.db']) copyFileSync(join(store, name), join(path, name))
    },
    [Symbol.dispose]: () => rmSync(directory, { recursive: true, force: true })
  }
}

async function makeEmptyState(path: string): Promise<void> {
  mkdirSync(path, { mode: 0o700 })
  const clock = { now: () => epochMs }
  await HostKey.open({ stateDirectory: path, clock })
  await ensureHostKey({ stateDirectory: path })
  new Journal(join(path, 'agent.db'), { clock })[Symbol.dispose]()
}

function agentConfigOf(directory: string): AgentConfig {
  const path = join(directory, 'agent.yaml')
  const profile = {
    network: 'hl-net',
    bridge: 'hlnet',
    subnet: '10.90.0.0/24',
    encryption: false
  }
  const text = {
    profiles: { starter: profile },
    network: { resolvers: ['192.0.2.53'], checkIntervalMs: 3_600_000 },
    vmUids: { first: 1_900_000_000, count: 16 },
    preparedDisks: 0,
    operations: { concurrencyMax: 2, waitingMax: 4 },
    backup: { policy: join(directory, 'no-policy.yaml') },
    metrics: { intervalMs: 3_600_000 },
    stop: { graceMs: 10_000 },
    readyTimeoutMs: 20_000
  }
  writeFileSync(path, JSON.stringify(text))
  return loadAgentConfig(path, {})
}

function schedulerConfigOf(directory: string): SchedulerConfig {
  const text = `
names: [scheduler]
trustDomain: test.example
vms: { retainDays: 0 }
agents: { heartbeatIntervalMs: 15000, metricsIntervalMs: 3600000 }
commands: { expireAfterMs: 60000, abandonAfterMs: 86400000 }
`
  return { ...parseConfigText(text, 'simulation', SchedulerConfigSchema), stateDirectory: directory }
}
