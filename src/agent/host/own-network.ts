// What is undone of a VM's place in the network: its reservation, or the network that it has to itself.

import type { Host } from './host.ts'
import type { VmRecord, Wait } from './hypervisor.ts'

export async function releaseAddress(
  { placement }: Pick<VmRecord, 'placement'>,
  { hypervisor }: Pick<Host, 'hypervisor'>,
  wait: Wait
): Promise<void> {
  const { network, macAddress } = placement
  await hypervisor.removeReservation(network, macAddress, wait)
}

/** The network before the definition, by which it is found again. The VM is off. */
export async function unclaim(
  { specification, placement }: Pick<VmRecord, 'specification' | 'placement'>,
  { hypervisor }: Pick<Host, 'hypervisor'>,
  wait: Wait
): Promise<void> {
  if (placement.ownNetwork !== undefined) await hypervisor.removeNetwork(placement.network, wait)
  await hypervisor.undefine(specification.name, wait)
}
