// The part of libvirt's domain XML that says how much of the host a machine gets, for new definitions and for changes of old ones.

import type { DiskLimits } from '../../protocol/vm.ts'
import { cpuListText } from '../resources/topology.ts'
import type { VmDefinition } from './hypervisor.ts'
import { element, type XmlElement } from './xml.ts'

type Sized = Pick<VmDefinition, 'specification' | 'placement'>

/** Period of the CPU limit: the share of each of these that the machine may run. */
export const cpuPeriodMicroseconds = 100_000
/** Names of the elements that `sizeElements` may make: those of an old definition give way to them. */
export const sizeElementNames: ReadonlySet<string> = new Set([
  'memory',
  'currentMemory',
  'maxMemory',
  'memoryBacking',
  'vcpu',
  'vcpus',
  'cputune',
  'memtune'
])

/** The limit of memory and the weight are not here: a machine gets them when it has started. See `Tuning`. */
export function sizeElements(vm: Sized): XmlElement[] {
  const { specification, placement } = vm
  const { shared, hugepages } = placement.resources ?? {}
  const cpuset = shared && cpuListText(shared)
  return [
    // Left out of core dumps of QEMU, which somebody may have switched on.
    element('memory', { unit: 'b', dumpCore: 'off' }, String(specification.memoryBytes)),
    // Out of the kernel's merging of equal pages, through which one guest can learn what another has in memory.
    element('memoryBacking', {}, hugepages ? element('hugepages') : undefined, element('nosharepages')),
    element('vcpu', { placement: 'static', cpuset }, String(specification.cpus)),
    ...cpuTune(vm)
  ]
}

/** libvirt formatdomain, 'iotune': over all requests of the disk, reads and writes together. */
export function diskLimitElement(limits: DiskLimits | undefined): XmlElement | undefined {
  const { bytesPerSecondMax, operationsPerSecondMax } = limits ?? {}
  if (bytesPerSecondMax === undefined && operationsPerSecondMax === undefined) return undefined
  const limit = (name: string, value: number | undefined) =>
    value === undefined ? undefined : element(name, {}, String(value))
  return element(
    'iotune',
    {},
    limit('total_bytes_sec', bytesPerSecondMax),
    limit('total_iops_sec', operationsPerSecondMax)
  )
}

/** Caps the whole machine, QEMU's own threads included, rather than each vCPU apart. */
export function cpuQuotaMicroseconds(percentOfCore: number): number {
  return Math.round((percentOfCore * cpuPeriodMicroseconds) / 100)
}

function cpuTune({ specification, placement }: Sized): XmlElement[] {
  const { cpus, cpuLimitPercent } = specification
  const children = [
    ...(cpuLimitPercent === undefined ? [] : quota(cpuLimitPercent)),
    ...pins(cpus, placement.resources?.pinned)
  ]
  return children.length === 0 ? [] : [element('cputune', {}, ...children)]
}

function quota(percentOfCore: number): XmlElement[] {
  return [
    element('global_period', {}, String(cpuPeriodMicroseconds)),
    element('global_quota', {}, String(cpuQuotaMicroseconds(percentOfCore)))
  ]
}

/** QEMU's other threads stay on the VM's own cores: they are its work, and nobody else's cores are to feel it. */
function pins(cpus: number, pinned: readonly (readonly number[])[] | undefined): XmlElement[] {
  if (pinned === undefined) return []
  const own = pinned.slice(0, cpus)
  return [
    ...own.map((core, vcpu) => element('vcpupin', { vcpu, cpuset: cpuListText(core) })),
    element('emulatorpin', { cpuset: cpuListText(own.flat()) })
  ]
}
