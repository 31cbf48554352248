// Keeps the network rules of the host's VMs in force: before a port comes up, when VMs come and go, when somebody else changes them.

import { asHostletError, type ErrorCode, HostletError } from '../../errors.ts'
import type { Clock } from '../../lib/clock.ts'
import { startDeadline } from '../../lib/deadline.ts'
import { KeyedLock } from '../../lib/keyed-lock.ts'
import type { Logger } from '../../lib/log.ts'
import type { PortMapping, VmNetwork, VmSpecification } from '../../protocol/vm.ts'
import type { DomainEvent, Hypervisor, Wait } from '../host/hypervisor.ts'
import { portName } from '../host/names.ts'
import type { Profile } from '../profiles.ts'
import { type RulesForeseen, rulesForeseen } from './foresee.ts'
import { bridgesOf, type FirewallSubject, type Inventory, inventoryOf, withCard } from './inventory.ts'
import { type Links, systemLinks } from './links.ts'
import { countsIn, digestOf, sizeOf } from './listing.ts'
import type { Nft } from './nft.ts'
import {
  checkMappings,
  hostListening,
  type ListeningPorts,
  type PortRange,
  requireFree
} from './port-mappings.ts'
import { bridgeNamesProbe, renderRemoval, renderRuleset } from './ruleset.ts'
import { type Count, type Counts, vmCounter } from './ruleset-parts.ts'
import { tighten } from './tighten.ts'

export interface FirewallSettings {
  /** Name of both tables. */
  readonly table: string
  /** What VMs may ask, already chosen. */
  readonly resolvers: readonly string[]
  readonly ports: PortRange
  /** How often rules are looked at without word of a change. */
  readonly checkIntervalMs: number
}

export interface FirewallOptions {
  readonly settings: FirewallSettings
  readonly profiles: Readonly<Record<string, Profile>>
  readonly hypervisor: Pick<
    Hypervisor,
    'addStartGate' | 'domainUses' | 'listVms' | 'onEvent' | 'onStatus' | 'status'
  >
  readonly nft: Nft
  readonly clock: Clock
  readonly log: Logger
  readonly links?: Links
  readonly listening?: ListeningPorts
}

const refreshMs = 60_000
/** The hypervisor does not answer: nothing is known of the rules by that, nor of its VMs. */
const wentAway: ReadonlySet<ErrorCode> = new Set(['E_UNAVAILABLE', 'E_INTERRUPTED', 'E_TIMEOUT'])
const lockName = 'rules'
/** Changes that come together are answered together. */
const settleMs = 20
/** After a failure. */
const retryMs = 1_000
/** Between two repairs: somebody who changes rules again and again is answered so often. */
const repairPauseMs = 250
/** What makes a VM's rules other ones, or takes them away. */
const tellingEvents: ReadonlySet<DomainEvent['kind']> = new Set(['defined', 'undefined', 'started'])

export class Firewall implements AsyncDisposable {
  readonly #options: FirewallOptions
  readonly #links: Links
  readonly #lock = new KeyedLock()
  readonly #stopping = new AbortController()
  readonly #stack = new AsyncDisposableStack()
  #work: Promise<void> = Promise.resolve()
  #waiting: 'check' | 'refresh' | undefined
  #bridgeNames: boolean | undefined
  /** VMs as last seen, for when rules are gone and the hypervisor is too. */
  #vms: readonly FirewallSubject[] | undefined
  #applied: { readonly digest: string; readonly wanted: string } | undefined
  #repairedAt = Number.NEGATIVE_INFINITY
  #fault: { readonly message: string; readonly since: number } | undefined
  #removed = false
  #told: string | undefined
  #retry: Disposable | undefined

  constructor(options: FirewallOptions) {
    this.#options = options
    this.#links = options.links ?? systemLinks
    this.#stack.use(options.hypervisor.addStartGate((vm, wait) => this.#admit(vm, wait)))
  }

