// vm.resize: other sizes and limits for a VM, at once where its machine can follow, at its next start otherwise.

import { HostletError } from '../../errors.ts'
import type { DiskRole } from '../../protocol/backup.ts'
import { VmResizeParams, VmResizeResult } from '../../protocol/resize.ts'
import type { VmSpecification } from '../../protocol/vm.ts'
import type { Host } from '../host/host.ts'
import type { Placement, VmRecord } from '../host/hypervisor.ts'
import { isOff } from '../host/making.ts'
import type { VmSizes } from '../host/shape-port.ts'
import { defineVerb, type Operation, type Step } from '../operations/verb.ts'
import { planResize } from '../plans/changing.ts'
import type { VerbDocument } from './document.ts'
import { checkVm, requireVm, subjectOf } from './subject.ts'

/** What a machine follows while it runs. */
const followed = ['cpuLimitPercent', 'diskLimits', 'rootDiskBytes', 'dataDiskBytes'] as const
const diskFields = { root: 'rootDiskBytes', data: 'dataDiskBytes' } as const
const machineFields = ['cpus', 'memoryBytes', 'cpuLimitPercent', 'diskLimits'] as const

interface Before {
  readonly specification: VmSpecification
  readonly placement: Placement
}

export const vmResize = defineVerb<Host>()({
  name: 'vm.resize',
  summary:
    'Changes the sizes and limits of a VM: at once where its machine can follow, else at its next start, and says which.',
  lock: 'vm',
  backups: 'wait',
  changes: true,
  deadlineMs: 300_000,
  afterCrash: 'resume',
  params: VmResizeParams,
  result: VmResizeResult,

  async check({ vm, ...sizes }, host, operation) {
    const record = await checkVm(vm, host, operation)
    for (const role of ['root', 'data'] as const) refuseSmaller(record, role, sizes[diskFields[role]])
  },

  steps: ({ vm, ...sizes }, host) => [
    {
      name: 'look at it',
      apply: async (operation) => {
        const record = await requireVm(vm, host, operation)
        const { specification, placement } = record
        await warnOfSmallPool(specification, sizes, host, operation)
        return {
          before: { specification, placement },
          isOn: !isOff(record)
        }
      }
    },
    reshapeStep(vm, sizes, host),
    ...growSteps(vm, sizes, host)
  ],

  plan: (params, host, operation) => planResize(params, host, operation, followed),

  async outcome({ vm, ...sizes }, host, operation) {
    const record = await requireVm(vm, host, operation)
    const { cpus, memoryBytes, rootDiskBytes, dataDiskBytes } = record.specification
    const isOn = operation.notes.isOn === true
    const follows: ReadonlySet<string> = new Set(followed)
    return {
      vm: host.vms.summary(record),
      sizes: { cpus, memoryBytes, rootDiskBytes, ...(dataDiskBytes !== undefined && { dataDiskBytes }) },
      changes: (Object.keys(sizes) as VmResizeResult['changes'][number]['what'][]).map((what) => ({
        what,
        applied: isOn && follows.has(what) ? ('live' as const) : ('next start' as const)
      }))
    }
  }
})

function reshapeStep(vm: string, asked: VmSizes, host: Host): Step {
  const sizes = withoutDisks(asked)
  return {
    name: 'write sizes and cores',
    apply: async (operation) => {
      await requireVm(vm, host, operation)
      if (Object.keys(sizes).length > 0) await host.resources.resize(vm, sizes, operation)
      const { generation } = subjectOf(operation, vm)
      await host.hypervisor.annotate(vm, { generation }, operation)
    },
    undo: async (operation) => {
      const before = operation.notes.before as Before | undefined
      if (before === undefined || Object.keys(sizes).length === 0) return
      await requireVm(vm, host, operation)
      await host.resources.restore(before, sizesOf(before.specification), operation)
    }
  }
}

/** There is no way back from a larger disk: where a later step fails it stays, and the definition says so. */
function growSteps(vm: string, sizes: VmSizes, host: Host): Step[] {
  return (['root', 'data'] as const).flatMap((role) => {
    const field = diskFields[role]
    const capacityBytes = sizes[field]
    if (capacityBytes === undefined) return []
    return [
      {
        name: `grow the ${role} disk`,
        apply: async (operation) => {
          const record = await requireVm(vm, host, operation)
          refuseSmaller(record, role, capacityBytes)
          await grow(record, { role, capacityBytes }, host, operation)
          await host.hypervisor.reshape(vm, { sizes: { [field]: capacityBytes } }, operation)
        }
      }
    ]
  })
}

