// Which accelerator is used, and what is said where KVM is asked for and does not work.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { AcceleratorChoice } from '../../../src/agent/host/accelerator-choice.ts'
import { HostletError } from '../../../src/errors.ts'
import { silentLogger } from '../../../src/lib/log.ts'

const wait = { signal: new AbortController().signal }

describe('the accelerator', () => {
  it('that is kvm by configuration is refused with the next step where KVM does not work', async () => {
    const bench = makeChoice('kvm', [false])
    await assert.rejects(bench.choice.usable(wait), (error) => {
      assert.ok(error instanceof HostletError)
      assert.equal(error.code, 'E_UNSUPPORTED')
      assert.match(error.message, /halted by a test.*60-hostlet-kvm\.rules.*accelerator: auto/)
      return true
    })
    assert.equal(await bench.choice.intended(wait), 'kvm', 'the facts of the host still can be told')
  })

  it('that is kvm by configuration is tried again once somebody may have mended it', async () => {
    const bench = makeChoice('kvm', [false, true])
    await assert.rejects(bench.choice.usable(wait))
    assert.equal(await bench.choice.usable(wait), 'kvm')
    assert.equal(await bench.choice.usable(wait), 'kvm')
    assert.equal(bench.trials(), 2)
  })

  it('that is kvm by configuration does not believe a failed trial from before', async () => {
    const before = makeChoice('auto', [false])
    assert.equal(await before.choice.usable(wait), 'tcg')
    const bench = makeChoice('kvm', [true], before.kept)
    assert.equal(await bench.choice.usable(wait), 'kvm')
  })

  it('that is chosen is kept, until libvirt or QEMU is another', async () => {
    const before = makeChoice('auto', [false])
    assert.equal(await before.choice.intended(wait), 'tcg')
    const same = makeChoice('auto', [true], before.kept)
    assert.equal(await same.choice.usable(wait), 'tcg')
    assert.equal(same.trials(), 0)
    const other = makeChoice('auto', [true], before.kept, '11.3.0 10.0.0')
    assert.equal(await other.choice.usable(wait), 'kvm')
  })

  it('that is tcg by configuration needs no trial', async () => {
    const bench = makeChoice('tcg', [])
    assert.equal(await bench.choice.usable(wait), 'tcg')
    assert.equal(bench.trials(), 0)
  })
})

function makeChoice(
  configured: 'auto' | 'kvm' | 'tcg',
  outcomes: readonly boolean[],
  kept = new Map<string, unknown>(),
  versions = '9.0.0 7.2.0'
) {
  let trials = 0
  const choice = new AcceleratorChoice({
    configured,
    bootRecord: {
      read: async (name) => kept.get(name),
      write: async (name, value) => void kept.set(name, value)
    },
    log: silentLogger,
    versions: () => versions,
    tryKvm: async () => {
      const works = outcomes[trials++]
      assert.ok(works !== undefined, 'one trial too many')
      return { works, detail: works ? 'powered itself off' : 'halted by a test' }
    }
  })
  return { choice, kept, trials: () => trials }
}
