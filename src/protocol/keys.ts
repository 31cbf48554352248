// Keys of disks as they cross the wire: never but wrapped, for the fleet's recovery keys or for the host that uses them.

import { type Static, Type } from '../lib/schema.ts'
import { Sentence, ShortText, strict, Timestamp, Uuid, VmName } from './names.ts'

/** Keys that one message is about. */
export const keysAtOnceMax = 64
/** Recovery keys that one disk's key is wrapped for. */
export const keyRecipientsMax = 16

/** Of one key of one disk: another key of the same disk has another id. */
export const DiskKeyId = Uuid

const Base64url = Type.String({ pattern: '^[A-Za-z0-9_-]*$', maxLength: 4_096 })

/** JWE in compact form, for one recipient. */
export const CompactJwe = Type.String({
  title: 'a JWE in compact form',
  pattern: '^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]*){4}$',
  maxLength: 8_192
})

/** A key for the host's own key; while a disk's passphrase changes also the one that may open it next, or still. */
export const HostWrapping = Type.Object(
  { wrapped: CompactJwe, next: Type.Optional(CompactJwe), previous: Type.Optional(CompactJwe) },
  strict
)
export type HostWrapping = Static<typeof HostWrapping>

/** JWE in general JSON form (RFC 7516 section 7.2.1), for several recipients. */
export const GeneralJwe = Type.Object(
  {
    protected: Base64url,
    iv: Base64url,
    ciphertext: Base64url,
    tag: Base64url,
    recipients: Type.Array(
      Type.Object(
        {
          encrypted_key: Base64url,
          header: Type.Object(
            {
              alg: ShortText,
              kid: ShortText,
              epk: Type.Optional(Type.Record(Type.String({ maxLength: 8 }), ShortText))
            },
            strict
          )
        },
        strict
      ),
      { minItems: 1, maxItems: keyRecipientsMax }
    )
  },
  strict
)
export type GeneralJwe = Static<typeof GeneralJwe>

/**
 * What the recovery wrapping of a key holds: it says itself which key it is, so that none can be taken for another. While
 * a disk's passphrase changes there are several, each of which may open it.
 */
export const RecoveryContent = Type.Object(
  {
    id: DiskKeyId,
    uuid: Uuid,
    volume: ShortText,
    passphrases: Type.Array(Type.String({ maxLength: 512 }), { minItems: 1, maxItems: 3 })
  },
  strict
)
export type RecoveryContent = Static<typeof RecoveryContent>

/** One key of one disk, for the scheduler to keep. */
export const EscrowedKey = Type.Object(
  {
    id: DiskKeyId,
    vm: VmName,
    /** Of the VM. */
    uuid: Uuid,
    volume: ShortText,
    createdAt: Timestamp,
    /** Another number each time that something else is told of the key: the acknowledgement repeats it. */
    revision: Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER }),
    /** For the recovery keys of the host's policy; absent while it names none. */
    recovery: Type.Optional(GeneralJwe),
    /** For the host's own key, where the host keeps none of its disks' keys itself (`keys: scheduler`). */
    host: Type.Optional(HostWrapping)
  },
  strict
)
export type EscrowedKey = Static<typeof EscrowedKey>

/** Keys that the scheduler has not acknowledged as they are now. */
export const DiskKeys = Type.Object(
  {
    type: Type.Literal('disk-keys'),
    keys: Type.Array(EscrowedKey, { minItems: 1, maxItems: keysAtOnceMax })
  },
  strict
)

/** One key, or without its id all keys of a VM. */
export const GoneKey = Type.Object({ uuid: Uuid, id: Type.Optional(DiskKeyId) }, strict)
export type GoneKey = Static<typeof GoneKey>
const GoneKeys = Type.Array(GoneKey, { minItems: 1, maxItems: keysAtOnceMax })

/** Keys that are destroyed on the host: the scheduler destroys what it has of them. */
export const DiskKeysGone = Type.Object({ type: Type.Literal('disk-keys-gone'), keys: GoneKeys }, strict)

/** Asks for the host wrappings of keys that are about to be used. */
export const DiskKeysRequest = Type.Object(
  {
    type: Type.Literal('disk-keys-request'),
    /** The grant repeats it. */
    request: Uuid,
    ids: Type.Array(DiskKeyId, { minItems: 1, maxItems: keysAtOnceMax })
  },
  strict
)

/** What the scheduler has stored durably. With a `fault` it has not, and why. */
export const DiskKeysAcknowledgement = Type.Object(
  {
    type: Type.Literal('disk-keys-ack'),
    keys: Type.Array(
      Type.Object(
        { id: DiskKeyId, revision: EscrowedKey.properties.revision, fault: Type.Optional(Sentence) },
        strict
      ),
      { minItems: 1, maxItems: keysAtOnceMax }
    )
  },
  strict
)
export type DiskKeysAcknowledgement = Static<typeof DiskKeysAcknowledgement>

/** Nothing is left of these at the scheduler. */
export const DiskKeysGoneAcknowledgement = Type.Object(
  { type: Type.Literal('disk-keys-gone-ack'), keys: GoneKeys },
  strict
)

/** `withheld`: an operator has locked the VM. `unknown`: there is no such key of this host. */
export const keyDenials = ['withheld', 'unknown'] as const

export const GrantedKey = Type.Object(
  {
    id: DiskKeyId,
    vm: VmName,
    uuid: Uuid,
    volume: ShortText,
    createdAt: Timestamp,
    host: HostWrapping
  },
  strict
)
export type GrantedKey = Static<typeof GrantedKey>

export const DiskKeysGrant = Type.Object(
  {
    type: Type.Literal('disk-keys-grant'),
    request: Uuid,
    keys: Type.Array(GrantedKey, { maxItems: keysAtOnceMax }),
    denied: Type.Array(Type.Object({ id: DiskKeyId, reason: Type.Enum([...keyDenials]) }, strict), {
      maxItems: keysAtOnceMax
    })
  },
  strict
)
export type DiskKeysGrant = Static<typeof DiskKeysGrant>

/** Keys that come back to a host that has lost them, each wrapped for the host's own key; one id may come with several. */
export const AdoptedKeys = Type.Array(Type.Object({ id: DiskKeyId, jwe: CompactJwe }, strict), {
  minItems: 1,
  maxItems: keysAtOnceMax
})

export const VmAdoptKeysParams = Type.Object({ vm: VmName, keys: AdoptedKeys }, strict)
export const VmAdoptKeysResult = Type.Object(
  {
    vm: VmName,
    /** Keys that open their disks, and are kept from now on. */
    adopted: Type.Array(DiskKeyId, { maxItems: keysAtOnceMax }),
    /** Disks of the VM whose keys are still missing. */
    missing: Type.Array(ShortText, { maxItems: keysAtOnceMax })
  },
  strict
)
export type VmAdoptKeysResult = Static<typeof VmAdoptKeysResult>
