// Profiles' networks in libvirt, with their DHCP reservations and leases.

import {
  type Connection,
  connectListAllNetworks,
  errorCode,
  type Network,
  networkCreate,
  networkDefineXml,
  networkDestroy,
  networkGetDhcpLeases,
  networkGetXmlDesc,
  networkIsActive,
  networkLookupByName,
  networkUndefine,
  networkUpdate,
  networkUpdateCommand,
  networkUpdateFlag,
  networkUpdateSection,
  networkXmlFlag
} from 'node-libvirt'
import { HostletError } from '../../errors.ts'
import { KeyedLock } from '../../lib/keyed-lock.ts'
import type { ConnectionRole } from './connections.ts'
import type { GrantedLease, Lease, Wait } from './hypervisor.ts'
import { attempt, fromLibvirt, isAnswer, orAbsent } from './libvirt-errors.ts'
import {
  definitionIn,
  hasOptions,
  type NetworkDefinition,
  networkXml,
  replaced,
  requireSameNetwork,
  reservationsIn,
  reservationXml
} from './network-xml.ts'

const quickMs = 10_000
/** libvirt starts a dnsmasq and waits for it. */
const startMs = 60_000
const ipv4 = 0
const anyParent = -1

export class Networks {
  readonly #connection: (role: ConnectionRole) => Connection
  /** libvirt's own check and change of a reservation are not one step. */
  readonly #changes = new KeyedLock()

  constructor(options: { connection: (role: ConnectionRole) => Connection }) {
    this.#connection = options.connection
  }

  async ensure(definition: NetworkDefinition, wait: Wait): Promise<void> {
    await using _held = await this.#changes.acquire(definition.name, wait.signal)
    const doing = `prepare network ${definition.name}`
    const found = await this.#lookup(definition.name, wait)
    if (found === undefined) return await this.#make(definition, doing, wait)
    const xml = await this.#xml(found, wait)
    requireSameNetwork(xml, definition)
    // Its DHCP says what it should once the network is started anew, with the host: VMs that run are not cut off for it.
    if (!hasOptions(xml, definition)) {
      const args = { xml: networkXml(definition, replaced(xml)) }
      await attempt(doing, () => this.#control.call(networkDefineXml, args, quick(wait)))
    }
    const { active } = await attempt(doing, () =>
      this.#control.call(networkIsActive, { network: found }, quick(wait))
    )
    if (!active) await attempt(doing, () => this.#start(found, wait))
  }

  /** Starts a network that is defined and does not run. Throws E_NOT_FOUND. */
  async activate(name: string, wait: Wait): Promise<void> {
    await using _held = await this.#changes.acquire(name, wait.signal)
    const network = await this.#require(name, wait)
    await attempt(`start network ${name}`, async () => {
      const { active } = await this.#control.call(networkIsActive, { network }, quick(wait))
      if (!active) await this.#start(network, wait)
    })
  }

  /** No effect when there is none. */
  async remove(name: string, wait: Wait): Promise<void> {
    await using _held = await this.#changes.acquire(name, wait.signal)
    const network = await this.#lookup(name, wait)
    if (network === undefined) return
    const doing = `remove network ${name}`
    await attempt(doing, () =>
      this.#control.call(networkDestroy, { network }, quick(wait)).catch((error) => {
        // It does not run.
        if (!isAnswer(error, errorCode.operationInvalid)) throw error
      })
    )
    await orAbsent(errorCode.noNetwork, doing, () =>
      this.#control.call(networkUndefine, { network }, quick(wait))
    )
  }

  /** Networks that could be ours: with a bridge and an IPv4 address of the host on it. */
  async list(wait: Wait): Promise<readonly NetworkDefinition[]> {
    const { networks } = await attempt('list networks', () =>
      this.#control.call(connectListAllNetworks, { needResults: true, flags: 0 }, quick(wait))
    )
    const found = await Promise.all(
      networks.map((network) =>
        orAbsent(errorCode.noNetwork, `look at network ${network.name}`, () =>
          this.#control.call(networkGetXmlDesc, { network, flags: networkXmlFlag.inactive }, quick(wait))
        )
      )
    )
    return found
      .map((each) => each && definitionIn(each.xml))
      .filter((definition) => definition !== undefined)
  }

  async listReservations(name: string, wait: Wait): Promise<readonly Lease[]> {
    const { config, live } = await this.#reservations(await this.#require(name, wait), wait)
    return [...config, ...live.filter((lease) => !config.some((other) => isSame(lease, other)))]
  }

  async addReservation(name: string, reservation: Lease & { vm: string }, wait: Wait): Promise<void> {
    await using _held = await this.#changes.acquire(name, wait.signal)
    const network = await this.#require(name, wait)
    const { macAddress, address } = reservation
    const { config, live, isActive } = await this.#reservations(network, wait)
    const other = [...config, ...live].find(
      (lease) => !isSame(lease, reservation) && (lease.macAddress === macAddress || lease.address === address)
    )
    if (other !== undefined) {
      throw new HostletError(
        'E_CONFLICT',
        `network ${name} has a reservation of ${other.address} for ${other.macAddress} already`
      )
    }
    const lacks = (leases: readonly Lease[]) => !leases.some((lease) => isSame(lease, reservation))
    const flags = flagsOf({ config: lacks(config), live: isActive && lacks(live) })
    const xml = reservationXml(reservation)
    await this.#change(network, { command: networkUpdateCommand.addLast, xml, flags }, wait)
  }

