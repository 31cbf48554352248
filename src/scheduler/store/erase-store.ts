// What the scheduler remembers of VMs that were erased: the part of the store's interface that is about their certificates.

import type { EraseCertificate } from '../../protocol/lifecycle.ts'

export interface Erasure {
  /** Compact JWS, as the host signed it. */
  readonly certificate: string
  readonly claims: EraseCertificate
  /** Why it was not believed when it came. */
  readonly fault: string | undefined
}

export interface KeptErasure extends Omit<Erasure, 'claims'> {
  readonly receivedAt: number
}

/** Certificates outlive VM, operation and host: they are never forgotten. */
export interface EraseStore {
  /**
   * Durable when it resolves; one that is known already changes nothing. With one that is believed and says that every volume
   * is gone, the record of a VM goes that was only kept. False, with nothing stored, where the VM is another host's: for one
   * that is gone, where another host erased it, or made its last backup.
   */
  keep(host: string, erasure: Erasure, at: number): Promise<boolean>
  /** The last of a VM, by its UUID, or of any VM that had the name. */
  find(vm: string): Promise<KeptErasure | undefined>
}
