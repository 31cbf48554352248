// Everything that the audit of a VM looks at. Gathered before; items only judge it.

import type { VmRecord } from '../host/hypervisor.ts'
import type { MachineInspection } from '../host/inspection.ts'
import type { Profile } from '../profiles.ts'
import type { PortRules } from './network.ts'
import type { Missing, ProcessFacts } from './process.ts'

export interface AuditFacts {
  readonly vm: VmRecord
  /** Undefined where its profile is not configured any more. */
  readonly profile: Profile | undefined
  readonly inspection: MachineInspection
  readonly process: ProcessFacts | Missing
  /** Security drivers that the host has besides users: `apparmor`, `selinux`. */
  readonly hostConfinement: readonly string[]
  /** The rules, or why they could not be looked at. */
  readonly rules: PortRules | { readonly unreadable: string }
  /** What the agent's own firewall says of all rules; null where they are as it applied them. */
  readonly firewallFault: string | null
  /** Users of other VMs of ours. */
  readonly otherUids: readonly number[]
}
