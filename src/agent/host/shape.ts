// What a VM carries after a change to its shape, for each hypervisor alike.

import type { VmSpecification } from '../../protocol/vm.ts'
import type { Placement } from './hypervisor.ts'
import type { VmShape, VmSizes } from './shape-port.ts'

/** What a VM carries, with a change to its shape. */
export function reshaped<
  Carrier extends { readonly specification: VmSpecification; readonly placement: Placement }
>(carrier: Carrier, { sizes, resources }: VmShape): Carrier {
  const placement = { ...carrier.placement, ...(resources && { resources }) }
  return { ...carrier, placement, specification: resized(carrier.specification, sizes ?? {}) }
}

export function resized<Specification extends VmSpecification>(
  specification: Specification,
  { cpuLimitPercent, ...sizes }: VmSizes
): Specification {
  if (cpuLimitPercent === undefined) return { ...specification, ...sizes }
  const { cpuLimitPercent: _before, ...rest } = specification
  return { ...rest, ...sizes, ...(cpuLimitPercent !== null && { cpuLimitPercent }) } as Specification
}
