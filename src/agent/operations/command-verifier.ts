// From a compact JWS to claims that may be trusted: the scheduler's signature, this host's name, and the right time.

import { createHash } from 'node:crypto'
import type { CryptoKey } from 'jose'
import { HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { CommandClaims, clockSkewMsMax, commandBytesMax, commandJwsType } from '../../protocol/command.ts'
import type { CommandKey } from '../../protocol/enrollment.ts'
import { compile } from '../../protocol/validate.ts'
import type { SignedCommand } from './gate.ts'
import { commandLifeMsMax } from './journal.ts'

const algorithm = 'EdDSA'
const parseClaims = compile(CommandClaims, 'command')
const headerKeys = ['alg', 'kid', 'typ']

export type VerifiedCommand = Omit<SignedCommand, 'approvals'>

export interface VerifierOptions {
  readonly hostId: string
  /** The keys of the trust statement in force, or of enrollment. */
  keys(): readonly CommandKey[]
  readonly clock: Pick<Clock, 'now'>
}

export class CommandVerifier {
  readonly #options: VerifierOptions
  readonly #imported = new Map<string, CryptoKey>()

  constructor(options: VerifierOptions) {
    this.#options = options
  }

  /**
   * Checks form, signature and audience; time is checked apart, because a repeated command is answered even when it has
   * expired. Throws E_BAD_REQUEST for what is malformed, E_AUTH for what is not signed for this host by a known key.
   */
  async verify(jws: string): Promise<VerifiedCommand> {
    if (jws.length > commandBytesMax)
      throw new HostletError('E_BAD_REQUEST', `the command is longer than ${commandBytesMax} bytes`)
    // As they are now: a statement that comes after this command may drop the key that it was signed with.
    const { payload, signer } = await this.#verifiedPayload(jws, this.#options.keys())
    const claims = parseClaims(parseJson(payload))
    if (claims.audience !== this.#options.hostId)
      throw new HostletError(
        'E_AUTH',
        `the command is for host ${claims.audience}, this is ${this.#options.hostId}`,
        { details: { reason: 'audience' } }
      )
    return { claims, digest: createHash('sha256').update(payload).digest('hex'), signer }
  }

  /** Throws E_STALE after the expiry and E_BAD_REQUEST before the making, each beyond the allowed skew. */
  checkTime({ issuedAt, expiresAt }: CommandClaims): void {
    const now = this.#options.clock.now()
    if (expiresAt + clockSkewMsMax < now)
      throw new HostletError('E_STALE', `the command expired ${seconds(now - expiresAt)} s ago. Ask anew.`, {
        details: { reason: 'expired', expiresAt, now }
      })
    if (issuedAt - clockSkewMsMax > now)
      throw new HostletError(
        'E_BAD_REQUEST',
        `the command was made ${seconds(issuedAt - now)} s in the future. Check the clocks of this host and of the scheduler.`,
        { details: { reason: 'clock', issuedAt, now } }
      )
    if (expiresAt <= issuedAt || expiresAt - issuedAt > commandLifeMsMax)
      throw new HostletError(
        'E_BAD_REQUEST',
        `the command is valid for ${seconds(expiresAt - issuedAt)} s, allowed are 1 to ${seconds(commandLifeMsMax)}`,
        { details: { reason: 'life' } }
      )
  }

  async #verifiedPayload(
    jws: string,
    keys: readonly CommandKey[]
  ): Promise<{ payload: Uint8Array; signer: string }> {
    // Loaded with the first command: an idle agent does without it.
    const { compactVerify, errors } = await import('jose')
    try {
      const verified = await compactVerify(jws, (header) => this.#keyFor(header, keys), {
        algorithms: [algorithm]
      })
      return { payload: verified.payload, signer: String(verified.protectedHeader.kid) }
    } catch (cause) {
      if (cause instanceof HostletError) throw cause
      if (cause instanceof errors.JWSInvalid)
        throw new HostletError('E_BAD_REQUEST', 'the command is not a compact JWS', { cause })
      throw untrusted('its signature is not by a command key of this host', 'signature', cause)
    }
  }

  async #keyFor(header: Readonly<Record<string, unknown>>, keys: readonly CommandKey[]): Promise<CryptoKey> {
    if (header.alg !== algorithm) throw untrusted(`its algorithm is not ${algorithm}`, 'algorithm')
    if (header.typ !== commandJwsType) throw untrusted(`its type is not ${commandJwsType}`, 'type')
    if (Object.keys(header).some((key) => !headerKeys.includes(key)))
      throw untrusted('its header says more than alg, kid and typ', 'header')
    const key = keys.find(({ kid }) => kid === header.kid)
    if (key === undefined)
      throw untrusted(
        'its key is not one that this host believes; see "hostlet rotate command-key status"',
        'key'
      )
    return this.#import(key)
  }

  async #import(key: CommandKey): Promise<CryptoKey> {
    const known = this.#imported.get(key.x)
    if (known !== undefined) return known
    const { importJWK } = await import('jose')
    const imported = await importJWK({ ...key }, algorithm)
    if (imported instanceof Uint8Array) throw untrusted('its key is no public key', 'key')
    this.#imported.set(key.x, imported)
    return imported
  }
}

function untrusted(why: string, reason: string, cause?: unknown): HostletError {
  return new HostletError('E_AUTH', `the command is refused: ${why}`, { cause, details: { reason } })
}

function parseJson(payload: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload))
  } catch (cause) {
    throw new HostletError('E_BAD_REQUEST', 'command: its payload is not JSON', { cause })
  }
}

function seconds(ms: number): number {
  return Math.round(ms / 1_000)
}