  /** From now on follows VMs and whoever else changes rules. */
  begin(): void {
    const { hypervisor, nft, settings, clock } = this.#options
    this.#stack.use(hypervisor.onEvent(({ kind }) => tellingEvents.has(kind) && this.#soon('refresh')))
    this.#stack.use(hypervisor.onStatus(({ state }) => state === 'connected' && this.#soon('refresh')))
    if (hypervisor.status().state === 'connected') this.#soon('refresh')
    this.#stack.use(nft.watch(settings.table, () => this.#soon('check')))
    const again = () => {
      if (this.#stopping.signal.aborted) return
      this.#soon('check')
      timer = clock.timer(settings.checkIntervalMs, again)
    }
    let timer = clock.timer(settings.checkIntervalMs, again)
    this.#stack.defer(() => {
      timer[Symbol.dispose]()
      this.#retry?.[Symbol.dispose]()
    })
  }

  /** What is wrong with the rules now, and since when. */
  get fault(): { readonly message: string; readonly since: number } | undefined {
    return this.#fault
  }

  /** Throws E_BAD_REQUEST and E_CONFLICT for what this host does not give the VM, given the ones that it has. */
  async requireAllowed(specification: VmSpecification, vms: readonly FirewallSubject[]): Promise<void> {
    const { hypervisor, profiles, settings, listening = hostListening } = this.#options
    const profile = Object.hasOwn(profiles, specification.profile)
      ? profiles[specification.profile]
      : undefined
    if (profile !== undefined) tighten(profile, specification.network)
    checkMappings(specification, settings.ports)
    const foreign = () => hypervisor.domainUses({ signal: AbortSignal.timeout(refreshMs) }, 'foreign')
    await requireFree(specification, withCard(vms), { listening, foreign })
  }

  /**
   * A specification from elsewhere as this host can give it: of a backup, under another profile perhaps, beside the VM that
   * was backed up. What the profile does not allow is as the profile says; ports that others have are left out.
   */
  async fitted(specification: VmSpecification, vms: readonly FirewallSubject[]): Promise<VmSpecification> {
    const { network } = specification
    if (network === undefined) return specification
    const allows = async (part: VmNetwork) => {
      try {
        await this.requireAllowed({ ...specification, network: part }, vms)
        return true
      } catch (error) {
        const { code } = asHostletError(error)
        if (code === 'E_BAD_REQUEST' || code === 'E_CONFLICT') return false
        throw error
      }
    }
    const fitting: VmNetwork = {}
    for (const key of Object.keys(network) as (keyof VmNetwork)[])
      if (key !== 'ports' && (await allows({ [key]: network[key] })))
        Object.assign(fitting, { [key]: network[key] })
    const ports: PortMapping[] = []
    for (const mapping of network.ports ?? []) if (await allows({ ports: [mapping] })) ports.push(mapping)
    const { network: _asked, ...rest } = specification
    return { ...rest, network: { ...fitting, ...(ports.length > 0 && { ports }) } }
  }

  /**
   * What the rules would say besides, and no more, if the VM of that UUID were as given, or gone. Applies nothing. Throws
   * E_UNAVAILABLE.
   */
  async foresee(uuid: string, vm: FirewallSubject | undefined, wait: Wait): Promise<RulesForeseen> {
    const before = await this.#options.hypervisor.listVms(wait)
    const others = before.filter(({ specification }) => specification.uuid !== uuid)
    const after = vm === undefined ? others : [...others, vm]
    return rulesForeseen(
      await this.#inventoryOf(before, wait),
      await this.#inventoryOf(after, wait),
      portName(uuid)
    )
  }

  /** Renders the rules anew and applies them. Throws E_UNAVAILABLE. */
  async refresh(wait: Wait): Promise<void> {
    await using _held = await this.#lock.acquire(lockName, wait.signal)
    await this.#apply(await this.#options.hypervisor.listVms(wait), wait)
  }

  /** What was dropped of a VM, and to it, since its rules were made. */
  async drops(vm: { readonly uuid: string }, wait: Wait): Promise<Count> {
    const counts = countsIn(await this.#options.nft.read(this.#options.settings.table, wait))
    const name = vmCounter(portName(vm.uuid))
    return [...counts]
      .filter(([key]) => key.endsWith(` ${name}`))
      .reduce((sum, [, each]) => plus(sum, each), { packets: 0, bytes: 0 })
  }

  /** Takes the rules away for good: nothing is applied after it. For a host that gives its VMs up, and for tests. */
  async remove(wait: Wait): Promise<void> {
    await using _held = await this.#lock.acquire(lockName, wait.signal)
    this.#removed = true
    this.#applied = undefined
    await this.#options.nft.apply(renderRemoval(this.#options.settings.table), wait)
  }

  /** Rules stay in force. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new HostletError('E_CANCELLED', 'the agent is stopping'))
    await this.#stack.disposeAsync()
    await this.#work
  }

  /** Before a VM starts. What is thrown here keeps it off. */
  async #admit(vm: FirewallSubject, wait: Wait): Promise<void> {
    if (withCard([vm]).length === 0) return
    const { name, uuid } = vm.specification
    await using _held = await this.#lock.acquire(lockName, wait.signal)
    const others = (await this.#options.hypervisor.listVms(wait)).filter(
      ({ specification }) => specification.uuid !== uuid
    )
    try {
      await this.#apply([...others, vm], wait)
    } catch (error) {
      wait.signal.throwIfAborted()
      const { message } = asHostletError(error)
      throw new HostletError(
        'E_UNAVAILABLE',
        `VM ${name} is not started, since its network rules are not in force: ${message}`,
        { cause: error, details: { vm: name } }
      )
    }
  }

  /** Work of the same kind that waits already will do. */
  #soon(what: 'check' | 'refresh'): void {
    const before = this.#waiting
    this.#waiting = before === 'refresh' ? before : what
    if (before === undefined) this.#work = this.#work.then(() => this.#doSoon())
  }

  async #doSoon(): Promise<void> {
    const { clock, log } = this.#options
    const { signal: outer } = this.#stopping
    await clock.sleep(settleMs, outer).catch(() => undefined)
    const what = this.#waiting
    this.#waiting = undefined
    if (outer.aborted || this.#removed) return
    using deadline = startDeadline({ clock, ms: refreshMs, what: 'the network rules', signal: outer })
    try {
      if (what === 'refresh') await this.#followVms(deadline)
      else await this.#check(deadline)
      if (clock.monotonic() - this.#repairedAt < repairPauseMs) await clock.sleep(repairPauseMs, outer)
    } catch (error) {
      if (outer.aborted) return
      const { message } = asHostletError(error)
      if (this.#told !== message) log.error({ reason: message }, 'network rules are not in force')
      this.#told = message
      this.#noteFault(message)
      this.#retry = clock.timer(retryMs, () => this.#soon('refresh'))
    }
  }

  /** A hypervisor that is away is waited for: its VMs are as they were. */
  async #followVms(wait: Wait): Promise<void> {
    const vms = await this.#seen(wait)
    if (vms === undefined) return await this.#check(wait)
    await using _held = await this.#lock.acquire(lockName, wait.signal)
    await this.#apply(vms, wait)
  }

  /** Undefined while the hypervisor is away, or goes away just now: what it knows will be asked again. */
  async #seen(wait: Wait): Promise<readonly FirewallSubject[] | undefined> {
    const { hypervisor, clock } = this.#options
    if (hypervisor.status().state !== 'connected') return undefined
    try {
      return await hypervisor.listVms(wait)
    } catch (error) {
      if (wait.signal.aborted || !wentAway.has(asHostletError(error).code)) throw error
      this.#retry = clock.timer(retryMs, () => this.#soon('refresh'))
      return undefined
    }
  }

  async #check(wait: Wait): Promise<void> {
    await using _held = await this.#lock.acquire(lockName, wait.signal)
    // Nothing was ever applied here: the hypervisor's coming will have it done.
    if (this.#vms !== undefined) await this.#apply(this.#vms, wait)
  }

  /** With the lock held. Does nothing where everything is as it should be. */
  async #apply(vms: readonly FirewallSubject[], wait: Wait): Promise<void> {
    const { nft, settings, clock, log } = this.#options
    if (this.#removed) throw new HostletError('E_UNAVAILABLE', 'the network rules have been taken away')
    const startedAt = clock.monotonic()
    try {
      const before = await nft.read(settings.table, wait)
      const isForeign = this.#applied !== undefined && this.#applied.digest !== digestOf(before)
      if (isForeign) this.#noteFault('the network rules were changed by somebody else')
      this.#vms = vms
      const inventory = await this.#inventoryOf(vms, wait)
      const wanted = JSON.stringify(inventory)
      // Off VMs have their rules too: after a host boot one ruleset serves all starts.
      if (!isForeign && this.#applied?.wanted === wanted) return this.#clearFault()
      await this.#replace(inventory, countsIn(before), wait)
      this.#clearFault()
      if (!isForeign) return
      const tookMs = Math.round(clock.monotonic() - startedAt)
      log.warn(
        { table: settings.table, tookMs },
        'network rules were changed by somebody else and stand again'
      )
      this.#repairedAt = clock.monotonic()
    } catch (error) {
      if (!wait.signal.aborted) this.#noteFault(asHostletError(error).message)
      throw error
    }
  }

  async #replace(inventory: Inventory, counts: Counts, wait: Wait): Promise<void> {
    const { nft, settings } = this.#options
    const commands = renderRuleset(inventory, counts)
    await nft.apply(commands, wait)
    const there = await nft.read(settings.table, wait)
    const given = commands.flatMap((command) => ('add' in command ? [command.add] : []))
    // What the next looks are compared with must be what was given.
    if (sizeOf(there) !== sizeOf(given)) throw overtaken()
    this.#applied = { digest: digestOf(there), wanted: JSON.stringify(inventory) }
  }

  async #inventoryOf(vms: readonly FirewallSubject[], wait: Wait): Promise<Inventory> {
    const { nft, profiles, settings } = this.#options
    const { table, resolvers } = settings
    this.#bridgeNames ??= await nft.check(bridgeNamesProbe(`${table}-probe`), wait)
    const bridges = bridgesOf(vms, profiles)
    const ports = (await Promise.all(bridges.map((bridge) => this.#links.portsOf(bridge)))).flat()
    return inventoryOf(vms, ports, { table, profiles, resolvers, bridgeNames: this.#bridgeNames })
  }

  #noteFault(message: string): void {
    this.#fault = { message, since: this.#fault?.since ?? this.#options.clock.now() }
  }

  #clearFault(): void {
    this.#fault = undefined
    this.#told = undefined
  }
}

function overtaken(): HostletError {
  return new HostletError(
    'E_UNAVAILABLE',
    'the network rules were changed by somebody else as they were applied. Look at "nft monitor" for who it is.'
  )
}

function plus(left: Count, right: Count): Count {
  return { packets: left.packets + right.packets, bytes: left.bytes + right.bytes }
}
