// One manifest, from its bytes to a body that is believed, or to the reason why not.

import type { X509Certificate } from 'node:crypto'
import { asHostletError, type ErrorCode, HostletError } from '../../errors.ts'
import { checkChain, type Trust } from '../../lib/certified-signature.ts'
import { deriveVaultKeys } from '../format/keys.ts'
import { type Envelope, type ManifestIdentity, openManifest, parseEnvelope, signedPart } from './envelope.ts'
import { decodeBody, type ManifestBody } from './manifest-body.ts'
import { recipientsOf, type Unlocker, unwrapKey } from './recipients.ts'
import { checkSignature } from './signature.ts'

export const manifestFaults = ['damaged', 'foreign', 'unsupported', 'no-key', 'forged', 'untrusted'] as const
/**
 * `damaged`: not the bytes that were written. `foreign`: of another VM or snapshot. `unsupported`: of a later format.
 * `no-key`: wrapped for others. `forged`: its signature does not fit. `untrusted`: nobody trusted vouches for its signer.
 */
export type ManifestFault = (typeof manifestFaults)[number]

/** `not-checked`: no CA was given to check the signer with. */
export type SignerState = 'trusted' | 'not-checked'

export interface GoodSnapshot {
  readonly state: 'good'
  readonly id: string
  readonly body: ManifestBody
  /** The VM key that its data is under. */
  readonly vmKey: Uint8Array
  readonly keyId: string
  readonly signer: SignerState
  /** Thumbprints of the keys that can open it. */
  readonly recipients: readonly string[]
}

export interface BadSnapshot {
  readonly state: 'bad'
  readonly id: string
  readonly reason: ManifestFault
  readonly code: ErrorCode
  readonly message: string
  /** Thumbprints of the keys that could open it, as far as it names any. */
  readonly recipients: readonly string[]
}

export type SnapshotSummary = GoodSnapshot | BadSnapshot

/** VM keys by their names, as they are found. */
export type KnownKeys = Map<string, Uint8Array>

export interface ManifestReader {
  readonly unlocker: Unlocker
  readonly trust: Trust | undefined
  readonly known: KnownKeys
}

/** Never throws for anything that the bytes say. */
export async function readManifest(
  bytes: Uint8Array,
  identity: ManifestIdentity,
  reader: ManifestReader
): Promise<SnapshotSummary> {
  let recipients: readonly string[] = []
  try {
    const envelope = parseEnvelope(bytes, identity)
    recipients = recipientsOf(envelope.keys)
    return await believed(envelope, recipients, reader)
  } catch (error) {
    return badSnapshot(identity.snapshot, faultOf(error, identity), recipients)
  }
}

/** What libraries throw at bytes that make no sense is a fault of the bytes. */
function faultOf(error: unknown, { snapshot }: ManifestIdentity): HostletError {
  if (error instanceof HostletError) return error
  const text = error instanceof Error ? error.message : String(error)
  return new HostletError('E_CORRUPT', `snapshot ${snapshot}: its manifest cannot be read: ${text}`, {
    cause: error
  })
}

/** Throws what is no fault of the manifest. */
export function badSnapshot(id: string, error: unknown, recipients: readonly string[]): BadSnapshot {
  const { code, message, details } = asHostletError(error)
  const reason = manifestFaults.find((fault) => fault === details.reason)
  if (reason === undefined && code !== 'E_CORRUPT') throw error
  return { state: 'bad', id, reason: reason ?? 'damaged', code, message, recipients }
}

async function believed(
  envelope: Envelope,
  recipients: readonly string[],
  { unlocker, trust, known }: ManifestReader
): Promise<GoodSnapshot> {
  const chain = checkSignature(signedPart(envelope), envelope.signature)
  const vmKey = known.get(envelope.keyId) ?? (await unlocked(envelope, unlocker))
  const body = decodeBody(openManifest(envelope, deriveVaultKeys(vmKey)), `snapshot ${envelope.snapshot}`)
  if (body.vm.uuid !== envelope.vm)
    throw new HostletError('E_CORRUPT', `snapshot ${envelope.snapshot} is of VM ${body.vm.uuid}`, {
      details: { reason: 'foreign' }
    })
  const signer = checkSigner(chain, trust, body)
  // Only now: a key that is wrapped for us by someone unknown must never become one that we encrypt with.
  known.set(envelope.keyId, vmKey)
  return { state: 'good', id: envelope.snapshot, body, vmKey, keyId: envelope.keyId, signer, recipients }
}

function checkSigner(
  chain: readonly X509Certificate[],
  trust: Trust | undefined,
  body: ManifestBody
): SignerState {
  if (trust === undefined) return 'not-checked'
  checkChain(chain, trust, { host: body.host, at: body.finishedAt, what: 'the backup was made' })
  return 'trusted'
}

async function unlocked(envelope: Envelope, unlocker: Unlocker): Promise<Uint8Array> {
  const vmKey = await unwrapKey(envelope.keys, unlocker, (key) => deriveVaultKeys(key).id === envelope.keyId)
  if (vmKey !== undefined) return vmKey
  const who = recipientsOf(envelope.keys).join(', ')
  throw new HostletError(
    'E_AUTH',
    `snapshot ${envelope.snapshot}: none of the ${unlocker.keys.length} keys given opens it; it is wrapped for ${who === '' ? 'nobody' : who}`,
    { details: { reason: 'no-key', recipients: who } }
  )
}
