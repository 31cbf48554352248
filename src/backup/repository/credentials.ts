// Credentials of an S3 service, from where they may lie: a private file, a systemd credential, the environment, or encrypted.

import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import type { JWK } from 'jose'
import { HostletError } from '../../errors.ts'
import { isSegment } from './object-name.ts'
import type { StoreCredentials } from './open-store.ts'

export const credentialsBytesMax = 64 * 1024
const accessibleByOthers = 0o077
const { O_NONBLOCK, O_RDONLY } = constants

/** Longest value of each key; anything else in the text is refused (JSON) or left alone (ini). */
const valueCharactersMax = { accessKeyId: 256, secretAccessKey: 1_024, sessionToken: 8_192 } as const
type Key = keyof typeof valueCharactersMax
const required: readonly Key[] = ['accessKeyId', 'secretAccessKey']

/** How Amazon's tools call them in their ini files, and in capitals in the environment. */
const namesOfAmazon: Readonly<Record<string, Key>> = {
  aws_access_key_id: 'accessKeyId',
  aws_secret_access_key: 'secretAccessKey',
  aws_session_token: 'sessionToken'
}

/**
 * Reads `{"accessKeyId":…,"secretAccessKey":…,"sessionToken"?:…}`, or the ini form of Amazon's tools (the given section).
 * `where` names the source in errors, which never repeat the text. Throws E_CORRUPT.
 */
export function parseCredentials(text: string, where: string, section = 'default'): StoreCredentials {
  const isJson = text.trimStart().startsWith('{')
  return checked(isJson ? fromJson(text, where) : fromIni(text, section), where)
}

/** From a file that belongs to root or to this user, and that nobody else may read. Throws E_NOT_FOUND, E_AUTH, E_CORRUPT. */
export async function credentialsFromFile(path: string, section?: string): Promise<StoreCredentials> {
  return parseCredentials(await readPrivate(path), path, section)
}

/** From a credential that systemd handed to this process; `directory` is $CREDENTIALS_DIRECTORY. */
export async function credentialsFromSystemd(
  name: string,
  directory: string | undefined
): Promise<StoreCredentials> {
  const where = `the systemd credential ${isSegment(name) ? name : 'of this name'}`
  if (directory === undefined || !isSegment(name))
    throw new HostletError('E_NOT_FOUND', `${where} is not there. Add LoadCredential= to the unit.`)
  return parseCredentials(await readPrivate(join(directory, name)), where)
}

/** From AWS_ACCESS_KEY_ID and its sisters; undefined where none is set. Throws E_CORRUPT when only some are. */
export function credentialsFromEnvironment(
  environment: Readonly<Record<string, string | undefined>>
): StoreCredentials | undefined {
  const found = Object.entries(namesOfAmazon).flatMap(([name, key]) => {
    const value = environment[name.toUpperCase()]
    return value ? [[key, value] as const] : []
  })
  return found.length === 0 ? undefined : checked(Object.fromEntries(found), 'the environment')
}

/** From a compact JWE (ECDH-ES, with or without key wrapping, A256GCM). Throws E_AUTH when the key does not open it. */
export async function credentialsFromJwe(jwe: string, privateKey: JWK): Promise<StoreCredentials> {
  const { compactDecrypt, importJWK } = await import('jose')
  const decrypt = async () =>
    await compactDecrypt(jwe.trim(), await importJWK(privateKey, 'ECDH-ES+A256KW'), {
      keyManagementAlgorithms: ['ECDH-ES', 'ECDH-ES+A256KW'],
      contentEncryptionAlgorithms: ['A256GCM']
    })
  const { plaintext } = await decrypt().catch(() => {
    // Without the cause, which may hold parts of either.
    throw new HostletError(
      'E_AUTH',
      'the encrypted credentials cannot be opened with this key. Encrypt them for it anew.'
    )
  })
  return parseCredentials(Buffer.from(plaintext).toString('utf8'), 'the encrypted credentials')
}

function fromJson(text: string, where: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value }
  } catch {
    // The cause is left out: a parser's message repeats what it could not read.
  }
  throw malformed(where)
}

function fromIni(text: string, wanted: string): Record<string, unknown> {
  const found: Record<string, unknown> = {}
  let section = ''
  for (const line of text.split('\n').map((line) => line.trim())) {
    const header = /^\[\s*(.+?)\s*\]$/.exec(line)
    if (header) section = header[1] ?? ''
    const [, name = '', value] = /^([A-Za-z_]+)\s*=\s*(.*)$/.exec(line) ?? []
    const key = namesOfAmazon[name.toLowerCase()]
    if (section === wanted && key !== undefined) found[key] = value
  }
  return found
}

function checked(value: Record<string, unknown>, where: string): StoreCredentials {
  const keys = Object.keys(valueCharactersMax) as Key[]
  const isComplete = required.every((key) => value[key] !== undefined)
  const isKnown = Object.keys(value).every((name) => keys.some((key) => key === name))
  const isSound = Object.entries(value).every(([name, text]) =>
    isValue(text, valueCharactersMax[name as Key])
  )
  if (!isComplete || !isKnown || !isSound) throw malformed(where)
  const { accessKeyId, secretAccessKey, sessionToken } = value as Record<Key, string>
  return { accessKeyId, secretAccessKey, ...(sessionToken !== undefined && { sessionToken }) }
}

/** Printable ASCII: what may stand in a header. */
function isValue(text: unknown, charactersMax: number): boolean {
  return typeof text === 'string' && text.length <= charactersMax && /^[\x21-\x7e]+$/.test(text)
}

function malformed(where: string): HostletError {
  return new HostletError(
    'E_CORRUPT',
    `${where}: expected JSON with accessKeyId, secretAccessKey and perhaps sessionToken, or the ini form of Amazon's tools`
  )
}

/** What was checked is what is read: both through one descriptor. */
async function readPrivate(path: string): Promise<string> {
  try {
    await using file = await open(path, O_RDONLY | O_NONBLOCK)
    const { mode, uid, size } = await file.stat()
    const isOurs = uid === 0 || uid === process.getuid?.()
    if ((mode & accessibleByOthers) !== 0 || !isOurs)
      throw new HostletError(
        'E_AUTH',
        `${path} may be read or written by others: chmod 600, and chown it to the user that reads it.`
      )
    if (size > credentialsBytesMax) throw malformed(path)
    return await file.readFile('utf8')
  } catch (error) {
    if (error instanceof HostletError) throw error
    const { code } = error as NodeJS.ErrnoException
    throw new HostletError(
      code === 'ENOENT' ? 'E_NOT_FOUND' : 'E_AUTH',
      `the credentials in ${path} cannot be read (${code ?? 'unknown'}). Check the path and its owner.`,
      { cause: error }
    )
  }
}
