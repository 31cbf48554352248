// Base chains of others that forwarded packets pass too: which of them drop what VMs need, which let all through. Pure.

import type { NftObject } from './nft-json.ts'

export interface ForeignForwardFault {
  /** `ip filter FORWARD`: family, table and chain. */
  readonly chain: string
  /** `drop` and `reject` cut VMs off; `accept` opens nothing that our rules close, and is told to be known. */
  readonly effect: 'drop' | 'reject' | 'accept'
  /** By its policy, or by a rule that matches everything. */
  readonly by: 'policy' | 'rule'
  readonly message: string
}

export interface OwnNetwork {
  readonly table: string
  readonly bridges: readonly string[]
}

interface Rule {
  readonly expr: readonly Readonly<Record<string, unknown>>[]
}

type Verdict = 'drop' | 'reject' | 'accept'

/** IPv6 of VMs is shut anyway. */
const familiesPassed: ReadonlySet<unknown> = new Set(['ip', 'inet', 'bridge'])
const depthMax = 16

/** From the objects of `nft -j list ruleset`. A chain that has a rule for one of our bridges knows of us and is left out. */
export function foreignForwardFaults(
  ruleset: readonly NftObject[],
  { table, bridges }: OwnNetwork
): ForeignForwardFault[] {
  const rules = Map.groupBy(
    ruleset.flatMap(({ rule }) => (rule ? [rule] : [])),
    (rule) => `${rule.family} ${rule.table} ${rule.chain}`
  )
  const rulesOf = (place: string) => (rules.get(place) ?? []) as unknown as readonly Rule[]
  return ruleset.flatMap(({ chain }) => {
    if (chain?.hook !== 'forward' || chain.table === table || !familiesPassed.has(chain.family)) return []
    const place = `${chain.family} ${chain.table}`
    const name = `${place} ${chain.name}`
    const own = rulesOf(name)
    if (own.some((rule) => namesOneOf(rule, bridges))) return []
    const verdict = sweeping({ place, rulesOf }, own, 0)
    const by = verdict === undefined ? 'policy' : 'rule'
    const effect = verdict ?? (chain.policy === 'drop' ? 'drop' : undefined)
    return effect === undefined
      ? []
      : [{ chain: name, effect, by, message: messageOf(name, effect, by, bridges) }]
  })
}

function messageOf(name: string, effect: Verdict, by: 'policy' | 'rule', bridges: readonly string[]): string {
  const how = by === 'policy' ? 'its policy' : 'a rule that matches everything'
  if (effect === 'accept')
    return `chain ${name} accepts all forwarding by ${how}. What hostlet's rules drop stays dropped.`
  const [bridge = 'the bridges of VMs'] = bridges
  return `chain ${name} ${effect}s forwarded packets by ${how}: VMs reach nothing. Have it accept packets from and to ${bridge}${bridges.length > 1 ? ' and the other bridges' : ''}, before that.`
}

interface Walk {
  readonly place: string
  rulesOf(place: string): readonly Rule[]
}

/** The verdict of the first rule that takes every packet, in the chain or in one that it always goes to. */
function sweeping(walk: Walk, rules: readonly Rule[], depth: number): Verdict | undefined {
  if (depth > depthMax) return undefined
  for (const { expr } of rules) {
    if (expr.some((each) => 'match' in each || 'xt' in each || 'vmap' in each || 'limit' in each)) continue
    const last = expr.at(-1) ?? {}
    for (const verdict of ['drop', 'reject', 'accept'] as const) if (verdict in last) return verdict
    const next = (last.jump ?? last.goto) as { target?: string } | undefined
    const found = next && sweeping(walk, walk.rulesOf(`${walk.place} ${next.target}`), depth + 1)
    if (found !== undefined || 'goto' in last) return found
    if ('return' in last) return undefined
  }
  return undefined
}

/** By its name, or by the beginning of names: `hl-*`. */
function namesOneOf({ expr }: Rule, bridges: readonly string[]): boolean {
  return expr.some((each) => {
    const { left, right } = (each.match ?? {}) as { left?: { meta?: { key?: string } }; right?: unknown }
    if (left?.meta?.key !== 'iifname' && left?.meta?.key !== 'oifname') return false
    const names = Array.isArray((right as { set?: unknown })?.set)
      ? (right as { set: unknown[] }).set
      : [right]
    return names.some((name) => bridges.some((bridge) => isNamed(bridge, name)))
  })
}

function isNamed(bridge: string, name: unknown): boolean {
  if (typeof name !== 'string') return false
  return name.endsWith('*') ? bridge.startsWith(name.slice(0, -1)) : bridge === name
}
