// What can be wrong with a stored snapshot, each kind told apart, and where.

import type { HostletError } from '../../errors.ts'

export const faultKinds = [
  'missing-object',
  'truncated-object',
  'damaged-object',
  'missing-entry',
  'damaged-entry',
  'wrong-address',
  'damaged-node',
  'wrong-key',
  'forged-manifest',
  'bad-manifest'
] as const
/**
 * `missing-object`: a pack is not there. `truncated-object`: it does not end as packs do. `damaged-object`: its table does
 * not authenticate. `missing-entry`: the table has no such entry. `damaged-entry`: an entry does not authenticate or
 * decompress. `wrong-address`: it is authentic and yet not what the tree means. `damaged-node`: a node that says nonsense.
 * `wrong-key`: the manifest is for another key. `forged-manifest`: its signature fits nobody who is trusted.
 * `bad-manifest`: it is damaged, foreign or of a later format.
 */
export type FaultKind = (typeof faultKinds)[number]

export interface Fault {
  readonly kind: FaultKind
  /** Name of the object in the repository. */
  readonly object: string
  /** Entry number in the pack. */
  readonly entry?: number
  /** Role of the disk. */
  readonly disk?: string
  /** Where in the disk the loss begins, in bytes, and how far it reaches at most. */
  readonly offset?: number
  readonly lengthBytes?: number
  readonly message: string
}

/** Why something stored cannot be read: the kind beside the error that says so. */
export class StoredFault extends Error {
  readonly kind: FaultKind
  readonly object: string
  readonly error: HostletError

  constructor(kind: FaultKind, object: string, error: HostletError) {
    super(error.message, { cause: error })
    this.kind = kind
    this.object = object
    this.error = error
  }
}
