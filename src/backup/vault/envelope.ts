// The manifest as an object of the repository: whose it is, its key wrapped for recipients, its sealed body, its signature.

import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto'
import type { GeneralJWE } from 'jose'
import { HostletError } from '../../errors.ts'
import type { Signer } from '../../lib/certified-signature.ts'
import type { VaultKeys } from '../format/keys.ts'
import { type DetachedSignature, type Signed, signManifest } from './signature.ts'

export const manifestFormat = 1
/** Longest manifest, in bytes: the VM's specification and some certificates are most of it. */
export const manifestBytesMax = 1024 * 1024
const nonceBytes = 12
const tagBytes = 16

export interface Envelope {
  readonly format: typeof manifestFormat
  readonly vm: string
  readonly snapshot: string
  /** Name of the VM key, derived from it. */
  readonly keyId: string
  /** The only part that may be replaced later; everything else is signed. */
  readonly keys: GeneralJWE
  /** Nonce, ciphertext and tag, base64url. */
  readonly sealed: string
  readonly signature: DetachedSignature
}

export interface ManifestIdentity {
  readonly vm: string
  readonly snapshot: string
}

export function snapshotsPrefix(vm: string): string {
  return `vms/${vm}/snapshots/`
}

export function manifestName({ vm, snapshot }: ManifestIdentity): string {
  return `${snapshotsPrefix(vm)}${snapshot}.json`
}

/** Seals and signs a body. The wrapped key is the caller's to add. */
export async function sealManifest(
  { vm, snapshot }: ManifestIdentity,
  body: Uint8Array,
  keys: VaultKeys,
  signer: Signer
): Promise<Omit<Envelope, 'keys'>> {
  const nonce = randomBytes(nonceBytes)
  const cipher = createCipheriv('aes-256-gcm', keys.manifestKey(snapshot), nonce)
  cipher.setAAD(associatedData({ vm, snapshot }))
  const sealed = Buffer.concat([nonce, cipher.update(body), cipher.final(), cipher.getAuthTag()])
  const unsigned = { vm, snapshot, keyId: keys.id, sealed: sealed.toString('base64url') }
  const signature = await signManifest(signedPart(unsigned), signer)
  return { format: manifestFormat, ...unsigned, signature }
}

/** The body. Throws E_CORRUPT with the reason `damaged` when it does not authenticate. */
export function openManifest(envelope: Envelope, keys: VaultKeys): Buffer {
  const sealed = Buffer.from(envelope.sealed, 'base64url')
  const end = sealed.length - tagBytes
  if (end < nonceBytes) throw damaged(envelope, 'its sealed body is cut off')
  const key = keys.manifestKey(envelope.snapshot)
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, nonceBytes), {
    authTagLength: tagBytes
  })
  decipher.setAAD(associatedData(envelope))
  decipher.setAuthTag(sealed.subarray(end))
  const body = decipher.update(sealed.subarray(nonceBytes, end))
  try {
    decipher.final()
  } catch (cause) {
    throw damaged(envelope, 'its body does not authenticate', cause)
  }
  return body
}

export function signedPart({
  vm,
  snapshot,
  keyId,
  sealed
}: Omit<Envelope, 'format' | 'keys' | 'signature'>): Signed {
  const sealedHash = createHash('sha256').update(Buffer.from(sealed, 'base64url')).digest('hex')
  return { vm, snapshot, keyId, sealedHash }
}

function associatedData({ vm, snapshot }: ManifestIdentity): Buffer {
  return Buffer.from(`hostlet-backup/1 manifest\n${vm}\n${snapshot}\n`)
}

/** Reads an envelope. Throws E_UNSUPPORTED for a later format, else E_CORRUPT; `details.reason` is `damaged`, `foreign` or `unsupported`. */
export function parseEnvelope(bytes: Uint8Array, identity: ManifestIdentity): Envelope {
  const value = parseJson(bytes, identity)
  const { format, vm, snapshot, keyId, keys, sealed, signature } = value as Partial<
    Record<keyof Envelope, unknown>
  >
  if (format !== manifestFormat && Number.isInteger(format)) throw unsupported(identity, Number(format))
  const { protected: header, signature: raw } = (signature ?? {}) as Partial<DetachedSignature>
  const texts = [vm, snapshot, keyId, sealed, header, raw]
  if (format !== manifestFormat || texts.some((text) => typeof text !== 'string') || !isJwe(keys))
    throw damaged(identity, 'it is no manifest')
  const envelope = value as unknown as Envelope
  if (vm !== identity.vm || snapshot !== identity.snapshot) throw foreign(identity, envelope)
  return envelope
}

export function encodeEnvelope(envelope: Envelope): Buffer {
  const bytes = Buffer.from(`${JSON.stringify(envelope)}\n`)
  if (bytes.length <= manifestBytesMax) return bytes
  throw new HostletError(
    'E_CAPACITY',
    `the manifest of snapshot ${envelope.snapshot} has ${bytes.length} bytes`
  )
}

function parseJson(bytes: Uint8Array, identity: ManifestIdentity): object {
  if (bytes.length > manifestBytesMax) throw damaged(identity, `${bytes.length} bytes are too many`)
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString('utf8'))
    if (typeof value === 'object' && value !== null) return value
  } catch (cause) {
    throw damaged(identity, 'it is no JSON, or cut off', cause)
  }
  throw damaged(identity, 'it is no JSON object')
}

function isJwe(value: unknown): value is GeneralJWE {
  if (typeof value !== 'object' || value === null) return false
  const { recipients, ciphertext } = value as { recipients?: unknown; ciphertext?: unknown }
  const isObject = (item: unknown) => typeof item === 'object' && item !== null
  return Array.isArray(recipients) && recipients.every(isObject) && typeof ciphertext === 'string'
}

function damaged(identity: ManifestIdentity, text: string, cause?: unknown): HostletError {
  return new HostletError('E_CORRUPT', `${manifestName(identity)}: ${text}`, {
    cause,
    details: { reason: 'damaged' }
  })
}

function foreign(identity: ManifestIdentity, { vm, snapshot }: Envelope): HostletError {
  const text = `it is the manifest of VM ${vm.slice(0, 64)}, snapshot ${snapshot.slice(0, 64)}`
  return new HostletError('E_CORRUPT', `${manifestName(identity)}: ${text}`, {
    details: { reason: 'foreign' }
  })
}

function unsupported(identity: ManifestIdentity, format: number): HostletError {
  const text = `format ${format} is later than this release can read. Upgrade hostlet.`
  return new HostletError('E_UNSUPPORTED', `${manifestName(identity)}: ${text}`, {
    details: { reason: 'unsupported' }
  })
}
