// What a change of one VM would change in the network rules: in words for people, and in nftables' own rules. Pure.

import type { Egress, PortMapping } from '../../protocol/vm.ts'
import type { FirewallVm, Inventory } from './inventory.ts'
import type { NftCommand } from './nft-json.ts'
import { renderRuleset } from './ruleset.ts'

export interface Difference {
  readonly added: readonly string[]
  readonly removed: readonly string[]
}

export interface RulesForeseen extends Difference {
  /** Of nftables: rules, and elements of sets and maps. */
  readonly rulesAdded: number
  readonly rulesRemoved: number
  readonly ports: Difference
}

/** `port`: the name of the VM's port. */
export function rulesForeseen(before: Inventory, after: Inventory, port: string): RulesForeseen {
  const [was, willBe] = [before, after].map(({ vms }) => vms.find((vm) => vm.port === port))
  const rules = difference(rulesIn(before), rulesIn(after))
  return {
    ...difference(linesOf(was), linesOf(willBe)),
    rulesAdded: rules.added.length,
    rulesRemoved: rules.removed.length,
    ports: difference(portLines(was), portLines(willBe))
  }
}

export function difference(before: readonly string[], after: readonly string[]): Difference {
  const [was, willBe] = [new Set(before), new Set(after)]
  return {
    added: [...willBe].filter((line) => !was.has(line)),
    removed: [...was].filter((line) => !willBe.has(line))
  }
}

function linesOf(vm: FirewallVm | undefined): readonly string[] {
  if (vm === undefined) return []
  const { macAddress, address, bridge, egress, dns } = vm
  const { receiveBytesPerSecondMax: receive, transmitBytesPerSecondMax: transmit } = vm
  return [
    `sends as ${macAddress} and ${address} only, on bridge ${bridge === '' ? 'none' : bridge}`,
    ...egressLines(egress),
    dns ? 'asks the resolvers of the host' : 'asks no resolver',
    ...(receive === undefined ? [] : [`receives at most ${receive} bytes a second`]),
    ...(transmit === undefined ? [] : [`sends at most ${transmit} bytes a second`]),
    ...vm.ports.map(
      (mapping) => `lets in ${sourcesOf(mapping)} to ${mapping.transport} port ${mapping.vmPort}`
    )
  ]
}

function egressLines({ mode, allow = [] }: Egress): readonly string[] {
  if (mode === 'none') return ['reaches nothing outside']
  if (mode === 'web') return ['reaches TCP ports 80 and 443 outside']
  if (mode === 'all') return ['reaches all outside that a VM may reach']
  return allow.map(({ transport, addresses, ports }) => {
    const where = ports === undefined ? 'any port' : `ports ${ports.join(', ')}`
    return `reaches ${transport} ${addresses.join(', ')}, ${where}`
  })
}

function portLines(vm: FirewallVm | undefined): readonly string[] {
  return (vm?.ports ?? []).map(
    (mapping) =>
      `${mapping.transport} ${mapping.hostPort} -> ${vm?.address}:${mapping.vmPort} for ${sourcesOf(mapping)}`
  )
}

function sourcesOf({ sources }: PortMapping): string {
  return sources?.join(', ') ?? 'everybody'
}

/** Each rule and each element as a text of its own. */
function rulesIn(inventory: Inventory): readonly string[] {
  return renderRuleset(inventory).flatMap((command: NftCommand) => {
    if (!('add' in command)) return []
    const { rule, element } = command.add
    if (rule !== undefined) return [JSON.stringify(rule)]
    if (element === undefined) return []
    const { elem, ...of } = element
    return (elem as readonly unknown[]).map((each) => JSON.stringify({ ...of, each }))
  })
}
