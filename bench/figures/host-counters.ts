// Figure: one round of the host's own counters, read from /proc as the agent does and asked of systeminformation.

import { setTimeout as sleep } from 'node:timers/promises'
import { currentLoad, disksIO, fsStats, mem, networkStats } from 'systeminformation'
import { readHostCounters } from '../../src/agent/metrics/host-reader.ts'
import { type Contender, type Figure, interleave, ratioRow, timeMs } from '../harness.ts'

/** The library answers from memory when asked again too soon. */
const PAUSE_MS = 1_000

export const figure: Figure = {
  id: 'host-counters',
  title: "One sample of the host's own counters",
  run: async ({ quick }) => {
    const theirs = () => Promise.all([currentLoad(), mem(), fsStats(), disksIO(), networkStats('*')])
    const cpuMs = { ours: [] as number[], peer: [] as number[] }
    const warmUps = 2
    const wallMs = await interleave({
      ours: measured(async () => readHostCounters(), cpuMs.ours),
      peer: measured(theirs, cpuMs.peer),
      pairs: quick ? 3 : 15,
      warmUps
    })
    const row = (what: string, peer: readonly number[], ours: readonly number[]) =>
      ratioRow({ what, first: ['systeminformation', peer], second: ['/proc', ours], unit: 'ms' })
    return {
      rows: [
        row('faster than systeminformation', wallMs.peer, wallMs.ours),
        row('less CPU time of our own process', cpuMs.peer.slice(warmUps), cpuMs.ours.slice(warmUps))
      ],
      how: [
        `systeminformation: \`currentLoad\`, \`mem\`, \`fsStats\`, \`disksIO\` and \`networkStats\` at once, some of which start processes whose CPU time is not counted. /proc: all that the agent reads in a round (those and load, uptime and pressure). A second passes before each round, since the library answers from memory when asked again at once. Nothing is promised here: the figure is behind the decision in \`docs/adr/0003-host-metrics-from-proc.md\`.`
      ]
    }
  }
}

/** Reports wall time, and collects CPU time beside it; both in milliseconds. */
function measured(round: () => Promise<unknown>, cpuMs: number[]): Contender {
  return async () => {
    await sleep(PAUSE_MS)
    const cpuBefore = process.cpuUsage()
    const wallMs = await timeMs(round)
    const { user, system } = process.cpuUsage(cpuBefore)
    cpuMs.push((user + system) / 1000)
    return wallMs
  }
}
