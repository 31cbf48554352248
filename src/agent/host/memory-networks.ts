// The networks of the hypervisor in memory: reservations, and leases as dnsmasq hands them out.

import { HostletError } from '../../errors.ts'
import type { GrantedLease, Lease } from './hypervisor.ts'

interface MemoryNetwork {
  readonly bridge: string
  readonly subnet: string
  readonly reservations: Lease[]
  readonly leases: GrantedLease[]
}

export class MemoryNetworks {
  readonly #networks = new Map<string, MemoryNetwork>()
  #granted = 0

  ensure(network: { name: string; bridge: string; subnet: string }): void {
    const found = this.#networks.get(network.name)
    if (found === undefined) {
      this.#networks.set(network.name, { ...network, reservations: [], leases: [] })
    } else if (found.bridge !== network.bridge || found.subnet !== network.subnet) {
      throw new HostletError('E_CONFLICT', `network ${network.name} exists and is another`)
    }
  }

  remove(name: string): void {
    this.#networks.delete(name)
  }

  list(): { name: string; bridge: string; subnet: string }[] {
    return [...this.#networks].map(([name, { bridge, subnet }]) => ({ name, bridge, subnet }))
  }

  /** Throws E_NOT_FOUND. */
  require(name: string): MemoryNetwork {
    const network = this.#networks.get(name)
    if (network !== undefined) return network
    throw new HostletError('E_NOT_FOUND', `network ${name} does not exist on this host`)
  }

  addReservation(network: string, { macAddress, address }: Lease): void {
    const { reservations } = this.require(network)
    const taken = reservations.filter((other) => other.macAddress === macAddress || other.address === address)
    if (taken.some((other) => other.macAddress === macAddress && other.address === address)) return
    if (taken.length > 0)
      throw new HostletError('E_CONFLICT', `network ${network} has a reservation for it already`)
    reservations.push({ macAddress, address })
  }

  removeReservation(network: string, macAddress: string): void {
    const reservations = this.#networks.get(network)?.reservations ?? []
    const index = reservations.findIndex((lease) => lease.macAddress === macAddress)
    if (index !== -1) reservations.splice(index, 1)
  }

  /** As dnsmasq: only what is reserved, and not while another holder's lease lasts. */
  takeLease(network: string, { macAddress, address }: Lease): void {
    const { reservations, leases } = this.require(network)
    const others = leases.some((lease) => lease.address === address && lease.macAddress !== macAddress)
    const reserved = reservations.some(
      (lease) => lease.macAddress === macAddress && lease.address === address
    )
    if (!reserved || others) return
    const earlier = leases.findIndex((lease) => lease.macAddress === macAddress)
    if (earlier !== -1) leases.splice(earlier, 1)
    leases.push({ macAddress, address, expiresAt: ++this.#granted })
  }

  forgetLeases(): void {
    for (const network of this.#networks.values()) network.leases.length = 0
  }
}
