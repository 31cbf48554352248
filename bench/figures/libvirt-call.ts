// Figure: round trip of a call to libvirtd that costs the server nothing.

import { connect, connectGetMaxVcpus } from 'node-libvirt'
import { type Figure, interleave, ratioRow } from '../harness.ts'
import { percentile } from '../statistics.ts'
import { openPeer } from '../support/peer.ts'

const uri = 'test:///default'
const daemonUri = 'test+unix:///default'
/** Calls in a row whose percentiles are one sample. */
const CALLS_PER_SAMPLE = 500

export const figure: Figure = {
  id: 'libvirt-call',
  title: 'A trivial call to libvirtd and back',
  run: async ({ quick }) => {
    await using peer = await openPeer(daemonUri)
    await using connection = await connect(uri)
    const ours = () => connection.call(connectGetMaxVcpus, { type: null })
    const theirs = () => peer.connectGetMaxVcpus()
    const tails = { ours: [] as number[], peer: [] as number[] }
    const sample = (call: () => Promise<unknown>, tail: number[]) => async () => {
      const timesUs = await timeCalls(call)
      tail.push(percentile(timesUs, 0.99))
      return percentile(timesUs, 0.5)
    }
    const race = { pairs: quick ? 5 : 100, warmUps: 6 }
    const middle = await interleave({
      ours: sample(ours, tails.ours),
      peer: sample(theirs, tails.peer),
      ...race
    })
    const row = (what: string, first: number[], second: number[]) =>
      ({ what, first: ['node-libvirt', first], second: ['N-API package', second], unit: 'µs' }) as const
    return {
      rows: [
        ratioRow({ ...row('round trip, p50', middle.ours, middle.peer), target: { atMost: 0.6 } }),
        ratioRow(row('round trip, p99', tails.ours.slice(race.warmUps), tails.peer.slice(race.warmUps)))
      ],
      how: [
        `One sample is ${CALLS_PER_SAMPLE} calls, one after another, of virConnectGetMaxVcpus on libvirtd's test driver, whose answer is a constant. The N-API package opens \`${daemonUri}\`, because libvirt's library runs that driver without libvirtd otherwise.`
      ]
    }
  }
}

async function timeCalls(call: () => Promise<unknown>): Promise<number[]> {
  const timesUs: number[] = []
  for (let count = 0; count < CALLS_PER_SAMPLE; count++) {
    const start = performance.now()
    await call()
    timesUs.push((performance.now() - start) * 1000)
  }
  return timesUs
}
