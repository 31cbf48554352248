// All checks of "hostlet doctor", in the order in which they are told.

import type { Check, Verdict } from './check.ts'
import { agentChecks } from './checks/agent.ts'
import { hostChecks } from './checks/host.ts'
import { leakChecks } from './checks/leaks.ts'
import { libvirtChecks } from './checks/libvirt.ts'
import { networkChecks } from './checks/network.ts'
import type { DoctorFacts } from './facts.ts'

export const checkGroups: readonly { readonly title: string; readonly checks: readonly Check[] }[] = [
  { title: 'libvirt and QEMU', checks: libvirtChecks },
  { title: 'secrets on disk', checks: leakChecks },
  { title: 'network', checks: networkChecks },
  { title: 'agent', checks: agentChecks },
  { title: 'machine', checks: hostChecks }
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
