// What lies on a host and belongs to no VM: whether it is provably hostlet's, and what host.clean did with it.

import { type Static, Type } from '../lib/schema.ts'
import { strict, Uuid, VmName } from './names.ts'

export const orphanKinds = [
  'volume',
  'scratch',
  'image',
  'seed',
  'reservation',
  'lease',
  'network',
  'secret',
  'console',
  'key',
  'qemu-log'
] as const
export type OrphanKind = (typeof orphanKinds)[number]
/** `ours`: proven, and host.clean removes it. `maybe`: not proven, or something may need it; never removed. */
export const orphanVerdicts = ['ours', 'maybe'] as const
/** Of each list in an answer, and of one run: the next takes more. */
export const orphansMax = 200
export const keptVmsMax = 1_024

export const OrphanItem = Type.Object(
  {
    kind: Type.Enum([...orphanKinds]),
    name: Type.String({ minLength: 1, maxLength: 512 }),
    verdict: Type.Enum([...orphanVerdicts]),
    /** What proves it, or what keeps it. */
    why: Type.String({ maxLength: 512 })
  },
  strict
)
export type OrphanItem = Static<typeof OrphanItem>

export const HostCleanParams = Type.Object(
  {
    dryRun: Type.Optional(Type.Boolean()),
    /** VMs that somebody knows to be on this host: what may be theirs is kept, whether or not libvirt has them. */
    keep: Type.Optional(
      Type.Array(Type.Object({ name: VmName, uuid: Uuid }, strict), { maxItems: keptVmsMax })
    )
  },
  strict
)
export type HostCleanParams = Static<typeof HostCleanParams>

export const HostCleanResult = Type.Object(
  {
    dryRun: Type.Boolean(),
    /** Gone, or what would be. */
    removed: Type.Array(OrphanItem, { maxItems: orphansMax }),
    /** Left alone, with the reason. */
    kept: Type.Array(OrphanItem, { maxItems: orphansMax }),
    /** Proven, and could not be removed. */
    failed: Type.Array(OrphanItem, { maxItems: orphansMax })
  },
  strict
)
export type HostCleanResult = Static<typeof HostCleanResult>
