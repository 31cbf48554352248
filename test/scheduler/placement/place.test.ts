// Where a VM goes: never where a filter refuses it, always somewhere where one does not, and the same for the same facts.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { PlacementView } from '../../../src/protocol/placement.ts'
import { compile } from '../../../src/protocol/validate.ts'
import { type Candidate, groupPlaces, type Wanted } from '../../../src/scheduler/placement/candidate.ts'
import { filters } from '../../../src/scheduler/placement/filters.ts'
import { explain, explainNamed, place } from '../../../src/scheduler/placement/place.ts'
import { gibibyte } from '../support/samples.ts'
import { type CandidateChange, candidate, settings, wanted } from './support.ts'

const checkView = compile(PlacementView, 'placement')

function hostOf(wants: Wanted, candidates: readonly Candidate[], preferred?: ReadonlySet<string>): string {
  return place({ wanted: wants, candidates, settings, ...(preferred && { preferred }) }).host.id
}

/** The filter that refuses a host, with the reason. */
function refusal(
  change: CandidateChange,
  wants: Partial<Wanted> = {}
): [string | undefined, string | undefined] {
  const { refused } = explain({ wanted: wanted(wants), candidates: [candidate('a', change)], settings })
  return [refused[0]?.filter, refused[0]?.why]
}

describe('filters', () => {
  const critical = (id: string) => ({ id, severity: 'critical', message: 'it hurts', since: 1 }) as const
  const labels = { region: 'eu', rack: 'r1' }
  const cores = { coresFree: 1, coresPinnable: 4, profilesPinned: ['premium'] }
  const cases: readonly [string, CandidateChange, Partial<Wanted>, string, RegExp][] = [
    ['a host that is revoked', { host: { revokedAt: 5 } }, {}, 'revoked', /revoked/],
    [
      'one that is away',
      { report: { state: 'away', reason: 'it hung up' } },
      {},
      'connected',
      /away: it hung up/
    ],
    ['one that never connected', { host: { report: undefined } }, {}, 'connected', /never connected/],
    ['one that has told no facts', { report: { facts: undefined } }, {}, 'connected', /told nothing/],
    ['one that is drained', { report: { drainingSince: 1 } }, {}, 'draining', /drained/],
    [
      'one that has lost its libvirt',
      { report: { hypervisor: 'away' } },
      {},
      'hypervisor',
      /libvirt is away/
    ],
    ['one that cannot provision', { report: { verbs: [] } }, {}, 'verb', /does not know vm\.provision/],
    [
      'one that hurts',
      { report: { conditions: [critical('pool-silent')] } },
      {},
      'condition',
      /pool-silent: it hurts/
    ],
    ['one without a label', {}, { require: { region: 'eu' } }, 'labels', /no label region, not region=eu/],
    [
      'one with another label',
      { host: { labels } },
      { require: { rack: 'r2' } },
      'labels',
      /rack=r1, not rack=r2/
    ],
    [
      'one that emulates',
      { facts: { accelerator: 'tcg' } },
      { require: { 'hostlet/accelerator': 'kvm' } },
      'labels',
      /tcg/
    ],
    [
      'one without the profile',
      { facts: { profiles: ['starter'] } },
      { profile: 'premium' },
      'profile',
      /only starter/
    ],
    [
      'one with a VM of the group',
      { groupMembers: 1 },
      { group: 'web', apart: true },
      'apart',
      /group web is on host a/
    ],
    [
      'one without the label to spread by',
      {},
      { group: 'web', apart: true, spreadBy: 'rack' },
      'apart',
      /no label rack/
    ],
    ['one with too few processors', {}, { cpus: 9 }, 'cpus', /8 processors, the VM wants 9/],
    [
      'one with too few whole cores',
      { facts: cores },
      { cpus: 2, profile: 'premium' },
      'cores',
      /1 whole cores left/
    ],
    [
      'one whose memory is promised',
      { placed: { memoryBytes: 7.5 * gibibyte } },
      {},
      'memory',
      /0\.5 GiB of memory left/
    ],
    ['one whose memory is used', { availableBytes: gibibyte / 2 }, {}, 'memory', /0\.5 GiB/],
    ['one whose VMs have the rest', { facts: { vmMemoryBytesMax: gibibyte / 2 } }, {}, 'memory', /0\.5 GiB/],
    [
      'one whose pool is nearly full',
      { poolAvailableBytes: 4 * gibibyte },
      {},
      'disk',
      /4\.0 GiB left, of which 5\.0 GiB/
    ],
    [
      'one whose pool is promised',
      { placed: { diskBytes: 398 * gibibyte } },
      {},
      'disk',
      /takes 2\.0 GiB more/
    ]
  ]
  for (const [what, change, wants, filter, why] of cases)
    it(`refuse ${what}`, () => {
      const [id, text = ''] = refusal(change, wants)
      assert.equal(id, filter)
      assert.match(text, why)
    })

  it('let pass what they know too little of, and what is not theirs to judge', () => {
    const old = { coresFree: 0, profilesPinned: ['premium'] }
    assert.deepEqual(refusal({ facts: old }, { cpus: 2, profile: 'starter' }), [undefined, undefined])
    assert.deepEqual(refusal({}, { profile: 'unheard-of' }), [undefined, undefined])
    assert.deepEqual(refusal({ facts: { poolCapacityBytes: 0, poolAvailableBytes: 0 } }), [
      undefined,
      undefined
    ])
    assert.deepEqual(refusal({ groupMembers: 3 }, { group: 'web' }), [undefined, undefined])
    const warned = { id: 'pool-full', severity: 'warning', message: 'soon', since: 1 } as const
    assert.deepEqual(refusal({ report: { conditions: [warned] } }), [undefined, undefined])
  })

  it('each have a case here', () => {
    assert.deepEqual(new Set(cases.map(([, , , filter]) => filter)), new Set(filters.map(({ id }) => id)))
  })
})

