// The audit of one VM: looks at libvirt, the kernel and the rules, and answers each item of the table.

import type { AuditItem } from '../../protocol/audit.ts'
import { reading } from '../doctor/readers/files.ts'
import { securityModules } from '../doctor/readers/kernel.ts'
import { networkDefaults } from '../firewall/create.ts'
import type { Host } from '../host/host.ts'
import type { VmRecord, Wait } from '../host/hypervisor.ts'
import type { AuditFacts } from './facts.ts'
import type { Item } from './item.ts'
import { machineItems } from './machine-items.ts'
import { readPortRules } from './network.ts'
import { readProcess } from './process.ts'
import { processItems } from './process-items.ts'

export const auditItems: readonly Item[] = [...processItems, ...machineItems]
const whyCharactersMax = 512

export function answer(facts: AuditFacts): AuditItem[] {
  return auditItems.map(({ id, title, judge }) => {
    const { answer, why } = judge(facts)
    return { id, title, answer, why: why.slice(0, whyCharactersMax) }
  })
}

export async function gather(vm: VmRecord, host: Host, wait: Wait): Promise<AuditFacts> {
  const { name, uuid, profile } = vm.specification
  const inspection = await host.hypervisor.inspect(name, wait)
  const { config, firewall } = host
  const table = config.network?.table ?? networkDefaults.table
  const rules = await reading(() => readPortRules({ table, ports: inspection.ports }, wait))
  const modules = await securityModules().catch(() => [])
  const others = (await host.hypervisor.listVms(wait)).filter(
    ({ specification }) => specification.uuid !== uuid
  )
  const { profiles } = host.config
  return {
    vm,
    inspection,
    profile: Object.hasOwn(profiles, profile) ? profiles[profile] : undefined,
    process: inspection.running ? await readProcess(uuid) : 'none',
    hostConfinement: modules.filter((name) => name === 'apparmor' || name === 'selinux'),
    rules: 'value' in rules ? rules.value : rules,
    firewallFault: firewall.fault?.message ?? null,
    otherUids: others.map(({ placement }) => placement.uid)
  }
}
