// What may be chosen, and what is no such value.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { loadAgentConfig } from '../../../src/agent/config.ts'
import { configChanges, subnetCandidates } from '../../../src/cli/init/choices.ts'

const config = loadAgentConfig('config/agent.yaml', {})

describe('choices of a set-up', () => {
  it('become changes of the configuration, those of a network one for each profile', () => {
    assert.deepEqual(configChanges({ subnet: '10.91.0.0/16', reserveMemory: '2GiB' }, config), [
      { at: ['profiles', 'starter', 'subnet'], value: '10.91.0.0/20' },
      { at: ['profiles', 'premium', 'subnet'], value: '10.91.64.0/18' },
      { at: ['profiles', 'enterprise', 'subnet'], value: '10.91.128.0/18' },
      { at: ['reserve', 'memoryBytes'], value: 2 * 1024 ** 3 }
    ])
    assert.deepEqual(configChanges({ pool: 'fast', poolPath: '/srv/vms', bridge: 'hl-vms' }, config), [
      { at: ['pool', 'name'], value: 'fast' },
      { at: ['pool', 'path'], value: '/srv/vms' },
      { at: ['profiles', 'starter', 'bridge'], value: 'hl-vms' }
    ])
    assert.deepEqual(configChanges({}, config), [])
  })

  it('are refused with what was expected', () => {
    const wrong: readonly (readonly [object, RegExp])[] = [
      [{ subnet: '10.91.0.0/24' }, /not a network of \/16/],
      [{ subnet: '10.91.3.0/16' }, /not a network of \/16/],
      [{ ports: '2000' }, /not a range/],
      [{ ports: '3000-2000' }, /not a range/],
      [{ poolPath: 'srv' }, /absolute path/],
      [{ poolPath: '/srv/' }, /absolute path/],
      [{ poolPath: '/srv/a b' }, /absolute path/],
      [{ reserveMemory: 'much' }, /not a size/]
    ]
    for (const [choice, message] of wrong)
      assert.throws(() => configChanges(choice, config), { code: 'E_BAD_REQUEST', message })
  })

  it('move the networks of the sample only', () => {
    const { starter } = config.profiles
    assert.ok(starter)
    assert.throws(
      () => configChanges({ subnet: '10.91.0.0/16' }, { ...config, profiles: { mine: starter } }),
      {
        message: /profiles of the sample only/
      }
    )
  })

  it('have candidates that differ and are private', () => {
    assert.equal(new Set(subnetCandidates).size, subnetCandidates.length)
    for (const candidate of subnetCandidates) assert.match(candidate, /^10\.\d+\.0\.0\/16$/)
  })
})
