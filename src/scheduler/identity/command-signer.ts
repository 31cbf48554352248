// The key that signs commands, and signing. Whoever holds it commands every host, so nothing but this file reads it.

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

interface PrivateKey extends CommandKey {
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
    const jwk = text === undefined ? await createKey() : parseKey(text, path)
    if (text === undefined) writePrivateFile(path, `${JSON.stringify(jwk)}\n`)
    const { d: _secret, ...publicKey } = jwk
    return new CommandSigner(publicKey, await importKey(jwk, path))
  }

  /** The scheduler's receipt for the head of a host's audit trail. */
  async signReceipt(claims: ReceiptClaims): Promise<string> {
    return this.#sign(claims, receiptJwsType)
  }

  /** The compact JWS. Throws E_BAD_REQUEST when the command is longer than a host accepts. */
  async sign(claims: CommandClaims): Promise<string> {
    const jws = await this.#sign(claims, commandJwsType)
    if (jws.length <= commandBytesMax) return jws
    throw new HostletError(
      'E_BAD_REQUEST',
      `the command is ${jws.length} bytes long, a host accepts ${commandBytesMax}. Shorten its arguments.`
    )
  }

  #sign(claims: object, typ: string): Promise<string> {
    return new CompactSign(new TextEncoder().encode(JSON.stringify(claims)))
      .setProtectedHeader({ alg: algorithm, kid: this.publicKey.kid, typ })
      .sign(this.#key)
  }
}

async function createKey(): Promise<PrivateKey> {
  const { privateKey } = await generateKeyPair(algorithm, { crv: 'Ed25519', extractable: true })
  const { x, d } = await exportJWK(privateKey)
  if (x === undefined || d === undefined)
    throw new HostletError('E_INTERNAL', 'the new command key has no x or d')
  const bare = { kty: 'OKP', crv: 'Ed25519', x } as const
  return { ...bare, d, kid: await calculateJwkThumbprint(bare) }
}

function parseKey(text: string, path: string): PrivateKey {
  const jwk = safeParse(text)
  const whole = ['x', 'd', 'kid'].every((name) => typeof jwk?.[name] === 'string')
  if (whole && jwk?.kty === 'OKP' && jwk.crv === 'Ed25519') return jwk as unknown as PrivateKey
  throw corrupt(path)
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

async function importKey(jwk: PrivateKey, path: string): Promise<CryptoKey> {
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
