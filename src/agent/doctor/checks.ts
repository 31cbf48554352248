// All checks of "hostlet doctor", in the order in which they are told.

import type { Check, Verdict } from './check.ts'
import { agentChecks } from './checks/agent.ts'
import { capabilityChecks } from './checks/capabilities.ts'
import { fleetChecks } from './checks/fleet.ts'
import { hostChecks } from './checks/host.ts'
import { leakChecks } from './checks/leaks.ts'
import { libvirtChecks } from './checks/libvirt.ts'
import { linkChecks } from './checks/links.ts'
import { networkChecks } from './checks/network.ts'
import { poolChecks } from './checks/pools.ts'
import { proxmoxChecks } from './checks/proxmox.ts'
import { versionChecks } from './checks/versions.ts'
import type { DoctorFacts } from './facts.ts'

export const checkGroups: readonly { readonly title: string; readonly checks: readonly Check[] }[] = [
  { title: 'libvirt and QEMU', checks: [...libvirtChecks, ...versionChecks] },
  { title: 'disks', checks: poolChecks },
  { title: 'secrets on disk', checks: leakChecks },
  { title: 'network', checks: [...linkChecks, ...networkChecks] },
  { title: 'scheduler', checks: fleetChecks },
  { title: 'agent', checks: agentChecks },
  { title: 'machine', checks: [...hostChecks, ...capabilityChecks] },
  { title: 'Proxmox', checks: proxmoxChecks }
]

/** What "hostlet init" looks at first: what would keep a host from working, and no step of it mends. */
export const checksBeforeInit: readonly string[] = [
  'libvirt',
  'kvm',
  'programs',
  'libvirt-version',
  'qemu-version',
  'qemu-nbd',
  'qemu-user',
  'dynamic-ownership',
  'pools',
  'pool-space',
  'pool-inodes',
  'pool-answers',
  'luks',
  'bridges',
  'subnets',
  'ports',
  'policy',
  'scheduler',
  'clock-difference',
  'clock',
  'vm-users',
  'huge-pages',
  ...proxmoxChecks.map(({ id }) => id)
]

export interface Finding extends Verdict {
  readonly id: string
  readonly group: string
  readonly title: string
}

export function examine(facts: DoctorFacts): readonly Finding[] {
  return checkGroups.flatMap(({ title: group, checks }) =>
    checks.map((check) => ({ id: check.id, group, title: check.title, ...check.judge(facts) }))
  )
}
