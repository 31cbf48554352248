// Gives a new VM its user, address, MAC and volume names, and claims them all at once by defining its domain.

import { randomUUID } from 'node:crypto'
import { HostletError } from '../../errors.ts'
import { KeyedLock } from '../../lib/keyed-lock.ts'
import type { VmSpecification } from '../../protocol/vm.ts'
import type { Profile } from '../profiles.ts'
import type { Resources } from '../resources/resources.ts'
import type { Hypervisor, Placement, VmRecord, Wait } from './hypervisor.ts'
import { dataVolumeName, isOwnNetworkOf, macAddressOf, ownNetworkNames, rootVolumeName } from './names.ts'
import type { NetworkDefinition } from './network-xml.ts'
import { untilText } from './retained.ts'
import { lowestFreeAddress, lowestFreeSubnet, parseSubnet } from './subnet.ts'

export interface PlacementOptions {
  readonly hypervisor: Pick<
    Hypervisor,
    | 'listVms'
    | 'listReservations'
    | 'listLeases'
    | 'listNetworks'
    | 'define'
    | 'findVm'
    | 'ensureNetwork'
    | 'domainUses'
  >
  readonly profiles: Readonly<Record<string, Profile>>
  /** What VMs may ask for names. */
  readonly resolvers: readonly string[]
  /** Throws for what the host does not give to a VM, given those that it has. */
  readonly admit?: (specification: VmSpecification, vms: readonly VmRecord[]) => Promise<void>
  readonly vmUids: { readonly first: number; readonly count: number }
  /** Whether the disks of a profile's VMs are encrypted. */
  readonly isEncrypted?: (profile: string) => boolean
  /** Without it nothing of the host is shared out, and a VM gets what is usual. */
  readonly resources?: Pick<Resources, 'exclusively' | 'allot' | 'makeRoom'>
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