async function grow(
  record: VmRecord,
  { role, capacityBytes }: { role: DiskRole; capacityBytes: number },
  host: Host,
  operation: Operation
): Promise<void> {
  const { name } = record.specification
  try {
    await host.hypervisor.growDisk(name, role, capacityBytes, operation)
  } catch (error) {
    if (!isOff(record) || !(error instanceof HostletError) || error.code !== 'E_UNSUPPORTED') throw error
    throw new HostletError(
      'E_UNSUPPORTED',
      `the ${role} disk of VM ${name} is encrypted, and libvirt grows such a disk only while its VM runs. Start the VM, then ask again.`,
      { cause: error, details: { vm: name } }
    )
  }
}

/** Null takes away a limit that was not there. */
function sizesOf({ cpus, memoryBytes, cpuLimitPercent, diskLimits }: VmSpecification): VmSizes {
  return { cpus, memoryBytes, cpuLimitPercent: cpuLimitPercent ?? null, diskLimits: diskLimits ?? {} }
}

function withoutDisks(sizes: VmSizes): VmSizes {
  return Object.fromEntries(
    machineFields.filter((field) => sizes[field] !== undefined).map((field) => [field, sizes[field]])
  )
}

function refuseSmaller({ specification }: VmRecord, role: DiskRole, wantedBytes: number | undefined): void {
  if (wantedBytes === undefined) return
  const { name } = specification
  const haveBytes = specification[diskFields[role]]
  if (haveBytes === undefined)
    throw new HostletError(
      'E_BAD_REQUEST',
      `VM ${name} has no data disk, and one cannot be added later. Make a VM with one.`,
      { details: { vm: name } }
    )
  if (wantedBytes >= haveBytes) return
  throw new HostletError(
    'E_BAD_REQUEST',
    `the ${role} disk of VM ${name} has ${haveBytes} bytes already: disks only grow. Ask for more, or make a new VM.`,
    { details: { vm: name, haveBytes, wantedBytes } }
  )
}

/** Disks are thin: what a larger one will hold need not be there yet. */
async function warnOfSmallPool(
  specification: VmSpecification,
  sizes: VmSizes,
  host: Host,
  operation: Operation
): Promise<void> {
  const grownBytes = Object.values(diskFields).reduce(
    (sum, field) => sum + Math.max(0, (sizes[field] ?? 0) - (specification[field] ?? 0)),
    0
  )
  if (grownBytes === 0) return
  const { poolAvailableBytes } = await host.hypervisor.facts(operation)
  if (poolAvailableBytes < grownBytes)
    operation.log.warn(
      { vm: specification.name, grownBytes, poolAvailableBytes },
      'a disk was made larger than the room that its pool has left'
    )
}

export const document: VerbDocument = {
  errors: {
    E_BAD_REQUEST:
      'nothing is to be changed, a disk is to shrink, there is no data disk, or a limit is looser than the profile allows',
    E_NOT_FOUND: 'the VM is not defined on this host',
    E_CONFLICT: "the name belongs to another VM or to a domain that is not hostlet's",
    E_STALE: 'the VM has carried out a newer command',
    E_CAPACITY: 'the host has not so much memory, not so many processors or whole cores left',
    E_UNSUPPORTED: 'an encrypted disk of a VM that is off is to grow: start the VM first',
    E_UNAVAILABLE: 'libvirt is away'
  },
  crash: 'Runs on from the last step that was done; each can be done twice.',
  remarks: [
    'Followed at once by a VM that runs: `cpuLimitPercent`, `diskLimits`, and both disks; its guest still has to grow its file system. At the next start: `cpus` and `memoryBytes`. A reboot of the guest is none: stop the VM and start it.',
    'Memory is not taken back from a running guest by its balloon: that would be a request, which the guest may ignore.',
    'A VM of a pinned profile that runs keeps its cores until it is off, and has those that it gets besides from its next start on.',
    'A disk that has grown stays so where a later step fails; everything else is put back.',
    '`cpuLimitPercent: null` takes the limit away, `diskLimits: {}` leaves those of the profile.'
  ],
  example: { vm: 'web-1', cpus: 4, memoryBytes: 4_294_967_296, rootDiskBytes: 42_949_672_960 }
}
