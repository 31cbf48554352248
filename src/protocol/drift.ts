// What of a VM is not as its host's records say, and what became of it.

import { type Static, Type } from '../lib/schema.ts'
import { strict, Timestamp, VmName } from './names.ts'

export const driftSeverities = ['info', 'warning', 'critical'] as const
/** `self`: the agent puts it right when it sees it. `ask`: vm.repair does. `operator`: a person has to look first. */
export const driftRepairs = ['self', 'ask', 'operator'] as const
/** Differences of one VM that are told. */
export const driftItemsMax = 32

export const DriftItem = Type.Object(
  {
    /** Stable: what scripts may look for. */
    id: Type.String({ pattern: '^[a-z][a-z-]{0,40}$' }),
    title: Type.String({ maxLength: 128 }),
    recorded: Type.String({ maxLength: 256 }),
    actual: Type.String({ maxLength: 256 }),
    /** When this agent first saw it, since it started. */
    since: Timestamp,
    severity: Type.Enum([...driftSeverities]),
    repair: Type.Enum([...driftRepairs]),
    next: Type.String({ maxLength: 512 })
  },
  strict
)
export type DriftItem = Static<typeof DriftItem>

export const VmRepairParams = Type.Object(
  {
    vm: VmName,
    dryRun: Type.Optional(Type.Boolean()),
    /** What is put right: all that can be (`all`, also when it is absent), or what needs nobody's word (`self`). */
    scope: Type.Optional(Type.Enum(['all', 'self']))
  },
  strict
)
export type VmRepairParams = Static<typeof VmRepairParams>

export const VmRepairResult = Type.Object(
  {
    vm: VmName,
    dryRun: Type.Boolean(),
    /** Put right, or what would be. */
    repaired: Type.Array(DriftItem, { maxItems: driftItemsMax }),
    /** Different still. */
    remaining: Type.Array(DriftItem, { maxItems: driftItemsMax })
  },
  strict
)
export type VmRepairResult = Static<typeof VmRepairResult>
