// Gives a new VM its user, address, MAC and volume names, and claims them all at once by defining its domain.

import { randomUUID } from 'node:crypto'
import { HostletError } from '../../errors.ts'
import { KeyedLock } from '../../lib/keyed-lock.ts'
import type { VmSpecification } from '../../protocol/vm.ts'
import type { Hypervisor, Placement, VmRecord, Wait } from './hypervisor.ts'
import { dataVolumeName, macAddressOf, rootVolumeName } from './names.ts'
import type { NetworkDefinition } from './network-xml.ts'
import { lowestFreeAddress, parseSubnet } from './subnet.ts'

export interface PlacementOptions {
  readonly hypervisor: Pick<
    Hypervisor,
    'listVms' | 'listReservations' | 'listLeases' | 'define' | 'findVm' | 'ensureNetwork'
  >
  readonly profiles: Readonly<Record<string, NetworkDefinition>>
  readonly vmUids: { readonly first: number; readonly count: number }
  /** Whether the disks of a profile's VMs are encrypted. */
  readonly isEncrypted?: (profile: string) => boolean
}

export interface Claim {
  readonly specification: VmSpecification
  readonly generation: number
  readonly seedPath: string | null
  /** Its root disk will have no base image below it: it is restored. */
  readonly rootStandsAlone?: true
  /** See Placement. */
  readonly trial?: true
  /** Wanted where no other VM of the host has it: guests know their network card by it. */
  readonly macAddress?: string
}

/** Taken MACs are as good as impossible; more in a row are a fault of something else. */
const macAttemptsMax = 8
const oneAtATime = 'claim'

export class Placements {
  readonly #options: PlacementOptions
  readonly #lock = new KeyedLock()

  constructor(options: PlacementOptions) {
    this.#options = options
  }

