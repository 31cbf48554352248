// VMs on a hypervisor in memory, made without an agent.

import type { MemoryHypervisor } from '../../src/agent/host/memory-hypervisor.ts'
import { definitionOf, makeDisks, storeBase, wait } from '../contract/hypervisor.contract.ts'

const network = { name: 'vm-net', bridge: 'vmnet', subnet: '10.90.0.0/24' }

/** A VM that is on; its name is the one that is asked for, and nothing else of it matters. */
export async function runningVm(
  hypervisor: MemoryHypervisor,
  vm: string
): Promise<{ vm: string; uuid: string }> {
  await hypervisor.ensureNetwork(network, wait())
  if ((await hypervisor.listVolumes(wait())).length === 0) await storeBase(hypervisor)
  const [prefix = '', suffix = ''] = vm.split(/-(?=[^-]*$)/)
  const definition = definitionOf({ prefix, network, uid: 1_900_000_000 }, suffix)
  await makeDisks(hypervisor, definition)
  await hypervisor.define({ ...definition, wanted: 'running' }, wait())
  await hypervisor.start(vm, wait())
  return { vm, uuid: definition.specification.uuid }
}
