// What the tables of a ruleset are put together from: chains, sets, maps, counters, and the chain that every drop of a reason ends in.

import {
  counter,
  drop,
  type Family,
  type NftCommand,
  type NftExpression,
  type NftStatement
} from './nft-json.ts'

/** Why a packet is dropped: in the log as `hostlet-drop <reason> `, and a counter each. */
export const dropReasons = [
  'mac',
  'address',
  'arp',
  'ethertype',
  'multicast',
  'dhcp',
  'rate',
  'neighbour',
  'delivery',
  'port',
  'host',
  'ipv6',
  'invalid',
  'source',
  'dns',
  'private',
  'mail',
  'egress',
  'unasked'
] as const
export type DropReason = (typeof dropReasons)[number]

/** What a host or a busy VM causes in the ordinary course of things: counted, not logged. */
const silentReasons: ReadonlySet<DropReason> = new Set(['rate', 'delivery', 'multicast'])
/** Lines of the kernel's log for each reason and table. */
const logLines = { rate: 2, per: 'second', burst: 10 } as const

export const logPrefix = 'hostlet-drop'

export interface Count {
  readonly packets: number
  readonly bytes: number
}
/** By family and name of the counter: `inet drop-host`. */
export type Counts = ReadonlyMap<string, Count>

export class TableBuilder {
  readonly family: Family
  readonly #table: string
  readonly #counts: Counts
  readonly #objects: NftCommand[] = []
  readonly #rules: NftCommand[] = []
  readonly #chains = new Set<string>()
  readonly #keys = new Set<string>()
  readonly #elements = new Map<string, NftExpression[]>()

  constructor(options: { family: Family; table: string; counts: Counts }) {
    this.family = options.family
    this.#table = options.table
    this.#counts = options.counts
  }

  /** Everything of the table; what was there of its name goes in the same transaction. */
  commands(): NftCommand[] {
    const table = { table: { family: this.family, name: this.#table } }
    const elements = [...this.#elements].map(([name, elem]) => this.#add('element', { name, elem }))
    return [
      // Deleting takes a table that is there.
      { add: table },
      { delete: table },
      { add: table },
      ...this.#objects,
      ...elements,
      ...this.#rules
    ]
  }

  counter(name: string): void {
    const { packets, bytes } = this.#counts.get(`${this.family} ${name}`) ?? { packets: 0, bytes: 0 }
    this.#objects.push(this.#add('counter', { name, packets, bytes }))
  }

  set(
    name: string,
    type: string | readonly string[],
    values: readonly NftExpression[],
    options: { interval?: true } = {}
  ): void {
    const interval = options.interval ? { flags: ['interval'], 'auto-merge': true } : {}
    this.#objects.push(this.#add('set', { name, type, ...interval }))
    if (values.length > 0) this.#elements.set(name, [...values])
  }

  /** A map to verdicts. */
  map(name: string, type: string | readonly string[]): void {
    this.#objects.push(this.#add('map', { name, type, map: 'verdict' }))
  }

  /** A key that is there stays as it is: two VMs of one address must not keep the whole ruleset from being applied. */
  entry(map: string, key: NftExpression, verdict: NftStatement): void {
    const name = `${map} ${JSON.stringify(key)}`
    if (this.#keys.has(name)) return
    this.#keys.add(name)
    const elements = this.#elements.get(map) ?? []
    elements.push([key, verdict])
    this.#elements.set(map, elements)
  }

  /** Policy accept, always: a chain of drops ends in one. Another policy would hold for a moment without its rules. */
  hook(name: string, hook: { type: 'filter' | 'nat'; hook: string; prio: number }): void {
    this.#chains.add(name)
    this.#objects.push(this.#add('chain', { name, ...hook, policy: 'accept' }))
  }

  chain(name: string): void {
    this.#chains.add(name)
    this.#objects.push(this.#add('chain', { name }))
  }

  rule(chain: string, ...statements: readonly NftStatement[]): void {
    if (!this.#chains.has(chain)) throw new Error(`chain ${chain} is not declared`)
    this.#rules.push(this.#add('rule', { chain, expr: statements }))
  }

  /** A chain for each reason, which logs, counts and drops. */
  dropChains(reasons: readonly DropReason[]): void {
    for (const reason of reasons) {
      const name = dropChain(reason)
      this.counter(name)
      this.chain(name)
      if (!silentReasons.has(reason))
        this.rule(name, { limit: logLines }, { log: { prefix: `${logPrefix} ${reason} ` } })
      this.rule(name, counter(name), drop)
    }
  }

  #add(kind: string, fields: Readonly<Record<string, unknown>>): NftCommand {
    return { add: { [kind]: { family: this.family, table: this.#table, ...fields } } }
  }
}

export function dropChain(reason: DropReason): string {
  return `drop-${reason}`
}

/** Counter of what is dropped of a VM. */
export function vmCounter(port: string): string {
  return `vm-${port}`
}
