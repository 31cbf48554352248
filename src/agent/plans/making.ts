// Plans of what makes a VM: from an image, and of a backup.

import type { VmRestoreParams } from '../../protocol/backup.ts'
import type { Foreseen } from '../../protocol/plan.ts'
import type { VmSpecification } from '../../protocol/vm.ts'
import { specificationOf } from '../backups/restore-new.ts'
import { lookUp } from '../backups/restore-plan.ts'
import type { Host } from '../host/host.ts'
import type { Placement } from '../host/hypervisor.ts'
import { withoutSecrets } from '../host/placement.ts'
import type { Operation } from '../operations/verb.ts'
import { cpuListText } from '../resources/topology.ts'
import { diskNeed, domainOf, imageRemark, rulesOf, shareNeeds } from './common.ts'

export async function planProvision(
  { specification }: { specification: VmSpecification },
  host: Host,
  operation: Operation
): Promise<Foreseen> {
  const placement = await host.placements.foresee(specification, operation)
  const foreseen = await newVm({ specification, placement, wanted: 'running' }, host, operation)
  const { rootDiskBytes, dataDiskBytes = 0 } = specification
  const { remarks = [], needs = [] } = foreseen
  return {
    ...foreseen,
    needs: [...needs, ...(await diskNeed(rootDiskBytes + dataDiskBytes, host, operation))],
    remarks: [await imageRemark(specification.image, host, operation), ...remarks]
  }
}

/** What the backup holds is looked up, as the restore would. */
export async function planRestoreNew(
  params: VmRestoreParams,
  host: Host,
  operation: Operation
): Promise<Foreseen> {
  const { backedUp, disks, snapshot, at, freshness } = await lookUp(params, host, operation)
  const { vm: name, uuid, profile = backedUp.profile, start } = params
  host.placements.profile(profile)
  const asked = specificationOf(backedUp, disks, { name, uuid, profile })
  const specification = await host.firewall.fitted(asked, await host.hypervisor.listVms(operation))
  if (start !== false) await host.resources.check(specification, operation)
  const placement: Placement = {
    ...(await host.placements.foresee(specification, operation)),
    rootStandsAlone: true
  }
  const wanted = start === false ? 'stopped' : 'running'
  const foreseen = await newVm({ specification, placement, wanted }, host, operation)
  const heldBytes = disks.reduce((sum, { allocatedBytes }) => sum + allocatedBytes, 0)
  const { needs = [], remarks = [] } = foreseen
  return {
    ...foreseen,
    needs: [...needs, ...(await diskNeed(heldBytes, host, operation))],
    remarks: [
      `Backup ${snapshot} is of ${new Date(at).toISOString()} (${freshness}).`,
      'Its card has the MAC of the backed-up VM where no other VM of the host has that.',
      ...remarks
    ]
  }
}

interface NewVm {
  readonly specification: VmSpecification
  readonly placement: Placement
  readonly wanted: 'running' | 'stopped'
}

async function newVm(vm: NewVm, host: Host, operation: Operation): Promise<Foreseen> {
  const { specification, placement, wanted } = vm
  const { name, uuid, seed } = specification
  const definition = {
    specification: withoutSecrets(specification),
    placement,
    wanted,
    generation: operation.subject?.generation ?? 0,
    seedPath: seed === undefined ? null : host.seeds.path(uuid)
  }
  const { takes } = await host.resources.foresee(vm, operation)
  return {
    changes: true,
    ...(await domainOf(name, { kind: 'new', definition }, host, operation)),
    needs: shareNeeds(takes),
    ...(await rulesOf(uuid, vm, host, operation)),
    remarks: placementRemarks(placement)
  }
}

function placementRemarks({ uid, address, macAddress, network, ownNetwork, resources }: Placement): string[] {
  const { pinned } = resources ?? {}
  return [
    `It would have address ${address}, MAC ${macAddress}, user ${uid} and network ${network}.`,
    ...(ownNetwork === undefined
      ? []
      : [`The network would be its own: bridge ${ownNetwork.bridge}, ${ownNetwork.subnet}.`]),
    ...(pinned === undefined ? [] : [`It would have processors ${cpuListText(pinned.flat())} to itself.`])
  ]
}