  async removeReservation(name: string, macAddress: string, wait: Wait): Promise<void> {
    await using _held = await this.#changes.acquire(name, wait.signal)
    const network = await this.#lookup(name, wait)
    if (network === undefined) return
    const { config, live } = await this.#reservations(network, wait)
    const found = [...config, ...live].filter((lease) => lease.macAddress === macAddress)
    for (const address of new Set(found.map((lease) => lease.address))) {
      const has = (leases: readonly Lease[]) => leases.some((lease) => isSame(lease, { macAddress, address }))
      const flags = flagsOf({ config: has(config), live: has(live) })
      const xml = reservationXml({ macAddress, address })
      await this.#change(network, { command: networkUpdateCommand.delete, xml, flags }, wait)
    }
  }

  async listLeases(name: string, wait: Wait): Promise<readonly GrantedLease[]> {
    const network = await this.#require(name, wait)
    const args = { network, mac: null, needResults: true, flags: 0 }
    const { leases } = await attempt(`list leases of network ${name}`, () =>
      this.#control.call(networkGetDhcpLeases, args, quick(wait))
    )
    return leases.flatMap(({ mac, address, type, expiry }) => {
      if (type !== ipv4 || mac === null) return []
      const lease = { macAddress: mac.toLowerCase(), address }
      // 0 for one that never ends.
      return [Number(expiry) > 0 ? { ...lease, expiresAt: Number(expiry) * 1_000 } : lease]
    })
  }

  get #control(): Connection {
    return this.#connection('control')
  }

  /** A network that was defined and does not start would block its name: it is taken back. */
  async #make(definition: NetworkDefinition, doing: string, wait: Wait): Promise<void> {
    const args = { xml: networkXml(definition) }
    const { network } = await attempt(doing, () => this.#control.call(networkDefineXml, args, quick(wait)))
    try {
      await this.#start(network, wait)
    } catch (error) {
      const options = { signal: AbortSignal.timeout(quickMs), deadlineMs: quickMs }
      await this.#control.call(networkUndefine, { network }, options).catch(() => undefined)
      throw fromLibvirt(error, doing)
    }
  }

  async #start(network: Network, wait: Wait): Promise<void> {
    const options = { ...wait, deadlineMs: startMs }
    await this.#connection('jobs')
      .call(networkCreate, { network }, options)
      .catch((error) => {
        // Somebody else started it meanwhile.
        if (!isAnswer(error, errorCode.operationInvalid)) throw error
      })
  }

  async #change(
    network: Network,
    { command, xml, flags }: { command: number; xml: string; flags: number },
    wait: Wait
  ): Promise<void> {
    if (flags === 0) return
    const section = networkUpdateSection.ipDhcpHost
    const args = { network, command, section, parentIndex: anyParent, xml, flags }
    await attempt(`change the reservations of network ${network.name}`, () =>
      this.#connection('jobs').call(networkUpdate, args, { ...wait, deadlineMs: startMs })
    )
  }

  /**
   * In the definition, so that they outlive a host boot, and in the network that runs. A libvirtd that was killed in between
   * has changed one of the two, and refuses to change both alike after that.
   */
  async #reservations(network: Network, wait: Wait): Promise<Reservations> {
    const config = reservationsIn(await this.#xml(network, wait)).map(leaseOf)
    const doing = `look at network ${network.name}`
    return await attempt(doing, async () => {
      const { active } = await this.#control.call(networkIsActive, { network }, quick(wait))
      if (!active) return { config, live: [], isActive: false }
      const { xml } = await this.#control.call(networkGetXmlDesc, { network, flags: 0 }, quick(wait))
      return { config, live: reservationsIn(xml).map(leaseOf), isActive: true }
    })
  }

  async #xml(network: Network, wait: Wait): Promise<string> {
    const args = { network, flags: networkXmlFlag.inactive }
    const doing = `look at network ${network.name}`
    return (await attempt(doing, () => this.#control.call(networkGetXmlDesc, args, quick(wait)))).xml
  }

  async #require(name: string, wait: Wait): Promise<Network> {
    const network = await this.#lookup(name, wait)
    if (network === undefined)
      throw new HostletError('E_NOT_FOUND', `network ${name} does not exist on this host`)
    return network
  }

  async #lookup(name: string, wait: Wait): Promise<Network | undefined> {
    const found = await orAbsent(errorCode.noNetwork, `find network ${name}`, () =>
      this.#control.call(networkLookupByName, { name }, quick(wait))
    )
    return found?.network
  }
}

interface Reservations {
  readonly config: readonly Lease[]
  /** None while the network does not run. */
  readonly live: readonly Lease[]
  readonly isActive: boolean
}

function leaseOf({ macAddress, address }: Lease): Lease {
  return { macAddress, address }
}

function isSame(one: Lease, other: Lease): boolean {
  return one.macAddress === other.macAddress && one.address === other.address
}

function flagsOf({ config, live }: { config: boolean; live: boolean }): number {
  return (config ? networkUpdateFlag.config : 0) | (live ? networkUpdateFlag.live : 0)
}

function quick(wait: Wait): Wait & { deadlineMs: number } {
  return { signal: wait.signal, deadlineMs: quickMs }
}
