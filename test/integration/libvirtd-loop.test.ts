// libvirtd dies and comes back over and over while VMs are made, stopped, started and torn down: all ends well, once, and nothing is left.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { systemClock } from '../../src/lib/clock.ts'
import { cannotOwnLibvirtd, LibvirtdHost, type Subject } from './libvirtd-host.ts'

/** How long it lives each time: shorter than a provision, long enough for a call or many. */
const livesMs = [300, 2_000, 900, 4_000, 1_500, 600]
const roundsMin = 2

describe('libvirtd dies and comes back while commands flow', {
  skip: cannotOwnLibvirtd(),
  timeout: 840_000
}, () => {
  let host: LibvirtdHost
  before(async () => {
    host = await LibvirtdHost.open()
  })
  after(async () => {
    await host?.[Symbol.asyncDispose]()
  })

  it('and every VM goes its whole way, each command has one end, and nothing is left', async (test) => {
    const over = new AbortController()
    const upheaval = restarts(over.signal)
    try {
      await Promise.all(['first', 'second'].map((name) => rounds(name)))
    } finally {
      over.abort()
      test.diagnostic(`libvirtd was killed ${await upheaval} times`)
    }
    assert.deepEqual(await host.leftovers(), [])
    test.diagnostic(`${await host.assertOneEndEach()} commands were taken`)
  })

  async function rounds(name: string): Promise<void> {
    for (let round = 0; round < roundsMin; round++) await wholeWay(host.newVm(`${name}-${round}`))
  }

  async function wholeWay(subject: Subject): Promise<void> {
    await done('vm.provision', subject, () => host.provision(subject))
    for (const [verb, args] of [
      ['vm.stop', { force: true }],
      ['vm.start', {}],
      ['vm.reboot', { force: true }],
      ['vm.teardown', {}]
    ] as const)
      await done(verb, subject, () => host.do(verb, subject, args))
  }

  async function done(
    verb: string,
    { vm }: Subject,
    what: () => ReturnType<LibvirtdHost['do']>
  ): Promise<void> {
    const { outcome, error } = await what()
    assert.equal(outcome, 'done', `${verb} of ${vm}: ${JSON.stringify(error)}\n${host.lastWords()}`)
  }

  /** Until told otherwise; then libvirtd stays. Resolves with how often it was killed. */
  async function restarts(signal: AbortSignal): Promise<number> {
    let kills = 0
    for (; !signal.aborted; kills++) {
      const life = livesMs[kills % livesMs.length] ?? 0
      await systemClock.sleep(life, signal).catch(() => undefined)
      await host.daemon.kill()
      host.daemon.restart()
      await (await host.daemon.connect()).close()
    }
    return kills
  }
})
