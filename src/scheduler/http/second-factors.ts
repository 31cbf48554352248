// The second factor of people: codes by time (RFC 6238) of a secret that only its key's text opens, and recovery codes.

import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto'
import { Secret, TOTP } from 'otpauth'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import type { SecondFactorRecord, SecondFactorStore } from '../store/second-factor-store.ts'
import type { KeyRecord } from '../store/store.ts'
import { refusal, secretHash } from './api-keys.ts'

export const recoveryCodesMade = 8
/** Wrong codes in a row before the next one has to wait. */
export const freeFailures = 5
/** The first wait; it doubles with each wrong code after it, up to the longest. */
export const lockMsBase = 60_000
export const lockMsMax = 3_600_000
const stepMs = 30_000
/** Steps before and after that of our clock whose codes are right too. */
const stepsAside = 1
const secretBytes = 20
const recoveryBytes = 10
const nonceBytes = 12
const tagBytes = 16

export interface SecondFactorsOptions {
  readonly store: SecondFactorStore
  readonly clock: Pick<Clock, 'now'>
  /** Who asks for codes, as the person's app shows it. */
  readonly issuer: string
}

type Key = Pick<KeyRecord, 'id' | 'owner' | 'note' | 'lastFour'>

export class SecondFactors {
  readonly #options: SecondFactorsOptions

  constructor(options: SecondFactorsOptions) {
    this.#options = options
  }

  /** A new secret, which counts once a first code of it was right. Throws E_CONFLICT where one counts already. */
  async begin(key: Key, keyText: string): Promise<{ secret: string; uri: string }> {
    const { store, clock } = this.#options
    const secret = randomBytes(secretBytes)
    await store.begin({ key: key.id, sealed: seal(secret, key.id, keyText), begunAt: clock.now() })
    const totp = this.#totp(secret, key)
    return { secret: totp.secret.base32, uri: totp.toString() }
  }

  /** Makes the secret count. Resolves with the recovery codes, told this once. Throws E_AUTH, E_CONFLICT. */
  async confirm(key: Key, keyText: string, code: string): Promise<readonly string[]> {
    const { store, clock } = this.#options
    const record = await store.find(key.id)
    if (record === undefined || record.confirmedAt !== undefined) throw nothingToConfirm(key.id)
    const step = this.#stepOf(record, key, keyText, digitsOf(code))
    if (step === undefined) throw wrongCode()
    const codes = newRecoveryCodes()
    const first = { at: clock.now(), step, recoveryHashes: codes.map(recoveryHash) }
    if (!(await store.confirm(key.id, first))) throw nothingToConfirm(key.id)
    return codes
  }

  /**
   * Checks a code of a key whose text was shown, and uses it up. Resolves with the number of recovery codes left where it was
   * one of those. Throws E_AUTH for one that is wrong or was used, E_BUSY after too many wrong ones: only who has the key
   * can bring that about, and a recovery code is taken all the same.
   */
  async check(key: Key, keyText: string, code: string): Promise<{ recoveryCodesLeft?: number }> {
    const recovery = recoveryTextOf(code)
    if (recovery === undefined) return this.#checkDigits(key, keyText, digitsOf(code))
    const { store } = this.#options
    if (!(await store.useRecoveryCode(key.id, recoveryHash(recovery)))) throw wrongCode()
    return { recoveryCodesLeft: (await store.find(key.id))?.recoveryCodes ?? 0 }
  }

  /** New ones in place of all before. */
  async renewRecoveryCodes(key: string): Promise<readonly string[]> {
    const codes = newRecoveryCodes()
    await this.#options.store.replaceRecoveryCodes(key, codes.map(recoveryHash))
    return codes
  }

