// Which audit a command is about: the trail of this host, read from its directory, or what the scheduler holds.

import { existsSync } from 'node:fs'
import type { Command } from 'commander'
import { ApiClient } from '../api-client.ts'
import { type Cli, type OutputFormat, outputOption } from '../cli.ts'
import { findConnection } from '../connection.ts'
import { loadOrExit } from '../daemon.ts'

export interface AuditOptions {
  readonly config: string
  readonly stateDirectory?: string
  /** `true` without an address: the one of the environment or the user's file. */
  readonly scheduler?: string | true
  readonly apiKeyFile?: string
  readonly caFile?: string
  readonly output: OutputFormat
}

const stateDirectoryDefault = '/var/lib/hostlet'

export function auditOptions(command: Command, ofScheduler: string): Command {
  return command
    .option('--state-directory <directory>', 'of the agent, where its configuration does not say')
    .option('--config <file>', 'configuration of the agent', '/etc/hostlet/agent.yaml')
    .option('--scheduler [url]', `${ofScheduler} (HOSTLET_SCHEDULER)`)
    .option('--api-key-file <file>', 'file with the API key (HOSTLET_API_KEY_FILE)')
    .option('--ca-file <file>', 'PEM file of the scheduler’s CA (HOSTLET_CA_FILE)')
    .addOption(outputOption(command))
}

/** Works while the agent runs and while it does not. */
export async function stateDirectoryOf(options: AuditOptions): Promise<string> {
  if (options.stateDirectory !== undefined) return options.stateDirectory
  if (!existsSync(options.config)) return stateDirectoryDefault
  const { loadAgentConfig } = await import('../../agent/config.ts')
  return loadOrExit(() => loadAgentConfig(options.config)).stateDirectory
}

export async function schedulerOf(cli: Cli, options: AuditOptions): Promise<ApiClient> {
  const { scheduler, ...rest } = options
  const url = typeof scheduler === 'string' ? { scheduler } : {}
  return new ApiClient(await findConnection(cli, { ...rest, ...url }))
}
