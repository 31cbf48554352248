// Chains of others that forward: which are told, and which are no matter of ours.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { describe, it } from 'node:test'
import { foreignForwardFaults } from '../../../src/agent/firewall/foreign-chains.ts'

const skip =
  process.getuid?.() === 0 && spawnSync('unshare', ['-n', 'nft', 'list', 'ruleset']).status === 0
    ? false
    : 'takes root, nft and network namespaces'

describe('chains of others', { skip }, () => {
  for (const [title, rules, faults] of [
    ['nothing at all', '', []],
    [
      'our own table, whatever it says',
      'table inet hostlet { chain forward { type filter hook forward priority 0; policy drop; } }',
      []
    ],
    [
      'Docker, which drops by default',
      'table ip filter { chain DOCKER-USER { }; chain FORWARD { type filter hook forward priority 0; policy drop; jump DOCKER-USER; } }',
      ['ip filter FORWARD (Docker) drops by default']
    ],
    [
      'ufw, which drops in a chain below',
      `table ip filter { chain ufw-reject { reject; }
        chain ufw-before-forward { goto ufw-reject; }
        chain FORWARD { type filter hook forward priority 0; policy accept; jump ufw-before-forward; } }`,
      ['ip filter FORWARD (ufw) drops some']
    ],
    [
      'what accepts',
      'table bridge other { chain f { type filter hook forward priority 0; policy accept; ether type ip accept; } }',
      ['bridge other f accepts some']
    ],
    [
      'rules about the device of somebody else, and chains at other hooks',
      `table inet other { chain f { type filter hook forward priority 0; policy accept; iifname "virbr0" drop; oifname "virbr0" reject; }
        chain i { type filter hook input priority 0; policy drop; } }`,
      []
    ],
    [
      'a rule about a device of ours, and a chain that jumps to itself through another',
      `table inet other { chain a { jump b; }; chain b { iifname "hl-starter" drop; }
        chain f { type filter hook forward priority 0; policy accept; jump a; } }`,
      ['inet other f drops some']
    ]
  ] as const)
    it(title, () => assert.deepEqual(foreignForwardFaults(loaded(rules)), faults))

  it('what is no ruleset has none', () => {
    for (const nothing of [undefined, null, {}, { nftables: 'no' }, []])
      assert.deepEqual(foreignForwardFaults(nothing), [])
  })
})

/** The rules as the kernel has them, in a network namespace of their own. */
function loaded(rules: string): unknown {
  const script = `nft -f - && nft -j list ruleset`
  const { stdout, stderr, status } = spawnSync('unshare', ['-n', 'sh', '-c', script], {
    input: rules.replaceAll(/[{;}]/g, (mark) => `${mark === ';' ? '' : mark}\n`),
    encoding: 'utf8'
  })
  assert.equal(status, 0, stderr)
  return JSON.parse(stdout)
}
