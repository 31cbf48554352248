// The keys of one VM's backups: everything is derived from its 32-byte VM key by HKDF-SHA-256 (RFC 5869).

import { createHmac, createSecretKey, hkdfSync } from 'node:crypto'
import { HostletError } from '../../errors.ts'

export const vmKeyBytes = 32
export const keyBytes = 32
export const addressBytes = 32
export const packIdBytes = 16
export const saltBytes = 16

const infoPrefix = 'hostlet-backup/1 '
const noSalt = new Uint8Array(0)

export interface VaultKeys {
  /** Names the VM key without telling it: 32 hex digits. */
  readonly id: string
  /** HMAC-SHA-256 of a plain block, whole and padded to 64 KiB. Equal blocks of one VM have equal addresses; of two VMs, never. */
  addressOf(block: Uint8Array): Buffer
  /** HMAC-SHA-256 of an encoded tree node, under a key of its own, so that no node passes for a block. */
  nodeAddressOf(node: Uint8Array): Buffer
  /** AES-256-GCM key of the entries of one pack; the pack's id is the salt. */
  packKey(packId: Uint8Array): Buffer
  /** AES-256-GCM key of one table; its random salt lies in the pack's trailer. */
  tableKey(salt: Uint8Array): Buffer
  /** AES-256-GCM key of one manifest; the salt is the snapshot id, as UTF-8. */
  manifestKey(snapshot: string): Buffer
}

/** Throws E_BAD_REQUEST when the VM key is not 32 bytes long. */
export function deriveVaultKeys(vmKey: Uint8Array): VaultKeys {
  if (vmKey.length !== vmKeyBytes)
    throw new HostletError('E_BAD_REQUEST', `a VM key is ${vmKeyBytes} bytes long, not ${vmKey.length}`)
  const derive = (purpose: string, salt: Uint8Array = noSalt, length = keyBytes) =>
    Buffer.from(hkdfSync('sha256', vmKey, salt, infoPrefix + purpose, length))
  const addressKey = createSecretKey(derive('address'))
  const nodeAddressKey = createSecretKey(derive('node address'))
  return {
    id: derive('key id', noSalt, 16).toString('hex'),
    addressOf: (block) => createHmac('sha256', addressKey).update(block).digest(),
    nodeAddressOf: (node) => createHmac('sha256', nodeAddressKey).update(node).digest(),
    packKey: (packId) => derive('pack', packId),
    tableKey: (salt) => derive('table', salt),
    manifestKey: (snapshot) => derive('manifest', Buffer.from(snapshot))
  }
}
