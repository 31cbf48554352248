// What a host is given to join: one join token, or address, CA hash and bare token one by one.

import { readFileSync } from 'node:fs'
import { HostletError } from '../errors.ts'
import {
  decodeJoinToken,
  isJoinToken,
  type JoinToken,
  joinTokenCharactersMax
} from '../protocol/join-token.ts'

export interface JoinOptions {
  readonly scheduler?: string | undefined
  readonly caHash?: string | undefined
  readonly token?: string | undefined
  readonly tokenFile?: string | undefined
}

/**
 * What the options, or HOSTLET_TOKEN, say. `--scheduler` stands in for the addresses of a join token. Throws E_BAD_REQUEST
 * for what is missing or damaged, E_AUTH for a token whose time is over and for a CA hash that contradicts it.
 */
export function readJoin(options: JoinOptions, fromEnvironment: string | undefined, now: number): JoinToken {
  const text = (options.token ?? fileOrEnvironment(options.tokenFile, fromEnvironment) ?? '').trim()
  if (text === '')
    throw new HostletError(
      'E_BAD_REQUEST',
      'no host joins without a token. Make one with "hostlet host token" and give --token-file, --token or HOSTLET_TOKEN.'
    )
  return isJoinToken(text) ? ofJoinToken(decodeJoinToken(text), options, now) : ofParts(text, options)
}

function ofJoinToken(join: JoinToken, { scheduler, caHash }: JoinOptions, now: number): JoinToken {
  if (caHash !== undefined && caHash !== join.caHash)
    throw new HostletError(
      'E_AUTH',
      `--ca-hash says ${caHash}, the join token ${join.caHash}: they are of two schedulers. Make a new token with "hostlet host token".`
    )
  if (join.expiresAt !== undefined && join.expiresAt < now)
    throw new HostletError(
      'E_AUTH',
      `the join token ended at ${new Date(join.expiresAt).toISOString()}. Make a new one with "hostlet host token", or look whether this host's clock is right: timedatectl.`,
      { details: { reason: 'expired-token' } }
    )
  return scheduler === undefined ? join : { ...join, urls: [scheduler] }
}

function ofParts(token: string, { scheduler, caHash }: JoinOptions): JoinToken {
  if (scheduler === undefined || caHash === undefined)
    throw new HostletError(
      'E_BAD_REQUEST',
      'a bare token needs --scheduler and --ca-hash: run the line that "hostlet host token" prints.'
    )
  return { version: 1, urls: [scheduler], caHash, token }
}

function fileOrEnvironment(path: string | undefined, fromEnvironment: string | undefined) {
  if (path === undefined) return fromEnvironment
  try {
    const text = readFileSync(path === '-' ? 0 : path, 'utf8')
    return text.slice(0, joinTokenCharactersMax + 1)
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'unknown error'
    throw new HostletError('E_BAD_REQUEST', `${path}: the token cannot be read (${code}).`, { cause })
  }
}
