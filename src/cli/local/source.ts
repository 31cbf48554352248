// Whom a command asks that the agent of this host and the scheduler can both answer.

import { statSync } from 'node:fs'
import { HostletError } from '../../errors.ts'
import { ApiClient } from '../api-client.ts'
import type { Cli } from '../cli.ts'
import { type Connection, type ConnectionOptions, findConnection, userFilePath } from '../connection.ts'
import { AgentSocket, type LocalOptions, mayAsk, socketOf } from './agent-socket.ts'
import { unitFault } from './unit.ts'

export type SourceOptions = LocalOptions & ConnectionOptions

/** Where the scheduler is, if anything says it. Throws for what is said wrongly. */
async function connectionOf(cli: Cli, options: SourceOptions): Promise<Connection | HostletError> {
  const isNamed = [options.scheduler, options.apiKeyFile, options.caFile].some((given) => given !== undefined)
  try {
    return await findConnection(cli, options)
  } catch (error) {
    // Half of a connection in the environment is a mistake to be told only to who wants the scheduler.
    if (isNamed || !(error instanceof HostletError)) throw error
    return error
  }
}

/** The agent, where this host has one that may be asked and nobody named a scheduler. */
export async function nearest(cli: Cli, options: SourceOptions): Promise<AgentSocket | ApiClient> {
  const agent = new AgentSocket(socketOf(options, cli.environment))
  refuseBoth(options)
  if (isLocal(options)) return agent
  const isNamed = options.scheduler !== undefined || options.apiKeyFile !== undefined
  if (!isNamed && mayAsk(agent.path)) return agent
  const connection = await connectionOf(cli, options)
  if (!(connection instanceof HostletError)) return new ApiClient(connection)
  await requireEither(agent, connection, cli)
  return agent
}

/** The scheduler where one is known, and the agent of this host for when it is not there. */
export async function farthest(
  cli: Cli,
  options: SourceOptions
): Promise<{ readonly scheduler: ApiClient | undefined; readonly agent: AgentSocket }> {
  const agent = new AgentSocket(socketOf(options, cli.environment))
  refuseBoth(options)
  if (isLocal(options)) return { scheduler: undefined, agent }
  const connection = await connectionOf(cli, options)
  if (connection instanceof HostletError) await requireEither(agent, connection, cli)
  return { scheduler: connection instanceof HostletError ? undefined : new ApiClient(connection), agent }
}

/** Where no agent can be meant: throws E_UNAVAILABLE that names both, or what is wrong with the scheduler that is configured. */
async function requireEither(
  { path }: AgentSocket,
  wrong: HostletError,
  { environment }: Cli
): Promise<void> {
  if (!isAbsent(path)) return
  if (wrong.details.missing !== 'scheduler') throw wrong
  throw new HostletError(
    'E_UNAVAILABLE',
    `no scheduler is configured (HOSTLET_SCHEDULER, --scheduler, or ${userFilePath(environment)}), and ${await unitFault(path, false)}`
  )
}

/** One that this user may not look at is there, for all that is known. */
function isAbsent(path: string): boolean {
  try {
    statSync(path)
    return false
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT'
  }
}

function isLocal({ local, socket }: LocalOptions): boolean {
  return local === true || socket !== undefined
}

function refuseBoth(options: SourceOptions): void {
  if (!isLocal(options) || options.scheduler === undefined) return
  throw new HostletError(
    'E_BAD_REQUEST',
    'the agent of this host (--local, --socket) or the scheduler (--scheduler): give one of them.'
  )
}