describe('scores', () => {
  it('count what is promised, and what is used beyond that', () => {
    const promised = candidate('promised', { placed: { memoryBytes: 7 * gibibyte } })
    const used = candidate('used', { availableBytes: 2 * gibibyte })
    const half = candidate('half', { placed: { memoryBytes: 4 * gibibyte }, availableBytes: 6 * gibibyte })
    assert.equal(hostOf(wanted(), [promised, used, half]), 'half')
    assert.equal(hostOf(wanted(), [promised, used]), 'used')
  })

  it('speak for what a VM prefers, for few VMs of its group, for quiet hosts', () => {
    const near = candidate('near', {
      host: { labels: { region: 'eu' } },
      placed: { memoryBytes: 4 * gibibyte }
    })
    assert.equal(hostOf(wanted({ prefer: { region: 'eu' } }), [candidate('empty'), near]), 'near')
    const full = candidate('a', { groupMembers: 2 })
    assert.equal(hostOf(wanted({ group: 'web' }), [full, candidate('b', { groupMembers: 1 })]), 'b')
    assert.equal(
      hostOf(wanted(), [candidate('a', { report: { operationsRunning: 3 } }), candidate('b')]),
      'b'
    )
  })

  it('spread a group over racks, whichever host of a rack has its VMs', () => {
    const rack = (id: string, name: string, groupMembers = 0) =>
      candidate(id, { host: { labels: { rack: name } }, groupMembers })
    const hosts = [rack('a', 'r1'), rack('b', 'r1', 1), rack('c', 'r2'), candidate('d')]
    assert.equal(hostOf(wanted({ group: 'web', spreadBy: 'rack' }), hosts), 'c')
    const apart = wanted({ group: 'web', spreadBy: 'rack', apart: true })
    assert.deepEqual(
      explain({ wanted: apart, candidates: hosts, settings }).ranking.map(({ host }) => host),
      ['c']
    )
  })

  it('may be weighed otherwise', () => {
    const empty = candidate('empty', { report: { operationsRunning: 9 } })
    const busy = candidate('busy', { placed: { memoryBytes: 6 * gibibyte } })
    const quiet = { ...settings, weights: { ...settings.weights, memory: 0, quiet: 100 } }
    assert.equal(place({ wanted: wanted(), candidates: [empty, busy], settings: quiet }).host.id, 'busy')
  })

  it('come after hosts that are preferred for what they know, where those take the VM', () => {
    const knowing = candidate('knowing', { placed: { memoryBytes: 6 * gibibyte } })
    const only = new Set(['knowing'])
    assert.equal(hostOf(wanted(), [candidate('empty'), knowing], only), 'knowing')
    assert.equal(hostOf(wanted({ memoryBytes: 3 * gibibyte }), [candidate('empty'), knowing], only), 'empty')
  })
})

