// A configuration is changed where its values stand: comments, order and everything else stay.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import { parse } from 'yaml'
import { changesOf, withValues } from '../../../src/cli/init/config-edit.ts'

const sample = readFileSync('config/agent.yaml', 'utf8')

describe('changes of a configuration', () => {
  it('touch one line of the sample for each value, and no comment', () => {
    const changes = [
      { at: ['pool', 'path'], value: '/srv/hostlet' },
      { at: ['profiles', 'premium', 'subnet'], value: '10.91.64.0/18' },
      { at: ['network', 'ports', 'first'], value: 21_000 }
    ]
    const text = withValues(sample, changes)
    const [before, after] = [sample.split('\n'), text.split('\n')]
    assert.equal(after.length, before.length)
    assert.deepEqual(
      after.filter((line, index) => line !== before[index]),
      ['  path: /srv/hostlet', '    subnet: 10.91.64.0/18', '  ports: {first: 21000, last: 29999}']
    )
    assert.deepEqual(
      changesOf(sample, changes).map(({ key, before: old, after: now }) => `${key} ${old} ${now}`),
      [
        'pool.path /var/lib/libvirt/images/hostlet /srv/hostlet',
        'profiles.premium.subnet 10.83.64.0/18 10.91.64.0/18',
        'network.ports.first 20000 21000'
      ]
    )
  })

  it('change nothing where the value is there already', () => {
    const changes = [{ at: ['pool', 'path'], value: '/var/lib/libvirt/images/hostlet' }]
    assert.equal(withValues(sample, changes), sample)
    assert.deepEqual(changesOf(sample, changes), [])
  })

  it('add what is missing, to a file with nothing but comments too', () => {
    const text = withValues('# Ours.\naccelerator: tcg # here\n', [
      { at: ['pool', 'path'], value: '/srv/a' },
      { at: ['names'], value: ['a', '192.0.2.1'] }
    ])
    assert.match(text, /^# Ours\.\naccelerator: tcg # here\n/)
    assert.deepEqual(parse(text), { accelerator: 'tcg', pool: { path: '/srv/a' }, names: ['a', '192.0.2.1'] })
    const only = withValues('# Nothing yet.\n', [{ at: ['pool', 'path'], value: '/srv/a' }])
    assert.match(only, /^# Nothing yet\.\n/)
    assert.deepEqual(parse(only), { pool: { path: '/srv/a' } })
    assert.deepEqual(parse(withValues('', [{ at: ['names'], value: ['a'] }])), { names: ['a'] })
  })

  it('quote what YAML would read as something else', () => {
    for (const value of ['yes: no', 'true', '0x10', "it's", '# no', '1e3'])
      assert.deepEqual(parse(withValues('a: old # kept\n', [{ at: ['a'], value }])), { a: value }, value)
  })

  it('replace what an alias or a block stands for as a whole', () => {
    const text = 'base: &p /srv/a\npool:\n  path: *p\nnote: |\n  long\n  text\n'
    const changed = withValues(text, [
      { at: ['pool', 'path'], value: '/srv/b' },
      { at: ['note'], value: 'short' }
    ])
    assert.deepEqual(parse(changed), { base: '/srv/a', pool: { path: '/srv/b' }, note: 'short' })
  })
})
