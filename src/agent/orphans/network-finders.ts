// What VMs that are gone left of their place in the network.

import { possibleMacs } from '../host/placement.ts'
import type { OrphanFacts } from './facts.ts'
import type { OrphanRule } from './finders.ts'
import { judged, workOn } from './proof.ts'

export const networks: readonly OrphanRule[] = [
  {
    kind: 'reservation',
    what: 'a DHCP reservation in a network of VMs for a card that no domain has',
    proof: 'the host remembers a VM whose MAC this is by its UUID; no domain has it',
    removal: 'the reservation is taken out of the network',
    find: (facts) =>
      nobodys(facts, facts.reservations).map(({ macAddress, address, network }) => {
        const vm = facts.knownVms.find(({ uuid }) => possibleMacs(uuid).includes(macAddress))
        const proof = vm && `its MAC is that of VM ${vm.name} (${vm.uuid})`
        const doubt = vm && (keptFor(facts, vm.uuid) ?? workOn(facts, vm))
        const name = `${network} ${macAddress} ${address}`
        return judged(facts, { kind: 'reservation', name, changedAt: 0, paths: [], proof, doubt })
      })
  },
  {
    kind: 'lease',
    what: 'a DHCP lease of a card that no domain has',
    proof: 'none is needed: it ends by itself within the hour',
    removal: 'never: dnsmasq forgets it',
    find: (facts) =>
      nobodys(facts, facts.leases).map(({ macAddress, address, network }) => {
        const name = `${network} ${macAddress} ${address}`
        const doubt = 'it ends by itself within the hour'
        return judged(facts, { kind: 'lease', name, changedAt: 0, paths: [], proof: undefined, doubt })
      })
  },
  {
    kind: 'network',
    what: 'the network that a VM had to itself',
    proof:
      'its name and its bridge are those of a profile with networks of their own, with the same digits; no domain is on it',
    removal: 'the network is stopped and undefined, with its bridge',
    find: (facts) =>
      facts.networks.flatMap(({ name, bridge, isOwn }) => {
        const used = facts.uses.some((use) => use.networks.includes(name) || use.networks.includes(bridge))
        if (!isOwn || used) return []
        const silent = facts.uses.find(({ complete }) => !complete)
        const isPair = name.slice(-8) === bridge.slice(-8)
        const proof = isPair ? `its bridge is ${bridge}` : undefined
        const doubt =
          facts.underWay.length > 0
            ? 'operations are under way, and one may be making it'
            : silent && `libvirt does not tell what domain ${silent.name} uses`
        return [judged(facts, { kind: 'network', name, changedAt: 0, paths: [], proof, doubt })]
      })
  }
]

function nobodys<Each extends { readonly macAddress: string }>(
  { uses }: OrphanFacts,
  all: readonly Each[]
): Each[] {
  const taken = new Set(uses.flatMap(({ macAddresses }) => macAddresses))
  return all.filter(({ macAddress }) => !taken.has(macAddress))
}

function keptFor({ keep }: OrphanFacts, uuid: string): string | undefined {
  const vm = keep.find((each) => each.uuid === uuid)
  return vm && `the scheduler knows VM ${vm.name} to be here`
}
