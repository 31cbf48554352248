// Bounds of the policy for VMs: of each one, of all of the host, and of the ports that lead to them.

import { asHostletError, HostletError } from '../../errors.ts'
import type { VmSpecification } from '../../protocol/vm.ts'
import { covers, rangeOf } from '../firewall/ranges.ts'
import { type CommandPolicy, portRangeOf } from './command-sections.ts'
import { findPolicy, type Policy } from './policy.ts'

/**
 * For whatever makes a VM, also of a backup, whose sizes no command tells: looked at as the VM claims its name. Throws
 * E_AUTH, also where the policy cannot be believed.
 */
export function requireWithinLimits(
  path: string,
  specification: VmSpecification,
  vms: readonly { readonly specification: VmSpecification }[]
): void {
  const limits = believed(path)?.commands?.limits
  const others = vms.map((vm) => vm.specification)
  const fault = limits && newVmFault(limits, specification, others)
  if (fault === undefined) return
  throw new HostletError(
    'E_AUTH',
    `the policy of this host does not allow VM ${specification.name}: ${fault}.`,
    {
      details: { reason: 'limit', vm: specification.name }
    }
  )
}

function believed(path: string): Policy | undefined {
  try {
    return findPolicy(path)
  } catch (cause) {
    throw new HostletError(
      'E_AUTH',
      `no VM is made, since the policy of this host cannot be relied on: ${asHostletError(cause).message.split('\n')[0]}`,
      { cause, details: { reason: 'policy' } }
    )
  }
}

export type Limits = NonNullable<CommandPolicy['limits']>
type PortLimits = NonNullable<Limits['portMappings']>
type Sized = Pick<VmSpecification, 'cpus' | 'memoryBytes' | 'rootDiskBytes' | 'dataDiskBytes'>

interface Sizes {
  readonly cpus: number
  readonly memoryBytes: number
  readonly diskBytes: number
}

const measures = [
  ['cpus', 'cpusMax', 'vCPUs'],
  ['memoryBytes', 'memoryBytesMax', 'bytes of memory'],
  ['diskBytes', 'diskBytesMax', 'bytes of disk']
] as const

const everybody = '0.0.0.0/0'

/** Why the policy does not allow a new VM beside the others of the host; undefined where it does. */
export function newVmFault(
  limits: Limits,
  vm: VmSpecification,
  others: readonly Sized[]
): string | undefined {
  const { vmsMax } = limits.host ?? {}
  if (vmsMax !== undefined && others.length >= vmsMax)
    return `the host has ${others.length} VMs, its policy allows ${vmsMax}`
  return sizesFault(limits, { to: vm, others }) ?? portsFault(limits.portMappings, vm)
}

/** The same for other sizes of a VM. What does not grow is never refused. */
export function sizesFault(
  limits: Limits,
  { from, to, others }: { readonly from?: Sized; readonly to: Sized; readonly others: readonly Sized[] }
): string | undefined {
  const [before, after] = [from && sizesOf(from), sizesOf(to)]
  for (const [what, bound, text] of measures) {
    if (before !== undefined && after[what] <= before[what]) continue
    const ofVm = limits.vm?.[bound]
    if (ofVm !== undefined && after[what] > ofVm)
      return `the VM would have ${after[what]} ${text}, the policy allows ${ofVm}`
    const ofHost = limits.host?.[bound]
    const all = others.reduce((sum, other) => sum + sizesOf(other)[what], after[what])
    if (ofHost !== undefined && all > ofHost)
      return `the VMs of the host would have ${all} ${text}, the policy allows ${ofHost}`
  }
  return undefined
}

function portsFault(limits: PortLimits | undefined, { network }: VmSpecification): string | undefined {
  const { perVmMax, hostPorts, sources } = limits ?? {}
  const ports = network?.ports ?? []
  if (perVmMax !== undefined && ports.length > perVmMax)
    return `the VM would have ${ports.length} port mappings, the policy allows ${perVmMax}`
  for (const mapping of ports) {
    const { hostPort } = mapping
    const isAllowed = ({ from, to }: { from: number; to: number }) => from <= hostPort && hostPort <= to
    if (hostPorts !== undefined && !hostPorts.map(portRangeOf).some(isAllowed))
      return `port ${hostPort} of the host is none that the policy lets lead to a VM (${listed(hostPorts)})`
    const stray = (mapping.sources ?? [everybody]).find(
      (source) => sources !== undefined && !covers(sources.map(rangeOf), rangeOf(source))
    )
    if (stray !== undefined)
      return `port ${hostPort} of the host would be open to ${stray === everybody ? 'everybody' : stray}, the policy allows ${listed(sources ?? [])}`
  }
  return undefined
}

function sizesOf({ cpus, memoryBytes, rootDiskBytes, dataDiskBytes = 0 }: Sized): Sizes {
  return { cpus, memoryBytes, diskBytes: rootDiskBytes + dataDiskBytes }
}

function listed(texts: readonly string[]): string {
  return texts.length === 0 ? 'none' : texts.join(', ')
}
