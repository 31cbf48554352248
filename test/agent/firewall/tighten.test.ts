// Profiles made tighter: what is less, what is more, and ranges that several entries cover together.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { covers, disjoint, rangeOf } from '../../../src/agent/firewall/ranges.ts'
import { policyWithin, tighten } from '../../../src/agent/firewall/tighten.ts'
import type { Egress, EgressTarget, VmNetwork } from '../../../src/protocol/vm.ts'

const none: Egress = { mode: 'none' }
const web: Egress = { mode: 'web' }
const all: Egress = { mode: 'all' }
const list = (...allow: EgressTarget[]): Egress => ({ mode: 'list', allow })
const tcp = (addresses: string[], ports?: number[]): EgressTarget => ({
  transport: 'tcp',
  addresses,
  ...(ports && { ports })
})

function fits(profile: Egress, egress: Egress): boolean {
  try {
    tighten({ egress: profile, dns: true }, { egress })
    return true
  } catch (error) {
    assert.equal((error as { code?: string }).code, 'E_BAD_REQUEST')
    return false
  }
}

const office = '203.0.113.0/24'

describe('a profile made tighter', () => {
  const cases: readonly [string, Egress, Egress, boolean][] = [
    ['none in none', none, none, true],
    ['none in web', web, none, true],
    ['web in none', none, web, false],
    ['web in web', web, web, true],
    ['web in all', all, web, true],
    ['all in web', web, all, false],
    ['all in all', all, all, true],
    [
      'all in a list of everything',
      list(tcp(['0.0.0.0/0']), { transport: 'udp', addresses: ['0.0.0.0/0'] }),
      all,
      false
    ],
    ['web in a list that has it', list(tcp(['0.0.0.0/0'], [443, 80, 22])), web, true],
    ['web in a list of some addresses', list(tcp([office], [80, 443])), web, false],
    ['a list in none', none, list(tcp([office], [443])), false],
    ['a list of web ports in web', web, list(tcp([office], [443])), true],
    ['a list of another port in web', web, list(tcp([office], [443, 22])), false],
    ['a list of all ports in web', web, list(tcp([office])), false],
    ['a list of UDP in web', web, list({ transport: 'udp', addresses: [office], ports: [443] }), false],
    ['a list in all', all, list(tcp([office], [22]), { transport: 'udp', addresses: [office] }), true],
    ['a list with mail in all', all, list(tcp([office], [25])), false],
    ['a list of all ports, which has no mail, in all', all, list(tcp([office])), true],
    ['mail in a list of all ports', list(tcp([office])), list(tcp([office], [25])), false],
    ['mail in a list that names it', list(tcp([office], [25])), list(tcp(['203.0.113.7'], [25])), true],
    ['an address of a range', list(tcp([office], [22])), list(tcp(['203.0.113.7'], [22])), true],
    ['a range of an address', list(tcp(['203.0.113.7'], [22])), list(tcp([office], [22])), false],
    [
      'a range of its halves',
      list(tcp(['203.0.113.0/25'], [22]), tcp(['203.0.113.128/25'])),
      list(tcp([office], [22])),
      true
    ],
    [
      'a range of its halves by different ports',
      list(tcp(['203.0.113.0/25'], [22]), tcp(['203.0.113.128/25'], [23])),
      list(tcp([office], [22])),
      false
    ],
    ['all ports of one', list(tcp([office], [22])), list(tcp([office])), false],
    ['one of all ports', list(tcp([office])), list(tcp([office], [22])), true]
  ]
  for (const [title, profile, wanted, expected] of cases) {
    it(`${title}: ${expected ? 'is less' : 'is more'}`, () => assert.equal(fits(profile, wanted), expected))
  }

  it('names everything that is looser', () => {
    const profile = { egress: none, dns: false, receiveBytesPerSecondMax: 10_000 }
    const wanted: VmNetwork = { egress: web, dns: true, receiveBytesPerSecondMax: 20_000 }
    assert.throws(() => tighten(profile, wanted), {
      code: 'E_BAD_REQUEST',
      message:
        /egress web is more than none; dns is off in the profile; receiveBytesPerSecondMax 20000 is more than 10000/
    })
  })

  it('refuses a list without targets, and targets without a list', () => {
    assert.equal(fits(all, { mode: 'list' }), false)
    assert.equal(fits(all, { mode: 'all', allow: [tcp([office])] }), false)
  })

  it('takes the profile’s for what is not said', () => {
    const profile = { egress: web, dns: true, transmitBytesPerSecondMax: 10_000 }
    assert.deepEqual(tighten(profile, { dns: false }), {
      egress: web,
      dns: false,
      receiveBytesPerSecondMax: undefined,
      transmitBytesPerSecondMax: 10_000
    })
  })

  it('holds the profile where it has become tighter than a VM that exists', () => {
    const policy = policyWithin(
      { egress: none, dns: false },
      { egress: all, dns: true, receiveBytesPerSecondMax: 9_000 }
    )
    assert.deepEqual([policy.egress, policy.dns, policy.receiveBytesPerSecondMax], [none, false, 9_000])
  })
})

const cidr = fc
  .tuple(fc.integer({ min: 0, max: 2 ** 32 - 1 }), fc.integer({ min: 0, max: 32 }))
  .map(
    ([value, bits]) =>
      `${[24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.')}/${bits}`
  )

describe('ranges of addresses', () => {
  it('are the same addresses when they are made disjoint, in an order and without overlap', () => {
    fc.assert(
      fc.property(fc.array(cidr, { minLength: 1, maxLength: 8 }), (cidrs) => {
        const ranges = cidrs.map(rangeOf)
        const apart = disjoint(cidrs).map(rangeOf)
        for (const range of ranges) assert.ok(covers(apart, range))
        for (const range of apart) assert.ok(covers(ranges, range))
        for (const [index, range] of apart.entries())
          assert.ok(index === 0 || (apart[index - 1]?.to ?? 0) < range.from)
      })
    )
  })

  it('do not count bits of the host part', () => {
    assert.deepEqual(disjoint(['203.0.113.77/24', '203.0.113.1']), ['203.0.113.0/24'])
    assert.deepEqual(disjoint(['0.0.0.0/0']), ['0.0.0.0/0'])
  })
})
