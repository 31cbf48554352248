// What is to go wrong in a world, and what people ask of it meanwhile: drawn from the seed before anything happens, so that a
// failing plan can be made shorter.

import { hostNames } from './fixtures.ts'
import type { Weather } from './libvirtd.ts'
import { Random } from './random.ts'

/** How often each kind of event comes, where a world has it at all. */
const weights = {
  'ask for a VM': 10,
  'ask to start': 6,
  'ask to stop': 6,
  'ask to reboot': 5,
  'ask to resize': 0,
  'ask to tear down': 5,
  'ask for the state': 3,
  'ask to cancel': 3,
  'ask to clean up': 2,
  'drain a host': 1,
  'kill agent': 5,
  'kill agent at a write': 5,
  'kill agent at a call': 5,
  'ask and kill agent': 4,
  'ask and cut power': 4,
  'stop agent': 2,
  'cut power of host': 3,
  'cut power at a write': 4,
  'restart libvirtd': 4,
  'kill scheduler': 3,
  'kill scheduler at a call': 3,
  'reset connection': 5,
  'half-open connection': 4,
  partition: 4,
  'one-way partition': 4,
  'slow network': 2,
  'replay commands': 5,
  'forge a command': 3,
  'guest shuts down': 3,
  'step a clock': 2,
  'fill the disk': 2,
  'revoke and enroll anew': 1,
  'lose the state directory': 1
} as const

export type EventKind = keyof typeof weights
export const eventKinds = Object.keys(weights) as readonly EventKind[]

export interface PlannedEvent {
  readonly at: number
  readonly kind: EventKind
  /** What else is drawn for it. */
  readonly seed: number
}

export interface Plan {
  readonly seed: number
  readonly hosts: readonly string[]
  readonly weather: Weather
  /** How long the disks of its hosts take for a sync, at most. */
  readonly syncMsMax: number
  readonly events: readonly PlannedEvent[]
  /** Whether somebody repeats all commands when they have expired. */
  readonly isReplayed: boolean
}

/** Faults come within this time; then the world heals. */
export const troubleMs = 45_000

/** Each world has some kinds of faults and not others: rare ones meet more often so. */
export function planOf(seed: number): Plan {
  const random = new Random(seed)
  const hosts = hostNames.slice(0, Number(random.weighted({ 1: 7, 2: 2, 3: 1 })))
  const own = Object.fromEntries(
    eventKinds.map((kind) => [kind, kind.startsWith('ask') || random.chance(0.4) ? weights[kind] : 0])
  ) as Record<EventKind, number>
  // Most are small: more of them are seen in the same time.
  const length = random.chance(0.12) ? random.between(14, 26) : random.between(5, 12)
  const events = Array.from({ length }, (_, index) => ({
    // The first ones ask for something to be broken.
    at: index < 2 ? random.between(200, 5_000) : random.between(1_000, troubleMs),
    kind: index < 2 ? ('ask for a VM' as const) : random.weighted(own),
    seed: random.between(0, 2 ** 31)
  }))
  const syncMsMax = Number(random.weighted({ 0: 4, 30: 4, 3000: 2 }))
  events.sort((left, right) => left.at - right.at)
  return { seed, hosts, weather: weatherOf(random), syncMsMax, events, isReplayed: random.chance(0.2) }
}

function weatherOf(random: Random): Weather {
  const some = (bound: number) => (random.chance(0.4) ? random.next() * bound : 0)
  return { slow: some(0.1), fails: some(0.05), loses: some(0.05), hangs: some(0.02) }
}
