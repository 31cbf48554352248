// What a whole agent in a test needs besides its hypervisor: a scheduler, a key that signs commands, a configuration and an identity.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type AgentConfig, loadAgentConfig } from '../../src/agent/config.ts'
import { saveIdentity } from '../../src/agent/identity/identity.ts'
import { createSigner, type Signer } from './signed-commands.ts'
import { TestAuthority, trustDomain } from './test-authority.ts'
import { TestScheduler } from './test-scheduler.ts'

export interface TestFleet {
  readonly authority: TestAuthority
  /** To be disposed of by whoever asked for it. */
  readonly scheduler: TestScheduler
  readonly signer: Signer
}

export async function openTestFleet(of: { readonly authority?: TestAuthority } = {}): Promise<TestFleet> {
  const { authority = await TestAuthority.create() } = of
  const uris = [`spiffe://${trustDomain}/scheduler/main`]
  const server = await authority.issue({ usage: 'server', uris })
  const scheduler = await TestScheduler.listen({ authority, server })
  return { authority, scheduler, signer: await createSigner() }
}

/** Enrolls a host that has all of its own in the directory. Returns its configuration and the file that holds it. */
export async function enrollHost(
  { authority, scheduler, signer }: TestFleet,
  directory: string,
  settings: Record<string, unknown>
): Promise<{ config: AgentConfig; configPath: string }> {
  const configPath = join(directory, 'agent.yaml')
  const places = { stateDirectory: join(directory, 'state'), runtimeDirectory: join(directory, 'run') }
  writeFileSync(configPath, JSON.stringify({ ...places, schedulerUrls: [scheduler.socketUrl], ...settings }))
  const config = loadAgentConfig(configPath, {})
  saveIdentity(config.stateDirectory, await authority.identity({ commandKeys: [signer.publicKey] }))
  return { config, configPath }
}
