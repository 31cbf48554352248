// Chains of others: which of them cut VMs off, as Docker, ufw and Proxmox write them.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { foreignForwardFaults } from '../../../src/agent/firewall/foreign-chains.ts'
import type { NftObject } from '../../../src/agent/firewall/nft-json.ts'

const own = { table: 'hostlet', bridges: ['hl-starter', 'hl-p-12345678'] }

function base(table: string, policy: string, changes = {}): NftObject {
  return {
    chain: {
      family: 'ip',
      table,
      name: 'FORWARD',
      type: 'filter',
      hook: 'forward',
      prio: 0,
      policy,
      ...changes
    }
  }
}

function rule(table: string, chain: string, ...expr: unknown[]): NftObject {
  return { rule: { family: 'ip', table, chain, expr } }
}

function faults(...objects: NftObject[]) {
  return foreignForwardFaults(objects, own).map(({ chain, effect, by }) => `${chain}: ${effect} by ${by}`)
}

const counter = { counter: { packets: 0, bytes: 0 } }
const named = (key: string, right: unknown) => ({ match: { op: '==', left: { meta: { key } }, right } })

describe('forward chains of others', () => {
  it('tells of a policy that drops, as Docker and ufw set it', () => {
    assert.deepEqual(faults(base('filter', 'drop')), ['ip filter FORWARD: drop by policy'])
  })

  it('has nothing to say of one that lets pass, of other hooks and families, and of our own', () => {
    const objects = [
      base('filter', 'accept'),
      base('filter', 'drop', { hook: 'input', name: 'INPUT' }),
      base('filter', 'drop', { family: 'ip6' }),
      base('hostlet', 'drop', { family: 'inet' })
    ]
    assert.deepEqual(faults(...objects), [])
  })

  it('follows jumps to a rule that rejects everything', () => {
    const objects = [
      base('filter', 'accept'),
      rule('filter', 'FORWARD', named('iifname', 'docker0'), { drop: null }),
      rule('filter', 'FORWARD', counter, { jump: { target: 'PVEFW-FORWARD' } }),
      rule('filter', 'PVEFW-FORWARD', counter, { reject: { type: 'icmp' } })
    ]
    assert.deepEqual(faults(...objects), ['ip filter FORWARD: reject by rule'])
  })

  it('tells of one that accepts everything, which opens nothing', () => {
    const objects = [base('filter', 'drop'), rule('filter', 'FORWARD', counter, { accept: null })]
    assert.deepEqual(faults(...objects), ['ip filter FORWARD: accept by rule'])
  })

  it('is content with one that has rules for our bridges, by name or by its beginning', () => {
    for (const right of ['hl-starter', 'hl-*', { set: ['docker0', 'hl-p-12345678'] }]) {
      const objects = [
        base('filter', 'drop'),
        rule('filter', 'FORWARD', named('iifname', right), { accept: null })
      ]
      assert.deepEqual(faults(...objects), [])
    }
  })

  it('ends at chains that go to each other', () => {
    const objects = [
      base('filter', 'accept'),
      rule('filter', 'FORWARD', { jump: { target: 'A' } }),
      rule('filter', 'A', { jump: { target: 'FORWARD' } })
    ]
    assert.deepEqual(faults(...objects), [])
  })

  it('says what to do', () => {
    const [fault] = foreignForwardFaults([base('filter', 'drop')], own)
    assert.match(
      fault?.message ?? '',
      /ip filter FORWARD drops forwarded packets.*Have it accept.*hl-starter/
    )
  })
})