  /** Throws E_BAD_REQUEST when the host's configuration has no profile of that name. */
  profile(name: string): Profile {
    const found = Object.hasOwn(this.#options.profiles, name) ? this.#options.profiles[name] : undefined
    if (found !== undefined) return found
    const known = Object.keys(this.#options.profiles).join(', ')
    throw new HostletError(
      'E_BAD_REQUEST',
      `profile ${name} is not configured on this host. It has: ${known}.`
    )
  }

  /** The network that a VM was placed on. Throws E_BAD_REQUEST, and E_CONFLICT when its profile has another one by now. */
  networkOf({ specification, placement }: Pick<VmRecord, 'specification' | 'placement'>): NetworkDefinition {
    const profile = this.profile(specification.profile)
    const { network: name, ownNetwork } = placement
    if (ownNetwork !== undefined) {
      const dns = specification.network?.dns !== false
      return { name, ...ownNetwork, ...(dns && this.#resolversOf(profile)) }
    }
    if (profile.ownBridge || profile.network !== name) {
      throw new HostletError(
        'E_CONFLICT',
        `VM ${specification.name} was placed on network ${name}, and profile ${specification.profile} has another one by now. Give the profile that network again, or make the VM anew from a backup.`,
        { details: { vm: specification.name, network: name } }
      )
    }
    return this.#shared(profile)
  }

  /** Networks that VMs share. */
  get networkNames(): readonly string[] {
    return Object.values(this.#options.profiles)
      .filter(({ ownBridge }) => !ownBridge)
      .map(({ network }) => network)
  }

  /** Whether a network's name is that of one that some VM has, or had, to itself. */
  isOwnNetwork(name: string): boolean {
    return Object.values(this.#options.profiles).some(
      (profile) => profile.ownBridge && isOwnNetworkOf(profile, name)
    )
  }

  /** Names that a VM's own network may have, by each profile that gives one. */
  ownNetworksOf(uuid: string): readonly string[] {
    return Object.values(this.#options.profiles)
      .filter(({ ownBridge }) => ownBridge)
      .map((profile) => ownNetworkNames(profile, uuid).name)
  }

  /**
   * Defines the VM, off, with a placement of its own. The definition is the claim: it is durable, it is made in one
   * step, and from it alone everything else of a half-made VM can be found and removed. Safe to repeat with the same
   * generation. Throws E_CONFLICT and E_CAPACITY.
   */
  async claim(claim: Claim, wait: Wait): Promise<Placement> {
    const { resources } = this.#options
    await using _held = await this.#lock.acquire(oneAtATime, wait.signal)
    if (resources === undefined) return await this.#claim(claim, wait)
    return await resources.exclusively(wait, async () => {
      const placement = await this.#claim(claim, wait)
      if (placement.resources?.pinned !== undefined) await resources.makeRoom(wait)
      return placement
    })
  }

  async #claim(claim: Claim, wait: Wait): Promise<Placement> {
    const { specification, generation, seedPath } = claim
    const existing = await this.#options.hypervisor.findVm(specification.name, wait)
    if (existing !== undefined && isClaimOf(existing, claim)) return existing.placement
    if (existing !== undefined) throw taken(existing, specification)
    const { rootStandsAlone, trial } = claim
    if (!trial) await this.#options.admit?.(specification, await this.#options.hypervisor.listVms(wait))
    const placement = {
      ...(await this.#place(claim, wait)),
      ...(rootStandsAlone && { rootStandsAlone }),
      ...(trial && { trial })
    }
    const definition = { specification: withoutSecrets(specification), placement, generation, seedPath }
    await this.#options.hypervisor.define({ ...definition, wanted: 'stopped' }, wait)
    return placement
  }

  /** What a claim would get now. Gives nothing out and makes nothing. Throws as `claim` does. */
  async foresee(specification: VmSpecification, wait: Wait): Promise<Placement> {
    const { hypervisor, admit } = this.#options
    await admit?.(specification, await hypervisor.listVms(wait))
    const placement = await this.#place({ specification, generation: 0, seedPath: null }, wait, {
      only: 'look'
    })
    return { ...placement, ...unknownKeys(placement) }
  }

  async #place(
    { specification, macAddress, trial }: Claim,
    wait: Wait,
    { only }: { only?: 'look' } = {}
  ): Promise<Placement> {
    const { hypervisor, resources } = this.#options
    const vms = await hypervisor.listVms(wait)
    // What domains have that are not ours, those above all that were once: it stays theirs.
    const foreign = await hypervisor.domainUses(wait, 'foreign')
    const { network, ownNetwork } = await this.#network(specification, vms, wait)
    // A machine without a network card needs no network of its own either.
    const isMade = !(trial && ownNetwork !== undefined)
    if (isMade && only === undefined) await hypervisor.ensureNetwork(network, wait)
    const isThere = only === undefined || (await this.#isThere(network.name, wait))
    const [reservations, leases] =
      isMade && isThere
        ? await Promise.all([
            hypervisor.listReservations(network.name, wait),
            hypervisor.listLeases(network.name, wait)
          ])
        : [[], []]
    const vm = { specification, placement: { ...(trial && { trial }) } }
    const macs = [
      ...[...vms.map((vm) => vm.placement), ...reservations].map((each) => each.macAddress),
      ...foreign.flatMap(({ macAddresses }) => macAddresses)
    ]
    // A lease outlives its VM by up to an hour, and dnsmasq gives no address to one MAC that is leased to another.
    const addresses = [
      ...[...vms.map((vm) => vm.placement), ...reservations, ...leases].map(({ address }) => address),
      ...foreign.flatMap((each) => each.addresses)
    ]
    return {
      uid: this.#freeUid([
        ...vms.map(({ placement: { uid } }) => uid),
        ...foreign.flatMap(({ uids }) => uids)
      ]),
      macAddress: freeMac(specification.uuid, new Set(macs), macAddress),
      address: freeAddress(network, new Set(addresses)),
      network: network.name,
      ...(ownNetwork && { ownNetwork }),
      rootVolume: rootVolumeName(specification),
      dataVolume: specification.dataDiskBytes === undefined ? null : dataVolumeName(specification),
      ...this.diskKeys(specification),
      ...(resources && { resources: await resources.allot(vm, vms) })
    }
  }

  /** Names of new keys, one a disk; none where the profile's disks are not encrypted. */
  diskKeys(vm: Pick<VmSpecification, 'profile' | 'dataDiskBytes'>): Pick<Placement, 'rootKey' | 'dataKey'> {
    if (this.#options.isEncrypted?.(vm.profile) !== true) return {}
    return { rootKey: randomUUID(), ...(vm.dataDiskBytes !== undefined && { dataKey: randomUUID() }) }
  }

  /** The profile's, or one to itself out of the profile's subnet. */
  async #network(specification: VmSpecification, vms: readonly VmRecord[], wait: Wait) {
    const profile = this.profile(specification.profile)
    if (!profile.ownBridge) return { network: this.#shared(profile), ownNetwork: undefined }
    const { name, bridge } = ownNetworkNames(profile, specification.uuid)
    const networks = await this.#options.hypervisor.listNetworks(wait)
    // Of a claim of this VM that was cut short.
    const halfMade = networks.find((each) => each.name === name && each.bridge === bridge)
    const taken = [
      ...vms.flatMap(({ placement }) => placement.ownNetwork?.subnet ?? []),
      ...networks.map(({ subnet }) => subnet)
    ]
    const subnet = halfMade?.subnet ?? lowestFreeSubnet(profile.subnet, taken)
    if (subnet === undefined) {
      throw new HostletError(
        'E_CAPACITY',
        `profile ${specification.profile} has no network left for a VM in ${profile.subnet}. Give it a larger subnet, or use another host.`
      )
    }
    const dns = specification.network?.dns !== false
    const network = { name, bridge, subnet, ...(dns && this.#resolversOf(profile)) }
    return { network, ownNetwork: { bridge, subnet } }
  }

  async #isThere(network: string, wait: Wait): Promise<boolean> {
    return (await this.#options.hypervisor.listNetworks(wait)).some(({ name }) => name === network)
  }

  #shared(profile: Profile): NetworkDefinition {
    const { network: name, bridge, subnet } = profile
    return { name, bridge, subnet, ...this.#resolversOf(profile) }
  }

  #resolversOf({ dns }: Profile): Pick<NetworkDefinition, 'resolvers'> {
    return dns ? { resolvers: this.#options.resolvers } : {}
  }

  #freeUid(held: readonly number[]): number {
    const { first, count } = this.#options.vmUids
    const taken = new Set(held)
    for (let uid = first; uid < first + count; uid++) {
      if (!taken.has(uid)) return uid
    }
    throw new HostletError(
      'E_CAPACITY',
      `all ${count} users for VMs are taken. Raise vmUids.count in the agent's configuration, or use another host.`
    )
  }
}

/** Ids of keys are drawn when a disk is made. */
export const unknownKey = '00000000-0000-0000-0000-000000000000'

export function unknownKeys({ rootKey, dataKey }: Pick<Placement, 'rootKey' | 'dataKey'>) {
  return {
    ...(rootKey !== undefined && { rootKey: unknownKey }),
    ...(dataKey !== undefined && { dataKey: unknownKey })
  }
}

/** Whether a definition is this very claim's, from before a crash. Each command has a generation of its own. */
export function isClaimOf(record: VmRecord, claim: Pick<Claim, 'specification' | 'generation'>): boolean {
  return record.specification.uuid === claim.specification.uuid && record.generation === claim.generation
}

export function taken(existing: VmRecord, wanted: { name: string; uuid: string }): HostletError {
  if (existing.retained !== undefined)
    return new HostletError(
      'E_CONFLICT',
      `VM ${wanted.name} on this host was torn down and is kept ${untilText(existing.retained)}. Have it back with "hostlet vm undelete ${wanted.name}", erase it now with "hostlet vm rm ${wanted.name}", or choose another name.`,
      { details: { vm: wanted.name, uuid: existing.specification.uuid } }
    )
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
export function withoutSecrets(specification: VmSpecification): VmSpecification {
  const { seed, ...rest } = specification
  if (seed === undefined) return specification
  const { userData, hardened, ...kept } = seed
  // By itself the rest would read as that of a VM without user data, which is hardened unless it says otherwise.
  const told = userData === undefined ? hardened : hardened === true
  return { ...rest, seed: { ...kept, ...(told !== undefined && { hardened: told }) } }
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
