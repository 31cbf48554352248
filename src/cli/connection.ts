// Where the scheduler is and how to show that one may ask it: options first, then the environment, then the user's file.

import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { HostletError } from '../errors.ts'
import { type Cli, type OutputFormat, outputOption } from './cli.ts'
import { apiKeyOf } from './given-names.ts'
import { formatTime } from './quantities.ts'
import {
  keyHashOf,
  readSession,
  type StoredSession,
  sessionFilePath,
  settingsDirectory
} from './session-file.ts'

export interface ConnectionOptions {
  readonly scheduler?: string
  readonly apiKeyFile?: string
  readonly caFile?: string
  readonly output?: OutputFormat
}

export interface Connection {
  readonly url: URL
  /** The API key, or the token of a session in its place. */
  readonly apiKey: string
  /** PEM of the CA that signed the scheduler's certificate; undefined for the public ones. */
  readonly ca: string | undefined
  /** Where the CA was read from, for messages. */
  readonly caFile: string | undefined
}

const fileBytesMax = 64 * 1024

/** Adds the options of every command that talks to the scheduler. */
export function connectionOptions(command: Command): Command {
  return command
    .option('--scheduler <url>', 'address of the scheduler (HOSTLET_SCHEDULER)')
    .option(
      '--api-key-file <file>',
      'file with the API key (HOSTLET_API_KEY_FILE, or HOSTLET_API_KEY itself)'
    )
    .option('--ca-file <file>', 'PEM file of the scheduler’s CA (HOSTLET_CA_FILE)')
    .addOption(outputOption(command))
}

/** Throws E_BAD_REQUEST naming what is missing and where it may be said; E_AUTH where the session has ended. */
export async function findConnection(cli: Cli, options: ConnectionOptions): Promise<Connection> {
  const scheduler = await findScheduler(cli, options)
  return { ...scheduler, apiKey: keyOrSession(cli, scheduler) }
}

export interface SchedulerPlace extends Omit<Connection, 'apiKey'> {
  /** The API key where one was given anywhere. */
  readonly key: string | undefined
}

/** Where the scheduler is, for what needs no key or asks for one. Throws E_BAD_REQUEST. */
export async function findScheduler(cli: Cli, options: ConnectionOptions): Promise<SchedulerPlace> {
  const file = await readUserFile(cli)
  const address = options.scheduler || cli.environment.HOSTLET_SCHEDULER || file.scheduler
  if (address === undefined)
    throw missing('the scheduler’s address', '--scheduler https://HOST:7443', 'HOSTLET_SCHEDULER', cli)
  const caFile = options.caFile || cli.environment.HOSTLET_CA_FILE || file.caFile
  return {
    url: schedulerUrl(address),
    key: findKey(cli, options, file),
    ca: caFile === undefined ? undefined : readSmall(caFile, 'CA certificate'),
    caFile
  }
}

/** The session stands in where no key was given, and for the key that opened it. */
function keyOrSession(cli: Cli, { url, key }: SchedulerPlace): string {
  const stored = readSession(sessionFilePath(cli.environment))
  const session = stored?.scheduler === url.origin ? stored : undefined
  const isOver = session !== undefined && session.expiresAt <= cli.clock.now()
  if (session !== undefined && !isOver && (key === undefined || keyHashOf(key) === session.keyHash))
    return session.token
  if (key !== undefined) return key
  if (session !== undefined) throw sessionOver(session)
  throw missing(
    'an API key',
    '--api-key-file FILE, sign in with "hostlet login"',
    'HOSTLET_API_KEY_FILE',
    cli
  )
}

function sessionOver({ scheduler, expiresAt }: StoredSession): HostletError {
  return new HostletError(
    'E_AUTH',
    `your session at ${scheduler} ended ${formatTime(expiresAt)}. Sign in again: hostlet login.`
  )
}

export function userFilePath(environment: Readonly<Record<string, string | undefined>>): string {
  return join(settingsDirectory(environment), 'cli.yaml')
}

interface UserFile {
  scheduler?: string
  apiKeyFile?: string
  caFile?: string
}

async function readUserFile(cli: Cli): Promise<UserFile> {
  const path = userFilePath(cli.environment)
  if (!existsSync(path)) return {}
  const { loadUserFile } = await import('./user-file.ts')
  return loadUserFile(path)
}

function findKey(cli: Cli, options: ConnectionOptions, file: UserFile): string | undefined {
  const { HOSTLET_API_KEY: text, HOSTLET_API_KEY_FILE: fromEnvironment } = cli.environment
  // An option is nearer to the hand than the environment, whichever form either takes.
  const path = options.apiKeyFile || (text ? undefined : fromEnvironment || file.apiKeyFile)
  const key = (path === undefined ? text : readSmall(path, 'API key'))?.trim()
  if (key === undefined || key === '') return undefined
  return apiKeyOf(key, `${path ?? 'HOSTLET_API_KEY'} holds`)
}

function schedulerUrl(address: string): URL {
  const url = URL.parse(address)
  if (url === null || url.protocol !== 'https:' || url.username !== '' || url.password !== '')
    throw new HostletError(
      'E_BAD_REQUEST',
      `"${address}" is not an address of a scheduler. Write it as https://HOST:7443.`
    )
  return url
}

function missing(what: string, option: string, variable: string, cli: Cli): HostletError {
  return new HostletError(
    'E_BAD_REQUEST',
    `no command goes without ${what}. Give ${option}, set ${variable}, or write it into ${userFilePath(cli.environment)}.`,
    { details: { missing: variable === 'HOSTLET_SCHEDULER' ? 'scheduler' : 'key' } }
  )
}

function readSmall(path: string, what: string): string {
  try {
    return readFileSync(resolve(path), 'utf8').slice(0, fileBytesMax)
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'unknown error'
    throw new HostletError(
      'E_BAD_REQUEST',
      `${path}: the ${what} cannot be read (${code}). Give another file, or run it as a user who may read this one.`,
      { cause }
    )
  }
}
