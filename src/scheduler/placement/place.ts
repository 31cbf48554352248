// Where a VM goes: hosts that no filter refuses, ranked by their scores. Pure, and the same for the same facts.

import { type PlacementView, rankingMax, refusedMax } from '../../protocol/placement.ts'
import type { HostRecord } from '../store/store.ts'
import { type Candidate, groupPlaces, type PlacementSettings, type Wanted } from './candidate.ts'
import { filters, type Terms } from './filters.ts'
import { noPlace } from './no-place.ts'
import { countsOf, type Refused } from './refused.ts'
import { bestOf, scores } from './scores.ts'

export interface Placement {
  readonly host: HostRecord
  readonly explanation: PlacementView
}

export interface Asked {
  readonly wanted: Wanted
  readonly candidates: readonly Candidate[]
  readonly settings: PlacementSettings
  /** Hosts that come before all others where they take the VM. */
  readonly preferred?: ReadonlySet<string>
}

/** Throws E_UNAVAILABLE when no host can be asked, E_CAPACITY when none of those that can has what is wanted. */
export function place(asked: Asked): Placement {
  const { explanation, best, refused } = judge(asked)
  if (best === undefined) throw noPlace(asked, refused)
  return { host: best, explanation: { ...explanation, host: best.id } }
}

/** What `place` would say, without a choice: also where there is none. */
export function explain(asked: Asked): PlacementView {
  const { explanation, best } = judge(asked)
  return best === undefined ? explanation : { ...explanation, host: best.id }
}

/** Of a host that the asker named. It is asked whatever the filters say: they may know less than it does. */
export function explainNamed(asked: Asked, host: string): PlacementView {
  const only = asked.candidates.filter((candidate) => candidate.host.id === host)
  return { ...judge(asked, only).explanation, host, named: true }
}

function judge(asked: Asked, judged: readonly Candidate[] = asked.candidates) {
  const { wanted, candidates, settings, preferred = new Set() } = asked
  const terms: Terms = { wanted, settings, places: groupPlaces(candidates, wanted) }
  const verdicts = judged.map((candidate) => refusalOf(candidate, terms) ?? candidate)
  const able = verdicts.filter((verdict): verdict is Candidate => 'host' in verdict)
  const refused = verdicts.filter((verdict): verdict is Refused => 'filter' in verdict)
  const ranked = rank(able, terms, preferred)
  const { verb, ...rest } = wanted
  const explanation: PlacementView = {
    verb,
    wanted: rest,
    named: false,
    hosts: judged.length,
    ranking: ranked
      .slice(0, rankingMax)
      .map(({ candidate, score, parts }) => ({ host: candidate.host.id, score, parts })),
    refusedBy: countsOf(refused, wanted),
    refused: refused
      .slice(0, refusedMax)
      .map(({ candidate, filter, why }) => ({ host: candidate.host.id, filter: filter.id, why }))
  }
  return { explanation, refused, best: ranked[0]?.candidate.host }
}

function refusalOf(candidate: Candidate, terms: Terms): Refused | undefined {
  for (const filter of filters) {
    const why = filter.refuse(candidate, terms)
    if (why !== undefined) return { candidate, filter, why }
  }
  return undefined
}

/** The best first; what each score gives is written down for those alone that are told. */
function rank(able: readonly Candidate[], terms: Terms, preferred: ReadonlySet<string>) {
  const best = bestOf(able, terms.settings)
  const weighed = scores.map(({ id, weight, of }) => ({
    id,
    of,
    weight: terms.settings.weights[id] ?? weight
  }))
  return able
    .map((candidate) => {
      let sum = 0
      for (const { of, weight } of weighed) if (weight > 0) sum += weight * of(candidate, terms, best)
      return { candidate, score: rounded(sum), isPreferred: preferred.has(candidate.host.id) }
    })
    .sort(
      (left, right) =>
        Number(right.isPreferred) - Number(left.isPreferred) ||
        right.score - left.score ||
        (left.candidate.host.id < right.candidate.host.id ? -1 : 1)
    )
    .map(({ candidate, score }, index) => ({
      candidate,
      score,
      parts:
        index < rankingMax
          ? Object.fromEntries(weighed.map(({ id, of }) => [id, rounded(of(candidate, terms, best))]))
          : {}
    }))
}

function rounded(value: number): number {
  return Math.round(value * 10_000) / 10_000
}