  /** The network of a profile. Throws E_BAD_REQUEST when the host's configuration has none of that name. */
  network(profile: string): NetworkDefinition {
    const found = Object.hasOwn(this.#options.profiles, profile) ? this.#options.profiles[profile] : undefined
    if (found !== undefined) return found
    const known = Object.keys(this.#options.profiles).join(', ')
    throw new HostletError(
      'E_BAD_REQUEST',
      `profile ${profile} is not configured on this host. It has: ${known}.`
    )
  }

  get networkNames(): readonly string[] {
    return Object.values(this.#options.profiles).map((network) => network.name)
  }

  /**
   * Defines the VM, off, with a placement of its own. The definition is the claim: it is durable, it is made in one
   * step, and from it alone everything else of a half-made VM can be found and removed. Safe to repeat with the same
   * generation. Throws E_CONFLICT and E_CAPACITY.
   */
  async claim(claim: Claim, wait: Wait): Promise<Placement> {
    await using _held = await this.#lock.acquire(oneAtATime, wait.signal)
    const { specification, generation, seedPath } = claim
    const existing = await this.#options.hypervisor.findVm(specification.name, wait)
    if (existing !== undefined && isClaimOf(existing, claim)) return existing.placement
    if (existing !== undefined) throw taken(existing, specification)
    const { rootStandsAlone, trial } = claim
    const placement = {
      ...(await this.#place(claim, wait)),
      ...(rootStandsAlone && { rootStandsAlone }),
      ...(trial && { trial })
    }
    const definition = { specification: withoutSecrets(specification), placement, generation, seedPath }
    await this.#options.hypervisor.define({ ...definition, wanted: 'stopped' }, wait)
    return placement
  }

  async #place({ specification, macAddress }: Claim, wait: Wait): Promise<Placement> {
    const { hypervisor } = this.#options
    const network = this.network(specification.profile)
    await hypervisor.ensureNetwork(network, wait)
    const [vms, reservations, leases] = await Promise.all([
      hypervisor.listVms(wait),
      hypervisor.listReservations(network.name, wait),
      hypervisor.listLeases(network.name, wait)
    ])
    const placements = [...vms.map((vm) => vm.placement), ...reservations]
    return {
      uid: this.#freeUid(vms),
      macAddress: freeMac(specification.uuid, new Set(placements.map((each) => each.macAddress)), macAddress),
      // A lease outlives its VM by up to an hour, and dnsmasq gives no address to one MAC that is leased to another.
      address: freeAddress(network, new Set([...placements, ...leases].map(({ address }) => address))),
      network: network.name,
      rootVolume: rootVolumeName(specification),
      dataVolume: specification.dataDiskBytes === undefined ? null : dataVolumeName(specification),
      ...this.diskKeys(specification)
    }
  }

  /** Names of new keys, one a disk; none where the profile's disks are not encrypted. */
  diskKeys(vm: Pick<VmSpecification, 'profile' | 'dataDiskBytes'>): Pick<Placement, 'rootKey' | 'dataKey'> {
    if (this.#options.isEncrypted?.(vm.profile) !== true) return {}
    return { rootKey: randomUUID(), ...(vm.dataDiskBytes !== undefined && { dataKey: randomUUID() }) }
  }

  #freeUid(vms: readonly VmRecord[]): number {
    const { first, count } = this.#options.vmUids
    const taken = new Set(vms.map((vm) => vm.placement.uid))
    for (let uid = first; uid < first + count; uid++) {
      if (!taken.has(uid)) return uid
    }
    throw new HostletError(
      'E_CAPACITY',
      `all ${count} users for VMs are taken. Raise vmUids.count in the agent's configuration, or use another host.`
    )
  }
}

/** Whether a definition is this very claim's, from before a crash. Each command has a generation of its own. */
export function isClaimOf(record: VmRecord, claim: Pick<Claim, 'specification' | 'generation'>): boolean {
  return record.specification.uuid === claim.specification.uuid && record.generation === claim.generation
}

export function taken(existing: VmRecord, wanted: { name: string; uuid: string }): HostletError {
  const same = existing.specification.uuid === wanted.uuid
  return new HostletError(
    'E_CONFLICT',
    same
      ? `VM ${wanted.name} exists on this host already (${existing.state}). Start it, or tear it down first.`
      : `another VM of the name ${wanted.name} exists on this host (${existing.specification.uuid}). Choose another name, or tear that one down first.`,
    { details: { vm: wanted.name, uuid: existing.specification.uuid } }
  )
}

/** User data may hold passwords, and libvirt keeps metadata in a file: the seed is the only place for it. */
function withoutSecrets(specification: VmSpecification): VmSpecification {
  const { seed, ...rest } = specification
  if (seed === undefined) return specification
  const { userData: _secret, ...kept } = seed
  return { ...rest, seed: kept }
}

function freeMac(uuid: string, taken: ReadonlySet<string>, wanted?: string): string {
  if (wanted !== undefined && !taken.has(wanted)) return wanted
  for (let attempt = 0; attempt < macAttemptsMax; attempt++) {
    const macAddress = macAddressOf(uuid, attempt)
    if (!taken.has(macAddress)) return macAddress
  }
  throw new HostletError('E_CAPACITY', `no MAC address is free for VM ${uuid}`)
}

function freeAddress(network: NetworkDefinition, taken: ReadonlySet<string>): string {
  const address = lowestFreeAddress(parseSubnet(network.subnet), taken)
  if (address !== undefined) return address
  throw new HostletError(
    'E_CAPACITY',
    `network ${network.name} has no free address left in ${network.subnet}; those of VMs that are gone come free when their DHCP lease ends, within the hour. Wait, or use another host.`
  )
}

/** Every MAC that a claim of this VM may have taken: for removing what is left when its definition is gone. */
export function possibleMacs(uuid: string): readonly string[] {
  return Array.from({ length: macAttemptsMax }, (_, attempt) => macAddressOf(uuid, attempt))
}
