// What tests of vaults need: hosts with certificates that sign, private keys that open, and a vault with snapshots in memory.

import { createPrivateKey, randomUUID, sign } from 'node:crypto'
import { exportJWK, generateKeyPair, type JWK } from 'jose'
import { deriveVaultKeys } from '../../src/backup/format/keys.ts'
import type { ObjectStore } from '../../src/backup/repository/store.ts'
import { encodeEnvelope, manifestName, sealManifest } from '../../src/backup/vault/envelope.ts'
import { encodeBody, type ManifestBody } from '../../src/backup/vault/manifest-body.ts'
import { wrapKey } from '../../src/backup/vault/recipients.ts'
import { type Commitment, Vault } from '../../src/backup/vault/vault.ts'
import type { Signer, Trust } from '../../src/lib/certified-signature.ts'
import { MemoryStore } from '../support/memory-store.ts'
import { type CertificateOptions, TestAuthority, trustDomain } from '../support/test-authority.ts'
import { bodyOf, newVm, type PlainDisk, PlainWriter, type StoredDisk } from './plain-writer.ts'

export async function newKey(): Promise<JWK> {
  const { privateKey } = await generateKeyPair('ECDH-ES+A256KW', { crv: 'X25519', extractable: true })
  return exportJWK(privateKey)
}

export async function signerOf(
  authority: TestAuthority,
  hostId = 'host-1',
  options: CertificateOptions = {}
): Promise<Signer> {
  const { cert, key } = await authority.issue({
    uris: [`spiffe://${trustDomain}/host/${hostId}`],
    ...options
  })
  const privateKey = createPrivateKey(key)
  return {
    certificates: [cert],
    sign: async (bytes) => sign('sha256', bytes, { key: privateKey, dsaEncoding: 'ieee-p1363' })
  }
}

export interface Bench {
  readonly authority: TestAuthority
  readonly trust: Trust
  readonly signer: Signer
  readonly key: JWK
  readonly vm: string
  readonly store: MemoryStore
  readonly signal: AbortSignal
  open(options?: {
    store?: ObjectStore
    keys?: JWK[]
    trust?: Trust | undefined
    vm?: string
    host?: string
  }): Promise<Vault>
  /** Stores a disk and commits a snapshot of it. */
  backUp(vault: Vault, disk: PlainDisk, options?: BackUpOptions): Promise<Taken>
}

interface BackUpOptions {
  readonly parent?: Taken | undefined
  readonly at?: number
  /** The manifest is then written without a look at whether anybody would believe it. */
  readonly signer?: Signer
  readonly recipients?: readonly JWK[]
  readonly change?: (body: ManifestBody) => ManifestBody
  readonly entriesMax?: number
}

export interface Taken {
  readonly id: string
  readonly disk: StoredDisk
  readonly sequence: number
}

/** Writes a manifest as it is, as somebody does who keeps to no rule. */
export async function putManifest(
  { store, vm, vmKey }: Vault,
  { snapshot, body, signer, recipients, signal }: Commitment
): Promise<void> {
  const sealed = await sealManifest({ vm, snapshot }, encodeBody(body), deriveVaultKeys(vmKey), signer)
  const content = encodeEnvelope({ ...sealed, keys: await wrapKey(vmKey, recipients) })
  await store.put(manifestName({ vm, snapshot }), [content], { signal })
}

export async function createBench(): Promise<Bench> {
  const { signal } = new AbortController()
  const authority = await TestAuthority.create()
  const trust = { authorities: [authority.certificate], trustDomain }
  // Tests choose the times of their backups.
  const life = { from: Date.parse('2020-01-01'), to: Date.parse('2040-01-01') }
  const [signer, key, vm, store] = [
    await signerOf(authority, 'host-1', life),
    await newKey(),
    newVm(),
    new MemoryStore()
  ]
  return {
    authority,
    trust,
    signer,
    key,
    vm,
    store,
    signal,
    open: (options = {}) =>
      Vault.open({
        store: options.store ?? store,
        vm: options.vm ?? vm,
        host: options.host,
        unlocker: { keys: options.keys ?? [key] },
        trust: 'trust' in options ? options.trust : trust,
        signal
      }),
    async backUp(vault, disk, options = {}) {
      const writer = new PlainWriter({
        store: vault.store,
        vm: vault.vm,
        vmKey: vault.vmKey,
        ...(options.entriesMax !== undefined && { entriesMax: options.entriesMax })
      })
      const stored = await writer.write(disk, options.parent?.disk)
      const newest = await vault.newest({ signal })
      const sequence = (newest?.body.sequence ?? 0) + 1
      const id = randomUUID()
      const body = bodyOf({
        vm: vault.vm,
        sequence,
        disks: [stored],
        previous: newest?.id ?? null,
        ...(options.at !== undefined && { at: options.at })
      })
      const commitment = {
        snapshot: id,
        body: options.change?.(body) ?? body,
        signer: options.signer ?? signer,
        recipients: options.recipients ?? [key],
        signal
      }
      if (options.signer === undefined) await vault.commit(commitment)
      else await putManifest(vault, commitment)
      return { id, disk: stored, sequence }
    }
  }
}
