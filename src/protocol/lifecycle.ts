// The end of a VM and its ways back, as they cross the wire: being kept until a day, reimaging, and the host's word on an erase.

import { type Static, Type } from '../lib/schema.ts'
import { RepositoryName } from './backup.ts'
import {
  CommandId,
  HostId,
  Milliseconds,
  Sentence,
  ShortText,
  strict,
  Timestamp,
  Uuid,
  VmName
} from './names.ts'
import { ImageReference, Seed, VmSummary } from './vm.ts'

// Reimaging

export const VmReimageParams = Type.Object(
  {
    vm: VmName,
    image: ImageReference,
    /** Instead of what the VM's specification allows it to become ready. */
    readyWithinMs: Type.Optional(Milliseconds),
    /** What it says replaces what is known of the VM's seed; user data is never known. */
    seed: Type.Optional(Seed)
  },
  strict
)
export type VmReimageParams = Static<typeof VmReimageParams>

export const VmReimageResult = Type.Object(
  {
    vm: VmSummary,
    image: ImageReference,
    /** Name of the volume. */
    rootDisk: ShortText
  },
  strict
)
export type VmReimageResult = Static<typeof VmReimageResult>

// The end, and being kept before it

export const retainDaysMax = 3_650

export const VmTeardownParams = Type.Object(
  {
    vm: VmName,
    /** Keeps disks and keys, off, for so many days, and erases them then. */
    retainDays: Type.Optional(Type.Integer({ minimum: 1, maximum: retainDaysMax })),
    /** Also erases its backups in the repositories of the host's policy. */
    backups: Type.Optional(Type.Boolean())
  },
  strict
)
export type VmTeardownParams = Static<typeof VmTeardownParams>

/** Longest certificate, as a compact JWS. */
export const certificateCharactersMax = 262_144
export const EraseCertificateText = Type.String({
  title: 'a compact JWS',
  pattern: '^[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+\\.[A-Za-z0-9_-]+$',
  maxLength: certificateCharactersMax
})

const names = Type.Array(Type.String({ maxLength: 256 }), { maxItems: 128 })
/** What an erase tells besides its certificate. */
export const eraseResultFields = {
  vm: VmName,
  uuid: Uuid,
  /** What there was: keys, address, disks, definition. */
  removed: names,
  /** Volumes that could not be removed. */
  remaining: names,
  /** Whether the VM was defined when it began. */
  existed: Type.Boolean(),
  certificate: Type.Optional(EraseCertificateText),
  /** Why there is no certificate. */
  certificateFault: Type.Optional(Sentence)
}

export const VmTeardownResult = Type.Object(
  {
    ...eraseResultFields,
    /** Nothing is erased before: until then the VM can be had back. */
    retainedUntil: Type.Optional(Timestamp)
  },
  strict
)
export type VmTeardownResult = Static<typeof VmTeardownResult>

export const VmEraseResult = Type.Object(eraseResultFields, strict)

// The certificate

/** JWS `typ`: keeps a signature that a host made for another purpose from being taken for a certificate. */
export const eraseJwsType = 'hostlet-erase+jwt'
/** Snapshots that one certificate names; `notListed` counts the rest. */
export const certifiedSnapshotsMax = 512

export const keyOutcomes = ['destroyed', 'absent'] as const
export const volumeOutcomes = ['removed', 'absent', 'failed'] as const

const Snapshot = Type.Object(
  {
    target: RepositoryName,
    snapshot: Uuid,
    /** The instant whose content it holds, where it is known. */
    at: Type.Optional(Timestamp)
  },
  strict
)

/** What a host says that it erased, and what it says that it did not: the payload of its signed statement. */
export const EraseCertificate = Type.Object(
  {
    id: Uuid,
    host: HostId,
    vm: VmName,
    uuid: Uuid,
    /** The command, or the operation that the host began by itself when the time was over. */
    operation: CommandId,
    startedAt: Timestamp,
    finishedAt: Timestamp,
    /** `destroyed`: overwritten and unlinked, before any volume was. `absent`: it was not on the host any more. */
    keys: Type.Array(
      Type.Object({ id: Uuid, volume: ShortText, outcome: Type.Enum([...keyOutcomes]) }, strict),
      { maxItems: 64 }
    ),
    volumes: Type.Array(
      Type.Object(
        {
          name: ShortText,
          /** Of one that is not, nothing but the removal of its file stands between its content and who reads the medium. */
          encrypted: Type.Boolean(),
          outcome: Type.Enum([...volumeOutcomes]),
          reason: Type.Optional(Sentence)
        },
        strict
      ),
      { maxItems: 128 }
    ),
    /** How it was done, and what that does not promise. */
    method: Type.Object({ keys: ShortText, volumes: ShortText, note: Sentence }, strict),
    /** Keys of which a second copy may lie with the scheduler, which is to remove it. */
    escrow: Type.Array(Uuid, { maxItems: 64 }),
    backups: Type.Object(
      {
        /** Whether they were to be erased too. */
        asked: Type.Boolean(),
        erased: Type.Array(Snapshot, { maxItems: certifiedSnapshotsMax }),
        /** Those that still exist. */
        remaining: Type.Array(Snapshot, { maxItems: certifiedSnapshotsMax }),
        /** Repositories that could not be asked, or from which not everything could be removed. */
        unknown: Type.Array(Type.Object({ target: ShortText, reason: Sentence }, strict), { maxItems: 128 }),
        /** Snapshots beyond those that are named. */
        notListed: Type.Integer({ minimum: 0 })
      },
      strict
    )
  },
  strict
)
export type EraseCertificate = Static<typeof EraseCertificate>
export type CertifiedBackups = EraseCertificate['backups']

/** A certificate on its way to the scheduler: that of a command is in its result, these are of what the host did by itself. */
export const ErasureNotice = Type.Object({ id: Uuid, certificate: EraseCertificateText }, strict)
export type ErasureNotice = Static<typeof ErasureNotice>

// Being had back

export const VmUndeleteParams = Type.Object({ vm: VmName }, strict)
export const VmUndeleteResult = Type.Object({ vm: VmSummary }, strict)
