// The sampler: one sample a round on an injected clock, whatever the hypervisor does.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { DomainCounters, HypervisorFacts, Wait } from '../../../src/agent/host/hypervisor.ts'
import { readHostCounters } from '../../../src/agent/metrics/host-reader.ts'
import { Sampler } from '../../../src/agent/metrics/sampler.ts'
import { HostletError } from '../../../src/errors.ts'
import { type Logger, silentLogger } from '../../../src/lib/log.ts'
import { MetricsSample } from '../../../src/protocol/metrics.ts'
import { compile } from '../../../src/protocol/validate.ts'
import { FakeClock } from '../../support/fake-clock.ts'

const uuid = '00000000-0000-4000-8000-000000000001'
const startedAt = 1_700_000_000_000
const facts: HypervisorFacts = {
  libvirtVersion: '9.0.0',
  hypervisorVersion: '7.2.0',
  accelerator: 'tcg',
  architecture: 'x86_64',
  poolCapacityBytes: 1_000,
  poolAvailableBytes: 400
}

class FakeHypervisor {
  cpuNanoseconds = 0
  asked = 0
  factsAsked = 0
  answer: (wait: Wait) => Promise<readonly DomainCounters[]> = async () => [
    { name: 'web-1', uuid, state: 'running', cpuNanoseconds: this.cpuNanoseconds }
  ]

  async counters(wait: Wait): Promise<readonly DomainCounters[]> {
    this.asked += 1
    this.cpuNanoseconds += 1e9
    return await this.answer(wait)
  }

  async facts(): Promise<HypervisorFacts> {
    this.factsAsked += 1
    return facts
  }
}

function setUp(options: { intervalMs?: number; log?: Logger } = {}) {
  const clock = new FakeClock(startedAt)
  const hypervisor = new FakeHypervisor()
  const samples: MetricsSample[] = []
  const sampler = new Sampler({
    hypervisor,
    clock,
    log: options.log ?? silentLogger,
    intervalMs: options.intervalMs ?? 10_000,
    onSample: (sample) => samples.push(sample),
    readHost: () => readHostCounters()
  })
  return { clock, hypervisor, samples, sampler }
}

describe('sampler', () => {
  it('samples a second after its start, then every interval, in valid samples', async () => {
    const { clock, samples, sampler } = setUp()
    sampler.start()
    await clock.advance(1_000)
    assert.equal(samples.length, 1)
    await clock.advance(20_000)
    assert.equal(samples.length, 3)
    const check = compile(MetricsSample, 'sample')
    for (const sample of samples) check(sample)
    assert.equal(samples[2]?.at, startedAt + 21_000)
    await sampler.stop()
  })

  it('gives VM rates from the second sample on', async () => {
    const { clock, samples, sampler } = setUp()
    sampler.start()
    await clock.advance(11_000)
    assert.equal(samples[0]?.vms[0]?.cpuCoresUsed, undefined)
    assert.equal(samples[1]?.vms[0]?.cpuCoresUsed, 0.1)
    await sampler.stop()
  })

  it('asks for the pool seldom and reports it always', async () => {
    const { clock, hypervisor, samples, sampler } = setUp({ intervalMs: 1_000 })
    sampler.start()
    await clock.advance(25_000)
    assert.equal(hypervisor.factsAsked, 1)
    assert.ok(samples.every(({ host }) => host.poolAvailableBytes === 400))
    await clock.advance(10_000)
    assert.equal(hypervisor.factsAsked, 2)
    await sampler.stop()
  })

  it('goes on with the host alone while the hypervisor fails, and says so once', async () => {
    const warnings: string[] = []
    const log = { ...silentLogger, warn: (_fields: object, message: string) => warnings.push(message) }
    const { clock, hypervisor, samples, sampler } = setUp({ log })
    const well = hypervisor.answer
    hypervisor.answer = async () => {
      throw new HostletError('E_LIBVIRT', 'libvirt failed')
    }
    sampler.start()
    await clock.advance(31_000)
    assert.deepEqual(
      samples.map(({ vms }) => vms.length),
      [0, 0, 0, 0]
    )
    assert.ok((samples[3]?.host.memoryTotalBytes ?? 0) > 0)
    assert.deepEqual(warnings, ['metrics without the hypervisor'])
    hypervisor.answer = well
    await clock.advance(10_000)
    assert.equal(samples[4]?.vms.length, 1)
    await sampler.stop()
  })

  it('leaves it to others to say that the hypervisor is away', async () => {
    const warnings: string[] = []
    const log = { ...silentLogger, warn: (_fields: object, message: string) => warnings.push(message) }
    const { clock, hypervisor, samples, sampler } = setUp({ log })
    hypervisor.answer = () => Promise.reject(new HostletError('E_UNAVAILABLE', 'libvirt is away'))
    sampler.start()
    await clock.advance(11_000)
    assert.equal(samples.length, 2)
    assert.deepEqual(warnings, [])
    await sampler.stop()
  })

  it('goes on with the host alone while the hypervisor hangs, and asks it nothing more until it answers', async () => {
    const { clock, hypervisor, samples, sampler } = setUp()
    const well = hypervisor.answer
    const hanging = Promise.withResolvers<readonly DomainCounters[]>()
    hypervisor.answer = () => hanging.promise
    sampler.start()
    await clock.advance(60_000)
    assert.ok(samples.length >= 5, `${samples.length} samples`)
    assert.equal(hypervisor.asked, 1)
    hanging.resolve([])
    await clock.advance(0)
    hypervisor.answer = well
    await clock.advance(10_000)
    assert.equal(hypervisor.asked, 2)
    assert.equal(samples.at(-1)?.vms.length, 1)
    await sampler.stop()
  })

  it('survives an implementation that throws at once', async () => {
    const { clock, hypervisor, samples, sampler } = setUp()
    hypervisor.answer = () => {
      throw new TypeError('broken')
    }
    sampler.start()
    await clock.advance(21_000)
    assert.equal(samples.length, 3)
    assert.equal(hypervisor.asked, 3)
    await sampler.stop()
  })

  it('takes a new interval from now on, within its limits', async () => {
    const { clock, samples, sampler } = setUp()
    sampler.start()
    await clock.advance(1_000)
    sampler.setInterval(2_000)
    await clock.advance(4_000)
    assert.equal(samples.length, 3)
    sampler.setInterval(0)
    assert.equal(sampler.intervalMs, 1_000)
    await sampler.stop()
  })

  it('stops in the middle of a round, leaves no timer and sends nothing more', async () => {
    const { clock, hypervisor, samples, sampler } = setUp()
    hypervisor.answer = () => new Promise(() => undefined)
    sampler.start()
    await clock.advance(1_500)
    await sampler.stop()
    await clock.advance(60_000)
    assert.equal(samples.length, 0)
    assert.equal(clock.pending, 0)
  })

  it('starts again after a stop', async () => {
    const { clock, samples, sampler } = setUp()
    sampler.start()
    await sampler.stop()
    sampler.start()
    await clock.advance(1_000)
    assert.equal(samples.length, 1)
    await sampler.stop()
  })
})
