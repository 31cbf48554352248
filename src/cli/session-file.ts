// The session that "hostlet login" opened, ~/.config/hostlet/session: its user's alone, good at one scheduler alone.

import { createHash } from 'node:crypto'
import { lstatSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { HostletError } from '../errors.ts'
import { privateDirectoryMode, writePrivateFile } from '../lib/private-file.ts'

export interface StoredSession {
  /** Origin of the scheduler that it is for: it is shown to no other. */
  readonly scheduler: string
  readonly token: string
  /** SHA-256 of the key that opened it: where that is given, the session stands in for it. */
  readonly keyHash: string
  readonly expiresAt: number
}

const othersMode = 0o077
const bytesMax = 16 * 1024

export function settingsDirectory(environment: Readonly<Record<string, string | undefined>>): string {
  const base = environment.XDG_CONFIG_HOME || join(environment.HOME ?? homedir(), '.config')
  return join(base, 'hostlet')
}

export function sessionFilePath(environment: Readonly<Record<string, string | undefined>>): string {
  return join(settingsDirectory(environment), 'session')
}

/** Undefined where there is none. Throws E_BAD_REQUEST where others can read it, or it is no session. */
export function readSession(path: string): StoredSession | undefined {
  const state = lstatSync(path, { throwIfNoEntry: false })
  if (state === undefined) return undefined
  if (!state.isFile() || (state.mode & othersMode) !== 0)
    throw new HostletError(
      'E_BAD_REQUEST',
      `${path} can be read by others than you, so it is not used. Remove it, then sign in again: hostlet login.`
    )
  const session = parse(readFileSync(path, 'utf8').slice(0, bytesMax))
  if (session !== undefined) return session
  throw new HostletError(
    'E_BAD_REQUEST',
    `${path} holds no session. Remove it, then sign in again: hostlet login.`
  )
}

/** Throws E_UNAVAILABLE. */
export function writeSession(path: string, session: StoredSession): void {
  mkdirSync(dirname(path), { recursive: true, mode: privateDirectoryMode })
  writePrivateFile(path, `${JSON.stringify(session)}\n`)
}

export function removeSession(path: string): void {
  rmSync(path, { force: true })
}

export function keyHashOf(key: string): string {
  return createHash('sha256').update(key).digest('hex')
}

function parse(text: string): StoredSession | undefined {
  try {
    const { scheduler, token, keyHash, expiresAt } = JSON.parse(text) as Record<string, unknown>
    if (typeof scheduler !== 'string' || typeof keyHash !== 'string' || typeof expiresAt !== 'number') return
    if (typeof token !== 'string' || !/^hls_[A-Za-z0-9_-]{43}$/.test(token)) return
    return { scheduler, token, keyHash, expiresAt }
  } catch {
    return undefined
  }
}
