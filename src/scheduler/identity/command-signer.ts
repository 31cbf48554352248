// The key that signs commands, and signing. Whoever holds it commands every host, so nothing but this file reads it.

import { createPrivateKey } from 'node:crypto'
import { join } from 'node:path'
import {
  CompactSign,
  type CryptoKey,
  calculateJwkThumbprint,
  exportJWK,
  generateKeyPair,
  importJWK
} from 'jose'
import { HostletError } from '../../errors.ts'
import { writePrivateFile } from '../../lib/private-file.ts'
import { type CommandClaims, commandBytesMax, commandJwsType } from '../../protocol/command.ts'
import type { CommandKey } from '../../protocol/enrollment.ts'
import { type ReceiptClaims, receiptJwsType } from '../../protocol/trail.ts'
import { readIfThere } from './read-if-there.ts'

const algorithm = 'EdDSA'

/** As JWK; `kid` is the RFC 7638 thumbprint. */
export interface CommandPrivateKey extends CommandKey {
  readonly d: string
}

export class CommandSigner {
  /** What hosts verify with. */
  readonly publicKey: CommandKey
  readonly #key: CryptoKey

  private constructor(publicKey: CommandKey, key: CryptoKey) {
    this.publicKey = publicKey
    this.#key = key
  }

  /** Loads the key from the directory, or makes it there. Throws E_CORRUPT when the file is not such a key. */
  static async open(directory: string): Promise<CommandSigner> {
    const path = join(directory, 'command-key.json')
    const text = readIfThere(path)
    const jwk = text === undefined ? await createCommandKey() : await parseCommandKey(text, path)
    if (text === undefined) writePrivateFile(path, commandKeyText(jwk))
    return CommandSigner.of(jwk, path)
  }

  /** `path` is where the key came from, for errors. */
  static async of(jwk: CommandPrivateKey, path: string): Promise<CommandSigner> {
    const { d: _secret, ...publicKey } = jwk
    return new CommandSigner(publicKey, await importKey(jwk, path))
  }

  /** The scheduler's receipt for the head of a host's audit trail. */
  async signReceipt(claims: ReceiptClaims): Promise<string> {
    return this.signPayload(new TextEncoder().encode(JSON.stringify(claims)), receiptJwsType)
  }

  /** The compact JWS of any payload, in the same bytes. */
  async signPayload(payload: Uint8Array, typ: string): Promise<string> {
    return await new CompactSign(payload)
      .setProtectedHeader({ alg: algorithm, kid: this.publicKey.kid, typ })
      .sign(this.#key)
  }

  /** The compact JWS. Throws E_BAD_REQUEST when the command is longer than a host accepts. */
  async sign(claims: CommandClaims): Promise<string> {
    const jws = await this.signPayload(new TextEncoder().encode(JSON.stringify(claims)), commandJwsType)
    if (jws.length <= commandBytesMax) return jws
    throw new HostletError(
      'E_BAD_REQUEST',
      `the command is ${jws.length} bytes long, a host accepts ${commandBytesMax}. Shorten its arguments.`
    )
  }
}

export function commandKeyText(key: CommandPrivateKey): string {
  return `${JSON.stringify(key)}\n`
}

export async function createCommandKey(): Promise<CommandPrivateKey> {
  const { privateKey } = await generateKeyPair(algorithm, { crv: 'Ed25519', extractable: true })
  const { x, d } = await exportJWK(privateKey)
  if (x === undefined || d === undefined)
    throw new HostletError('E_INTERNAL', 'the new command key has no x or d')
  const bare = { kty: 'OKP', crv: 'Ed25519', x } as const
  return { ...bare, d, kid: await calculateJwkThumbprint(bare) }
}

/** From a JWK, or from PEM as "openssl genpkey -algorithm ed25519" writes it. Throws E_CORRUPT; shows nothing of the text. */
export async function parseCommandKey(text: string, path: string): Promise<CommandPrivateKey> {
  const jwk = text.includes('-----BEGIN') ? jwkOfPem(text) : safeParse(text)
  const whole = ['x', 'd'].every((name) => typeof jwk?.[name] === 'string')
  if (!whole || jwk?.kty !== 'OKP' || jwk.crv !== 'Ed25519') throw corrupt(path)
  const bare = { kty: 'OKP', crv: 'Ed25519', x: String(jwk.x) } as const
  const kid = typeof jwk.kid === 'string' ? jwk.kid : await calculateJwkThumbprint(bare)
  return { ...bare, d: String(jwk.d), kid }
}

function jwkOfPem(text: string): Record<string, unknown> | undefined {
  try {
    return { ...createPrivateKey(text).export({ format: 'jwk' }) }
  } catch {
    // The caller says that the file is corrupt.
    return undefined
  }
}

function safeParse(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    // The caller says that the file is corrupt.
    return undefined
  }
}

async function importKey(jwk: CommandPrivateKey, path: string): Promise<CryptoKey> {
  try {
    const key = await importJWK({ ...jwk }, algorithm)
    if (!(key instanceof Uint8Array)) return key
  } catch (cause) {
    throw corrupt(path, cause)
  }
  throw corrupt(path)
}

function corrupt(path: string, cause?: unknown): HostletError {
  return new HostletError('E_CORRUPT', `${path} is not an Ed25519 key. Restore it from a backup.`, { cause })
}
