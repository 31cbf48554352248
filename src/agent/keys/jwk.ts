// X25519 keys as JWK: made, read, and kept where only the agent reads them.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { calculateJwkThumbprint, exportJWK, generateKeyPair, type JWK } from 'jose'
import { HostletError } from '../../errors.ts'
import { ensurePrivateDirectory, writePrivateFile } from '../../lib/private-file.ts'
import { type Static, Type } from '../../lib/schema.ts'
import { compile } from '../../protocol/validate.ts'

const base64url = '^[A-Za-z0-9_-]{43}$'
const PrivateKey = Type.Object({
  kty: Type.Literal('OKP'),
  crv: Type.Literal('X25519'),
  x: Type.String({ pattern: base64url }),
  d: Type.String({ pattern: base64url })
})
const PublicKey = Type.Object({
  kty: Type.Literal('OKP'),
  crv: Type.Literal('X25519'),
  x: Type.String({ pattern: base64url })
})
const checkPrivateKey = compile(PrivateKey, 'private key')
const checkPublicKey = compile(PublicKey, 'public key')

export type PrivateKey = Static<typeof PrivateKey> & { readonly kid: string }
export type PublicKey = Static<typeof PublicKey> & { readonly kid: string }

export interface HostKeyPlaces {
  readonly stateDirectory: string
  /** Where systemd has put the unit's credentials; undefined outside of systemd. */
  readonly credentialsDirectory?: string | undefined
}

/** What a key is called: as a credential of systemd, and as a file in the state directory. */
export interface KeyNames {
  readonly credential: string
  readonly file: string
}

/**
 * The key: systemd's credential where there is one, otherwise a file in the state directory, made when it is missing.
 * Throws E_CORRUPT when what is there is no such key, E_UNAVAILABLE when it cannot be written.
 */
export async function ensureKey(places: HostKeyPlaces, names: KeyNames): Promise<PrivateKey> {
  const path = credentialPath(places, names.credential) ?? join(places.stateDirectory, names.file)
  const found = await readKey(path)
  if (found !== undefined) return found
  ensurePrivateDirectory(places.stateDirectory)
  const key = await createPrivateKey()
  writePrivateFile(path, keyText(key))
  return key
}

/** The key in a file; undefined where there is none. Throws E_CORRUPT. */
export async function readKey(path: string): Promise<PrivateKey | undefined> {
  return existsSync(path) ? await parsePrivateKey(readFileSync(path, 'utf8'), path) : undefined
}

export function keyText(key: PrivateKey): string {
  return `${JSON.stringify(key, undefined, 2)}\n`
}

/** A new key pair for ECDH-ES. */
export async function createPrivateKey(): Promise<PrivateKey> {
  const { privateKey } = await generateKeyPair('ECDH-ES+A256KW', { crv: 'X25519', extractable: true })
  return await withThumbprint(checkPrivateKey(await exportJWK(privateKey)))
}

export function publicHalf({ kty, crv, x, kid }: PrivateKey): PublicKey {
  return { kty, crv, x, kid }
}

/** A private key from the text of its JWK. Throws E_CORRUPT; what the text holds is in no error. */
export async function parsePrivateKey(text: string, path: string): Promise<PrivateKey> {
  const { kty, crv, x, d } = parse(text, path, checkPrivateKey, 'private X25519 key')
  return await withThumbprint({ kty, crv, x, d })
}

/** A public key from the text or value of its JWK. Throws E_AUTH for a private one, E_CORRUPT for anything else. */
export async function parsePublicKey(source: string | object, path: string): Promise<PublicKey> {
  const text = typeof source === 'string' ? source : JSON.stringify(source)
  const { kty, crv, x, ...rest } = parse(text, path, checkPublicKey, 'public X25519 key')
  if ('d' in rest)
    throw new HostletError(
      'E_AUTH',
      `${path}: is a private key. A recipient is a public one: keep the private half away from this host.`
    )
  return await withThumbprint({ kty, crv, x })
}

/** Where systemd has put a credential of this name; undefined when it has not. */
export function credentialPath(
  { credentialsDirectory }: Pick<HostKeyPlaces, 'credentialsDirectory'>,
  name: string
): string | undefined {
  if (credentialsDirectory === undefined) return undefined
  const path = join(credentialsDirectory, name)
  return existsSync(path) ? path : undefined
}

function parse<Value>(
  text: string,
  path: string,
  check: (value: unknown) => Value,
  what: string
): Value & Record<string, unknown> {
  try {
    return check(JSON.parse(text)) as Value & Record<string, unknown>
  } catch {
    // The cause is left out: a parser's message repeats what it could not read, and that may be the key.
    throw new HostletError('E_CORRUPT', `${path}: is not the JWK of a ${what}`)
  }
}

/** Name of a key: RFC 7638, of the public members only. */
async function withThumbprint<Key extends JWK>(key: Key): Promise<Key & { kid: string }> {
  const { kty, crv, x } = key as { kty: string; crv: string; x: string }
  return { ...key, kid: await calculateJwkThumbprint({ kty, crv, x } as JWK) }
}
