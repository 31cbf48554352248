// The host's key of secrets: disk keys are wrapped under it, and secrets of commands are sealed for it. It can be rotated.

import { join } from 'node:path'
import { CompactEncrypt, compactDecrypt, decodeProtectedHeader, importJWK } from 'jose'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { writePrivateFile } from '../../lib/private-file.ts'
import { replacePrivateFile, shredFile } from '../../lib/shred.ts'
import {
  createPrivateKey,
  credentialPath,
  ensureKey,
  type HostKeyPlaces,
  keyText,
  type PrivateKey,
  type PublicKey,
  publicHalf,
  readKey
} from './jwk.ts'
import { type RetiredKey, readRetiredKeys, retiredKeysText } from './retired-keys.ts'

/** Of systemd, instead of files in the state directory; the second opens what was sealed before a rotation. */
export const secretsKeyCredential = 'hostlet-host-key'
export const previousKeyCredential = 'hostlet-host-key-previous'
export const secretsKeyName = 'host-key.jwk'
const nextKeyName = 'host-key-next.jwk'
const retiredKeysName = 'host-key-retired.json'
/** How long a key that was rotated away still opens what was sealed for it: commands under way, for the most part. */
export const retiredKeyMs = 7 * 24 * 3_600_000

const algorithm = { alg: 'ECDH-ES+A256KW', enc: 'A256GCM' } as const

export interface HostKeyOptions extends HostKeyPlaces {
  readonly clock: Pick<Clock, 'now'>
}

/** Where a rotation is: what is wrapped under any other key than `current` is to be wrapped anew. */
export class HostKey {
  readonly #options: HostKeyOptions
  #current: PrivateKey
  /** Keys besides the current one that may still be needed, by their names. */
  #others = new Map<string, PrivateKey>()

  private constructor(options: HostKeyOptions, current: PrivateKey) {
    this.#options = options
    this.#current = current
  }

  /** Throws E_CORRUPT when what is there is no such key, E_UNAVAILABLE when none can be written. */
  static async open(options: HostKeyOptions): Promise<HostKey> {
    const names = { credential: secretsKeyCredential, file: secretsKeyName }
    const key = new HostKey(options, await ensureKey(options, names))
    await key.#gatherOthers()
    return key
  }

  get publicKey(): PublicKey {
    return publicHalf(this.#current)
  }

  get isCredential(): boolean {
    return credentialPath(this.#options, secretsKeyCredential) !== undefined
  }

  /** A compact JWE for the current key. */
  async seal(text: string): Promise<string> {
    return await sealFor(this.publicKey, text)
  }

  isCurrent(jwe: string): boolean {
    return kidOf(jwe) === this.#current.kid
  }

  /** Throws E_AUTH for what was sealed for another key, E_CORRUPT for what was changed since. Holds nothing of it in errors. */
  async open(jwe: string): Promise<string> {
    const kid = kidOf(jwe)
    const key = kid === this.#current.kid ? this.#current : this.#others.get(kid ?? '')
    if (key === undefined)
      throw new HostletError(
        'E_AUTH',
        `it is sealed for key ${kid ?? 'unknown'}, this host has ${this.#current.kid}. Ask again, so that it is sealed for the host's present key; or put the old key back.`
      )
    try {
      const options = {
        keyManagementAlgorithms: [algorithm.alg],
        contentEncryptionAlgorithms: [algorithm.enc]
      }
      const { plaintext } = await compactDecrypt(jwe, await importJWK({ ...key }, algorithm.alg), options)
      return new TextDecoder().decode(plaintext)
    } catch (cause) {
      throw new HostletError('E_CORRUPT', 'what is sealed for this host cannot be opened: it was changed', {
        cause
      })
    }
  }

  /**
   * Replaces the key of the state directory. `rewrap` seals anew what is kept under the old one, and is called while both
   * open; after a crash anywhere a second call goes on. Throws E_UNSUPPORTED where systemd gives the key.
   */
  async rotate(rewrap: () => Promise<void>): Promise<{ before: string; now: string }> {
    if (this.isCredential)
      throw new HostletError(
        'E_UNSUPPORTED',
        `systemd gives this host its key. Make a new one ("hostlet backup keygen"), hand the old one over as ${previousKeyCredential} and the new one as ${secretsKeyCredential}, and restart the agent: it wraps the disk keys anew.`
      )
    const nextPath = this.#path(nextKeyName)
    const next = (await readKey(nextPath)) ?? (await createPrivateKey())
    writePrivateFile(nextPath, keyText(next))
    const before = this.#current
    this.#others.set(before.kid, before)
    this.#current = next
    await rewrap()
    if (before.kid !== next.kid) this.#retire(before)
    replacePrivateFile(this.#path(secretsKeyName), keyText(next))
    shredFile(nextPath)
    await this.#gatherOthers()
    return { before: before.kid, now: next.kid }
  }

  #retire(key: PrivateKey): void {
    const { clock } = this.#options
    const kept = readRetiredKeys(this.#path(retiredKeysName)).filter(({ kid }) => kid !== key.kid)
    this.#writeRetired([...kept, { ...key, untilMs: clock.now() + retiredKeyMs }])
  }

  #writeRetired(keys: readonly RetiredKey[]): void {
    const path = this.#path(retiredKeysName)
    if (keys.length > 0) replacePrivateFile(path, retiredKeysText(keys))
    else shredFile(path)
  }

  /** The next key of a rotation that was cut short, retired ones, those before a credential. */
  async #gatherOthers(): Promise<void> {
    const retired = readRetiredKeys(this.#path(retiredKeysName))
    const valid = retired.filter(({ untilMs }) => untilMs > this.#options.clock.now())
    if (valid.length < retired.length) this.#writeRetired(valid)
    const previous = credentialPath(this.#options, previousKeyCredential)
    const paths = [this.#path(nextKeyName), this.#path(secretsKeyName), ...(previous ? [previous] : [])]
    const found = await Promise.all(paths.map(readKey))
    const keys = [...valid, ...found.filter((key) => key !== undefined)]
    this.#others = new Map(keys.map((key) => [key.kid, key]))
  }

  #path(name: string): string {
    return join(this.#options.stateDirectory, name)
  }
}

/** Seals a text for whoever has the private half, as the scheduler does with secrets of commands. */
export async function sealFor(key: PublicKey, text: string): Promise<string> {
  return await new CompactEncrypt(new TextEncoder().encode(text))
    .setProtectedHeader({ ...algorithm, kid: key.kid })
    .encrypt(await importJWK({ ...key }, algorithm.alg))
}

function kidOf(jwe: string): string | undefined {
  try {
    return decodeProtectedHeader(jwe).kid
  } catch {
    // Not a JWE at all: it is for no key.
    return undefined
  }
}
