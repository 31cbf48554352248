// The part of the hypervisor port that gives a VM its share of the host: cores, limits, sizes, room on its disks.

import { type Static, Type } from '../../lib/schema.ts'
import type { DiskRole } from '../../protocol/backup.ts'
import { strict } from '../../protocol/names.ts'
import { DiskLimits, type VmSpecification } from '../../protocol/vm.ts'
import type { Wait } from './hypervisor.ts'

const Cpu = Type.Integer({ minimum: 0, maximum: 8_191 })
const cpusMax = 8_192
const vcpusMax = 256
const threadsPerCoreMax = 64

/** What the host gives to a VM besides what its specification says. Kept in the domain's metadata with its placement. */
export const VmResources = Type.Object(
  {
    /**
     * For each vCPU the threads of the core that it has to itself, in the VM's own order. More than it has vCPUs while it runs
     * with those that it is to lose at its next start.
     */
    pinned: Type.Optional(
      Type.Array(Type.Array(Cpu, { minItems: 1, maxItems: threadsPerCoreMax }), {
        minItems: 1,
        maxItems: vcpusMax
      })
    ),
    /** Without cores of its own: the processors that it shares with others. Absent as well: all. */
    shared: Type.Optional(Type.Array(Cpu, { minItems: 1, maxItems: cpusMax })),
    /** Its memory is out of the host's huge pages. */
    hugepages: Type.Optional(Type.Literal(true)),
    /** Of each disk: the tighter of its profile's and its specification's. */
    diskLimits: Type.Optional(DiskLimits)
  },
  strict
)
export type VmResources = Static<typeof VmResources>

/** Sizes and limits of a specification that can be changed later. Null takes the limit away. */
export type VmSizes = Partial<
  Pick<VmSpecification, 'cpus' | 'memoryBytes' | 'rootDiskBytes' | 'dataDiskBytes' | 'diskLimits'>
> & { readonly cpuLimitPercent?: number | null }

/** What `reshape` changes: what is absent stays as it is. */
export interface VmShape {
  readonly sizes?: VmSizes
  readonly resources?: VmResources
}

export interface ShapeHypervisor {
  /**
   * Writes sizes and resources into the VM's definition and its metadata, and nothing else of it. A machine that runs follows at
   * once in its CPU limit, its cores and the limits of its disks; vCPUs, memory and huge pages wait for its next start.
   */
  reshape(name: string, shape: VmShape, wait: Wait): Promise<void>
  /**
   * Grows a disk, of a running machine too. No effect when it is that large already: nothing ever shrinks. The specification is
   * the caller's to change. Throws E_UNSUPPORTED when a disk of its kind can be grown only while its machine is on.
   */
  growDisk(name: string, role: DiskRole, capacityBytes: number, wait: Wait): Promise<void>
}