  async #checkDigits(key: Key, keyText: string, digits: string): Promise<Record<string, never>> {
    const { store, clock } = this.#options
    const lockedUntil = await store.attempt(key.id, { now: clock.now(), lockMs, lockMsMax })
    if (lockedUntil !== undefined) throw locked(key.id, lockedUntil)
    const record = await store.find(key.id)
    const step = record && this.#stepOf(record, key, keyText, digits)
    if (step === undefined) throw wrongCode()
    if (!(await store.useStep(key.id, step)))
      throw refusal('used-code', 'this code was used already. Wait for the next one: each is good once.')
    return {}
  }

  /** The step whose code this is; undefined for a wrong one. The library compares in constant time. */
  #stepOf(record: SecondFactorRecord, key: Key, keyText: string, digits: string): number | undefined {
    const timestamp = this.#options.clock.now()
    const totp = this.#totp(unseal(record.sealed, key.id, keyText), key)
    const aside = totp.validate({ token: digits, timestamp, window: stepsAside })
    return aside === null ? undefined : Math.floor(timestamp / stepMs) + aside
  }

  #totp(secret: Buffer, { owner, note, lastFour }: Key): TOTP {
    const label = owner || note || `key ${lastFour ?? ''}`.trim()
    const bytes = new Uint8Array(secret).buffer
    return new TOTP({ issuer: this.#options.issuer, label, secret: new Secret({ buffer: bytes }) })
  }
}

export function lockMs(failures: number): number {
  return failures < freeFailures ? 0 : Math.min(lockMsMax, lockMsBase * 2 ** (failures - freeFailures))
}

/** The secret opens with the key's own text, of which the store has only a hash: its reader learns nothing. */
function seal(secret: Buffer, key: string, keyText: string): Buffer {
  const nonce = randomBytes(nonceBytes)
  const cipher = createCipheriv('aes-256-gcm', sealingKey(key, keyText), nonce).setAAD(Buffer.from(key))
  return Buffer.concat([nonce, cipher.update(secret), cipher.final(), cipher.getAuthTag()])
}

/** Throws E_CORRUPT where what is stored was changed. */
function unseal(sealed: Buffer, key: string, keyText: string): Buffer {
  try {
    const decipher = createDecipheriv(
      'aes-256-gcm',
      sealingKey(key, keyText),
      sealed.subarray(0, nonceBytes),
      { authTagLength: tagBytes }
    )
    decipher.setAAD(Buffer.from(key)).setAuthTag(sealed.subarray(-tagBytes))
    return Buffer.concat([decipher.update(sealed.subarray(nonceBytes, -tagBytes)), decipher.final()])
  } catch (cause) {
    throw new HostletError(
      'E_CORRUPT',
      `the second factor of the API key ${key} cannot be read. Have an admin remove it: hostlet key second-factor ${key} --remove.`,
      { cause }
    )
  }
}

function sealingKey(key: string, keyText: string): Buffer {
  return Buffer.from(hkdfSync('sha256', keyText, Buffer.alloc(0), `hostlet second factor ${key}`, 32))
}

const base32 = 'abcdefghijklmnopqrstuvwxyz234567'

/** 80 random bits each, in groups of four letters. */
function newRecoveryCodes(): string[] {
  return Array.from({ length: recoveryCodesMade }, () => {
    const bits = [...randomBytes(recoveryBytes)].map((byte) => byte.toString(2).padStart(8, '0')).join('')
    const letters = (bits.match(/.{5}/g) ?? []).map((five) => base32[Number.parseInt(five, 2)]).join('')
    return (letters.match(/.{4}/g) ?? []).join('-')
  })
}

/** The letters of a recovery code however it was typed; undefined for what is none. */
function recoveryTextOf(code: string): string | undefined {
  const letters = code.toLowerCase().replaceAll(/[\s-]/g, '')
  return /^[a-z2-7]{16}$/.test(letters) ? letters : undefined
}

function recoveryHash(code: string): Buffer {
  return secretHash(code.replaceAll('-', ''))
}

/** Throws E_BAD_REQUEST for what is no code. */
function digitsOf(code: string): string {
  const digits = code.replaceAll(/\s/g, '')
  if (/^\d{6}$/.test(digits)) return digits
  throw new HostletError(
    'E_BAD_REQUEST',
    'this is no code: one has six digits, a recovery code four groups of four letters and digits.'
  )
}

function wrongCode(): HostletError {
  return refusal(
    'wrong-code',
    'this code is wrong. Enter the one that your app shows now, and see that the clock of its device is right.'
  )
}

function locked(key: string, until: number): HostletError {
  return new HostletError(
    'E_BUSY',
    `too many wrong codes for the API key ${key}. Wait until ${new Date(until).toISOString()}, or use a recovery code.`,
    { details: { reason: 'locked', until } }
  )
}

function nothingToConfirm(key: string): HostletError {
  return new HostletError(
    'E_CONFLICT',
    `there is no second factor of the API key ${key} to confirm. Begin with "hostlet key second-factor".`
  )
}