describe('a VM that no host takes', () => {
  it('is told how many each reason keeps, which comes nearest and what it has', () => {
    const hosts = [
      candidate('drained', { report: { drainingSince: 1 } }),
      candidate('small', { placed: { memoryBytes: 7 * gibibyte } }),
      candidate('larger', { placed: { memoryBytes: 6 * gibibyte } }),
      candidate('other', { host: { labels: { region: 'us' } } })
    ]
    const wants = wanted({ memoryBytes: 4 * gibibyte })
    assert.throws(() => place({ wanted: wants, candidates: hosts.slice(0, 3), settings }), {
      code: 'E_CAPACITY',
      message:
        /of 3 hosts, 1 is drained, 2 are with too little memory left\. larger comes nearest: it has 2\.0 GiB of memory left, the VM wants 4\.0 GiB\. See "hostlet host candidates"/,
      details: { host: 'larger', filter: 'memory', freeBytes: 2 * gibibyte, neededBytes: 4 * gibibyte }
    })
    assert.throws(
      () => place({ wanted: wanted({ require: { region: 'eu' } }), candidates: hosts, settings }),
      {
        code: 'E_CAPACITY',
        message: /3 are without the label region=eu.* other comes nearest: it has region=us, not region=eu/
      }
    )
    assert.throws(
      () => place({ wanted: wanted({ require: { region: 'eu', rack: 'r1' } }), candidates: hosts, settings }),
      { message: /3 are without all of the labels region=eu, rack=r1/ }
    )
  })

  it('is told that none can be asked, or that there is none', () => {
    const drained = candidate('drained', { report: { drainingSince: 1 } })
    assert.throws(() => place({ wanted: wanted(), candidates: [drained], settings }), {
      code: 'E_UNAVAILABLE',
      message: /of 1 host, 1 is drained/
    })
    assert.throws(() => place({ wanted: wanted(), candidates: [], settings }), {
      code: 'E_UNAVAILABLE',
      message: /no host has joined yet/
    })
  })
})

describe('an explanation', () => {
  it('of a host that was named says what speaks against it, and names it nevertheless', () => {
    const asked = {
      wanted: wanted(),
      settings,
      candidates: [candidate('a', { report: { drainingSince: 1 } }), candidate('b')]
    }
    const { host, named, hosts, refused } = explainNamed(asked, 'a')
    assert.deepEqual([host, named, hosts, refused[0]?.filter], ['a', true, 1, 'draining'])
  })

  it('is bounded, with counts that are whole', () => {
    const many = Array.from({ length: 300 }, (_, index) =>
      candidate(`h${index}`, index % 3 === 0 ? {} : { report: { drainingSince: 1 } })
    )
    const view = explain({ wanted: wanted(), candidates: many, settings })
    assert.deepEqual(checkView(view), view)
    assert.deepEqual([view.hosts, view.ranking.length, view.refused.length], [300, 20, 50])
    assert.deepEqual(view.refusedBy, [{ filter: 'draining', hosts: 200, text: '200 are drained' }])
  })
})

describe('placement, whatever the fleet', () => {
  const size = fc.integer({ min: 0, max: 9 })
  const label = fc.constantFrom(undefined, 'r1', 'r2')
  const change = fc.record({
    placed: fc.record({
      memoryBytes: size.map((n) => n * gibibyte),
      cpus: size,
      diskBytes: size.map((n) => n * 50 * gibibyte)
    }),
    groupMembers: fc.integer({ min: 0, max: 2 }),
    report: fc.record({
      drainingSince: fc.option(fc.constant(1), { nil: undefined, freq: 8 }),
      operationsRunning: size
    }),
    host: label.map((rack) => ({ labels: rack === undefined ? {} : { rack } }))
  })
  const fleet = fc
    .array(change, { maxLength: 12 })
    .map((changes) => changes.map((one, index) => candidate(`h${index}`, one as CandidateChange)))
  const wants = fc
    .record({
      memoryBytes: size.map((n) => n * gibibyte),
      cpus: fc.integer({ min: 1, max: 9 }),
      diskBytes: size.map((n) => n * 50 * gibibyte),
      group: fc.constantFrom(undefined, 'web'),
      apart: fc.boolean(),
      spreadBy: fc.constantFrom(undefined, 'host', 'rack'),
      require: label.map((rack) => (rack === undefined ? undefined : { rack }))
    })
    .map((drawn) => wanted(JSON.parse(JSON.stringify(drawn))))

  it('takes only a host that no filter refuses, and finds one where there is one', () => {
    fc.assert(
      fc.property(fleet, wants, (candidates, want) => {
        const terms = { wanted: want, settings, places: groupPlaces(candidates, want) }
        const able = candidates
          .filter((each) => filters.every((filter) => filter.refuse(each, terms) === undefined))
          .map(({ host }) => host.id)
        if (able.length === 0) assert.throws(() => hostOf(want, candidates), { name: 'HostletError' })
        else assert.ok(able.includes(hostOf(want, candidates)))
      })
    )
  })

  it('does not depend on the order in which hosts are told, and explains within its schema', () => {
    fc.assert(
      fc.property(fleet, wants, (candidates, want) => {
        const view = explain({ wanted: want, candidates, settings })
        checkView(view)
        const turned = explain({ wanted: want, candidates: candidates.toReversed(), settings })
        assert.deepEqual(
          [view.host, view.ranking, view.refusedBy],
          [turned.host, turned.ranking, turned.refusedBy]
        )
      })
    )
  })
})
