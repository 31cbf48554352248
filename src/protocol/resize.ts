// The arguments and the result of vm.resize.

import { type Static, Type } from '../lib/schema.ts'
import { Bytes, strict, VmName } from './names.ts'
import { VmSpecification, VmSummary } from './vm.ts'

const { cpus, memoryBytes, rootDiskBytes, dataDiskBytes, diskLimits } = VmSpecification.properties

/** Sizes and limits as they are to be; what is absent stays. */
export const vmSizeFields = {
  cpus: Type.Optional(cpus),
  memoryBytes: Type.Optional(memoryBytes),
  rootDiskBytes: Type.Optional(rootDiskBytes),
  dataDiskBytes,
  /** Null: no limit but that of the vCPUs. */
  cpuLimitPercent: Type.Optional(Type.Union([Type.Integer({ minimum: 5, maximum: 25_600 }), Type.Null()])),
  /** Replaces those of the VM; empty leaves those of its profile. */
  diskLimits
}

export const VmResizeParams = Type.Object({ vm: VmName, ...vmSizeFields }, { ...strict, minProperties: 2 })
export type VmResizeParams = Static<typeof VmResizeParams>

const changeable = [
  'cpus',
  'memoryBytes',
  'rootDiskBytes',
  'dataDiskBytes',
  'cpuLimitPercent',
  'diskLimits'
] as const

/** What is changed, as a file of `hostlet apply` calls it. */
export const sizeWords: { readonly [What in (typeof changeable)[number]]: string } = {
  cpus: 'cpus',
  memoryBytes: 'memory',
  rootDiskBytes: 'disk',
  dataDiskBytes: 'dataDisk',
  cpuLimitPercent: 'cpuLimit',
  diskLimits: 'diskLimits'
}

export const VmResizeResult = Type.Object(
  {
    vm: VmSummary,
    /** As they are in its definition now. */
    sizes: Type.Object(
      {
        cpus: Type.Integer({ minimum: 1 }),
        memoryBytes: Bytes,
        rootDiskBytes: Bytes,
        dataDiskBytes: Type.Optional(Bytes)
      },
      strict
    ),
    /** `live`: the machine that runs has it. `next start`: the next time that it is switched on. */
    changes: Type.Array(
      Type.Object({ what: Type.Enum([...changeable]), applied: Type.Enum(['live', 'next start']) }, strict),
      { maxItems: changeable.length }
    )
  },
  strict
)
export type VmResizeResult = Static<typeof VmResizeResult>
