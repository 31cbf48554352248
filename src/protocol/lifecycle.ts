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
