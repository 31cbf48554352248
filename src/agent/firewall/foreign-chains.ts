// Chains of others at the hook where packets are forwarded: what they drop reaches no VM, and what they accept our rules still judge.

interface Chain {
  readonly family: string
  readonly table: string
  readonly name: string
  readonly hook?: unknown
  readonly policy?: unknown
}

interface Rule {
  readonly family: string
  readonly table: string
  readonly chain: string
  readonly expr: readonly Readonly<Record<string, unknown>>[]
}

interface Ruleset {
  readonly chains: readonly Chain[]
  readonly rules: readonly Rule[]
}

type Outcome = 'drop' | 'accept'

/** Chains that a base chain may jump through; more is a loop or no firewall of a host. */
const chainsMax = 512
/** Beginnings of the names of our devices: what is said of other devices alone is no matter of ours. */
const ownDevice = /^hl/

/** Who makes chains of such names. */
const makers: readonly (readonly [RegExp, string])[] = [
  [/^ufw6?-/, 'ufw'],
  [/^DOCKER/, 'Docker'],
  [/^(PVEFW|proxmox-firewall)/, 'Proxmox'],
  [/^KUBE-/, 'kube-proxy'],
  [/^(firewalld|filter_FORWARD)/, 'firewalld'],
  [/^LIBVIRT_|^libvirt_network/, 'libvirt']
]

/**
 * One line for each base chain of another table than ours at the forward hook that drops or accepts what may be a VM's.
 * `ruleset` is the answer of `nft -j list ruleset`; what is no such answer has none.
 */
export function foreignForwardFaults(ruleset: unknown, ownTable = 'hostlet'): string[] {
  const all = parse(ruleset)
  return all.chains
    .filter(({ hook, table }) => hook === 'forward' && table !== ownTable)
    .flatMap((base) => {
      const { outcomes, names } = reach(base, all)
      const maker = makers.find(([pattern]) => [base.table, ...names].some((name) => pattern.test(name)))?.[1]
      const who = `${base.family} ${base.table} ${base.name}${maker === undefined ? '' : ` (${maker})`}`
      if (base.policy === 'drop') return [`${who} drops by default`]
      if (outcomes.has('drop')) return [`${who} drops some`]
      return outcomes.has('accept') ? [`${who} accepts some`] : []
    })
}

/** What may happen to a packet that comes to the chain, along all jumps. */
function reach(base: Chain, { rules }: Ruleset): { outcomes: Set<Outcome>; names: Set<string> } {
  const outcomes = new Set<Outcome>()
  const names = new Set<string>([base.name])
  for (const name of names) {
    if (names.size > chainsMax) break
    for (const { family, table, chain, expr } of rules) {
      if (family !== base.family || table !== base.table || chain !== name) continue
      if (isOfOtherDevices(expr)) continue
      for (const statement of expr) {
        const outcome = outcomeOf(statement)
        if (outcome !== undefined) outcomes.add(outcome)
        const target = targetOf(statement)
        if (target !== undefined) names.add(target)
      }
    }
  }
  return { outcomes, names }
}

function outcomeOf(statement: Readonly<Record<string, unknown>>): Outcome | undefined {
  if ('drop' in statement || 'reject' in statement) return 'drop'
  if ('accept' in statement) return 'accept'
  const { xt } = statement
  const target = typeof xt === 'object' && xt !== null && 'name' in xt ? xt.name : undefined
  return target === 'REJECT' || target === 'DROP' ? 'drop' : undefined
}

function targetOf(statement: Readonly<Record<string, unknown>>): string | undefined {
  const jump = statement.jump ?? statement.goto
  if (typeof jump !== 'object' || jump === null || !('target' in jump)) return undefined
  return typeof jump.target === 'string' ? jump.target : undefined
}

/** Whether the rule is about one named device that is none of ours. */
function isOfOtherDevices(expr: Rule['expr']): boolean {
  return expr.some(({ match }) => {
    if (typeof match !== 'object' || match === null || !('left' in match) || !('right' in match)) return false
    const { left, right } = match
    const key = (left as { meta?: { key?: unknown } } | null)?.meta?.key
    const op = 'op' in match ? match.op : undefined
    const named = key === 'iifname' || key === 'oifname'
    return named && op === '==' && typeof right === 'string' && !ownDevice.test(right)
  })
}

function parse(ruleset: unknown): Ruleset {
  const list =
    typeof ruleset === 'object' && ruleset !== null && 'nftables' in ruleset ? ruleset.nftables : []
  const objects = Array.isArray(list) ? (list as { chain?: Chain; rule?: Rule }[]) : []
  return {
    chains: objects.flatMap(({ chain }) => (chain === undefined ? [] : [chain])),
    rules: objects.flatMap(({ rule }) => (Array.isArray(rule?.expr) ? [rule] : []))
  }
}
