// The buffer of samples: bounded in rounds, in VM samples and in what one message takes.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import {
  batchSamplesMax,
  batchVmSamplesMax,
  bufferVmSamplesMax,
  MetricsBuffer
} from '../../../src/agent/metrics/buffer.ts'
import { messageBytesMax } from '../../../src/protocol/messages.ts'
import { HostSample, type MetricsSample, VmSample } from '../../../src/protocol/metrics.ts'

const vm: VmSample = { name: 'a', uuid: '00000000-0000-4000-8000-000000000001', state: 'running' }

function sample(at: number, vms = 0): MetricsSample {
  // The host's figures don't matter to a buffer.
  return { at, host: {} as MetricsSample['host'], vms: new Array(vms).fill(vm) }
}

function times(samples: readonly MetricsSample[]): number[] {
  return samples.map(({ at }) => at)
}

/** As JSON, with every figure as long as a number can be written. */
function longest(schema: typeof VmSample | typeof HostSample): string {
  const texts: Record<string, string> = { name: 'n'.repeat(63), uuid: 'u'.repeat(36), state: 'suspended' }
  const names = Object.keys(schema.properties)
  return JSON.stringify(Object.fromEntries(names.map((name) => [name, texts[name] ?? Number.MAX_VALUE])))
}

describe('metrics buffer', () => {
  it('gives samples back oldest first, each once', () => {
    const buffer = new MetricsBuffer({ samplesMax: 10 })
    for (const at of [1, 2, 3]) buffer.push(sample(at))
    assert.deepEqual(times(buffer.take(2)), [1, 2])
    assert.deepEqual(times(buffer.take()), [3])
    assert.deepEqual(buffer.take(), [])
  })

  it('drops the oldest when full and counts them', () => {
    const buffer = new MetricsBuffer({ samplesMax: 3 })
    for (const at of [1, 2, 3, 4, 5]) buffer.push(sample(at))
    assert.equal(buffer.dropped, 2)
    assert.deepEqual(times(buffer.take()), [3, 4, 5])
  })

  it('never gives more than one message takes', () => {
    const buffer = new MetricsBuffer({ samplesMax: 500 })
    for (let at = 0; at < 100; at += 1) buffer.push(sample(at))
    assert.equal(buffer.take(1_000).length, batchSamplesMax)
    const crowded = new MetricsBuffer({ samplesMax: 500 })
    for (let at = 0; at < 20; at += 1) crowded.push(sample(at, 1_000))
    assert.equal(crowded.take().length, batchVmSamplesMax / 1_000)
  })

  it('fits the longest VM samples and host samples that the schemas let through into one message', () => {
    const batch = Array.from({ length: batchSamplesMax }, () => ({
      at: 1,
      host: longest(HostSample),
      vms: []
    }))
    const bytes = batchVmSamplesMax * (longest(VmSample).length + 1) + JSON.stringify(batch).length
    assert.ok(bytes < messageBytesMax, `${bytes} bytes`)
  })

  it('bounds VM samples over all rounds, but keeps the newest round whatever its size', () => {
    const buffer = new MetricsBuffer({ samplesMax: 500 })
    for (let at = 0; at < 150; at += 1) buffer.push(sample(at, 1_000))
    assert.equal(buffer.size, bufferVmSamplesMax / 1_000)
    const one = new MetricsBuffer({ samplesMax: 1 })
    one.push(sample(7, bufferVmSamplesMax + 1))
    assert.deepEqual(times(one.take()), [7])
  })

  it('takes back what could not be sent, in front', () => {
    const buffer = new MetricsBuffer({ samplesMax: 3 })
    for (const at of [1, 2]) buffer.push(sample(at))
    const batch = buffer.take()
    for (const at of [3, 4]) buffer.push(sample(at))
    buffer.giveBack(batch)
    assert.equal(buffer.dropped, 1)
    assert.deepEqual(times(buffer.take()), [2, 3, 4])
  })
})
