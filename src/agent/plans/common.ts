// What plans of several verbs have in common: differences of the definition, room on disks, shares of the host, network rules.

import { unifiedDiff } from '../../lib/unified-diff.ts'
import { type Foreseen, type PlannedNeed, planTextMax } from '../../protocol/plan.ts'
import type { VmSpecification } from '../../protocol/vm.ts'
import type { FirewallSubject } from '../firewall/inventory.ts'
import type { Host } from '../host/host.ts'
import type { VmRecord, Wait } from '../host/hypervisor.ts'
import { isOff } from '../host/making.ts'
import { baseVolumeName } from '../host/names.ts'
import type { DraftChange } from '../host/plan-port.ts'
import type { Taken } from '../resources/admission.ts'

/** The definition before and after, as a difference. */
export async function domainOf(
  vm: string,
  change: DraftChange,
  host: Host,
  wait: Wait
): Promise<Pick<Foreseen, 'domain'>> {
  const { before, after } = await host.hypervisor.draft(change, wait)
  const diff = unifiedDiff(before, after, { before: `${vm} (as it is)`, after: `${vm} (as it would be)` })
  return { domain: { diff: cutText(diff), ...(after !== undefined && { after: cutText(after) }) } }
}

function cutText(text: string): string {
  return text.slice(0, planTextMax)
}

/** Disks are thin: so much they may come to hold. */
export async function diskNeed(neededBytes: number, host: Host, wait: Wait): Promise<PlannedNeed[]> {
  if (neededBytes === 0) return []
  const { poolAvailableBytes } = await host.hypervisor.facts(wait)
  return [{ what: 'disk, once it is full', unit: 'bytes', needed: neededBytes, free: poolAvailableBytes }]
}

export function shareNeeds(takes: readonly Taken[]): PlannedNeed[] {
  return takes.map(({ what, needed, free }) => ({
    what,
    unit: what === 'shared processors' ? 'vCPUs' : 'bytes',
    needed,
    free: Math.max(0, free)
  }))
}

/** What the host would get back of a machine that goes off, and what there is without it. */
export async function memoryBack(record: VmRecord, host: Host, wait: Wait): Promise<PlannedNeed[]> {
  if (isOff(record)) return []
  const { memoryBytes } = record.specification
  const { takes } = await host.resources.foresee(record, wait)
  return shareNeeds(takes)
    .slice(0, 1)
    .map((need) => ({ ...need, needed: -memoryBytes, free: Math.max(0, need.free - memoryBytes) }))
}

export async function rulesOf(
  uuid: string,
  vm: FirewallSubject | undefined,
  host: Host,
  wait: Wait
): Promise<Pick<Foreseen, 'firewall' | 'ports'>> {
  const { added, removed, rulesAdded, rulesRemoved, ports } = await host.firewall.foresee(uuid, vm, wait)
  return {
    firewall: { added: [...added], removed: [...removed], rulesAdded, rulesRemoved },
    ports: { added: [...ports.added], removed: [...ports.removed] }
  }
}

export async function imageRemark(
  image: VmSpecification['image'],
  { hypervisor }: Host,
  wait: Wait
): Promise<string> {
  const base = await hypervisor.findVolume(baseVolumeName(image), wait)
  return base === undefined
    ? `The image is not on the host: it is fetched from ${image.url}, and how large it is shows only then.`
    : 'The image is on the host already.'
}
